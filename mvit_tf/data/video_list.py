"""Lists of labelled videos: class folders or a ``path label`` file."""

import dataclasses
import os
import pathlib
import unicodedata

import numpy as np

from mvit_tf.errors import UserError
from mvit_tf.files import printable, write_text_atomically

VIDEO_EXTENSIONS = (
    ".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".3gp", ".flv", ".wmv",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class VideoList:
    """Videos with their labels.

    Args:
        paths: tuple of str, the files.
        labels: tuple of int, one for each file, each an index into `class_names`.
        class_names: tuple of str, in index order.

    Raises:
        UserError: lengths that differ, or a label without a name.
    """

    paths: tuple[str, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]

    def __post_init__(self):
        if len(self.paths) != len(self.labels):
            raise UserError(f"{len(self.paths)} paths but {len(self.labels)} labels")
        for path, label in zip(self.paths, self.labels, strict=True):
            if not 0 <= label < len(self.class_names):
                raise UserError(
                    f"{path}: label {label} is outside 0 to {len(self.class_names) - 1}, "
                    f"the indices of the {len(self.class_names)} classes"
                )

    def __len__(self):
        return len(self.paths)

    @property
    def num_classes(self):
        """Number of classes, whether or not each has a video here."""
        return len(self.class_names)

    def subset(self, indices):
        """The videos at `indices`, in that order, with the same class names."""
        return VideoList(
            paths=tuple(self.paths[i] for i in indices),
            labels=tuple(self.labels[i] for i in indices),
            class_names=self.class_names,
        )


def load_video_list(source, *, root=None, separator=None, class_names=None):
    """Reads either layout: `read_class_folders` for a folder, else `read_path_label_list`.

    Raises:
        UserError: `source` does not exist, or what the two readers raise.
    """
    source = os.fspath(source)
    if os.path.isdir(source):
        return read_class_folders(source, class_names=class_names)
    if os.path.isfile(source):
        return read_path_label_list(source, root=root, separator=separator, class_names=class_names)
    raise UserError(
        f"{source}: no such folder or file; give a folder with one subfolder of videos for "
        "each class, or a text file of 'path label' lines"
    )


def read_class_folders(root, *, class_names=None):
    """Reads ``root/<class>/<video>``: labels are the positions of the sorted folder names.

    Hidden files and files without one of `VIDEO_EXTENSIONS` (in any case) are passed over.

    Args:
        root: path of the folder of class folders.
        class_names: optional sequence of str. Index order to use instead of the sorted folder
            names, e.g. that of a trained model; a class may then lack a folder.

    Returns:
        VideoList, classes in index order and videos sorted by name within each. The names are
        those of the folders in one spelling: composed accents (NFC), and bytes that are not
        UTF-8 as ``\\udcXX``.

    Raises:
        UserError: no such folder, no class folders in it, a class folder without videos, two
            folders of one name, or a folder that `class_names` does not name.
    """
    root = os.fspath(root)
    if not os.path.isdir(root):
        raise UserError(f"{root}: no such folder")
    folders = {}
    for entry in os.scandir(root):
        if not entry.is_dir() or _hidden(entry.name):
            continue
        other = folders.setdefault(_one_spelling(entry.name), entry.name)
        if other != entry.name:
            raise UserError(
                f"{root}: two folders of one class, {ascii(other)} and {ascii(entry.name)}, which "
                "differ only in how the name is encoded; put their videos into one"
            )
    if not folders:
        raise UserError(
            f"{root}: no class folders in it; put the videos of each class into a subfolder "
            "named after the class"
        )
    names = tuple(class_names) if class_names is not None else tuple(sorted(folders))
    known = [_one_spelling(name) for name in names]
    unknown = sorted(folders.keys() - set(known))
    if unknown:
        raise UserError(
            f"{os.path.join(root, folders[unknown[0]])}: not one of the {len(names)} known classes "
            f"({_shortened(names)}); rename or remove the folder"
        )
    paths, labels = [], []
    for label, name in enumerate(known):
        if name not in folders:
            continue
        folder = os.path.join(root, folders[name])
        videos = sorted(
            entry.name
            for entry in os.scandir(folder)
            if entry.is_file() and not _hidden(entry.name) and _is_video(entry.name)
        )
        if not videos:
            raise UserError(
                f"{folder}: no videos in this class folder (looked for "
                f"{', '.join(VIDEO_EXTENSIONS)}); add some or remove the folder"
            )
        paths += [os.path.join(folder, video) for video in videos]
        labels += [label] * len(videos)
    return VideoList(tuple(paths), tuple(labels), names)


def read_path_label_list(file, root=None, separator=None, class_names=None):
    """Reads a text file with one ``path label`` a line.

    The label is the last field, so a path may hold the separator. Empty lines are passed over.
    Labels are class names where `class_names` is given and holds them, or where no label of
    the file is an integer (then the sorted names are the classes); else class indices.

    Args:
        file: path of the list, UTF-8.
        root: optional folder that relative paths start from; by default the list's own folder.
        separator: optional str between path and label; by default any white space.
        class_names: optional sequence of str, the classes in index order.

    Returns:
        VideoList in the order of the lines. Without `class_names`, integer labels get the names
        "0", "1", ... up to the largest label.

    Raises:
        UserError: no such file, not text, an empty list, or a line that lacks a label, repeats
            a path or holds an unknown label; the message names file and line.
    """
    file = os.fspath(file)
    rows = _read_rows(file, separator)
    root = os.path.dirname(file) if root is None else os.fspath(root)
    to_index, names = _label_map(file, rows, class_names)
    first_line = {}
    paths, labels = [], []
    for line, path, label in rows:
        path = os.path.join(root, path)
        if path in first_line:
            raise UserError(
                f"{file}, line {line}: {path} is already on line {first_line[path]}; "
                "keep one of the two"
            )
        first_line[path] = line
        paths.append(path)
        labels.append(to_index(line, label))
    return VideoList(tuple(paths), tuple(labels), names)


def split_validation(video_list, fraction, seed):
    """Sets a share of every class aside for validation.

    Each class gives ``round(fraction * videos)``, at least one where it has two or more and
    never its last one, so a class of a single video stays in training.

    Args:
        video_list: VideoList.
        fraction: float between 0 and 1, exclusive.
        seed: int >= 0. The same seed gives the same split.

    Returns:
        (train, validation), two VideoLists in the order of `video_list`.

    Raises:
        UserError: `fraction` out of range, or no class with two videos.
    """
    if not 0 < fraction < 1:
        raise UserError(f"the validation share must lie between 0 and 1, not {fraction}")
    labels = np.asarray(video_list.labels)
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(label),)))
        chosen[rng.permutation(members)[:count]] = True
    if not chosen.any():
        raise UserError(
            "no class has two videos, so none can be set aside for validation; "
            "give a validation list of its own"
        )
    return video_list.subset(np.flatnonzero(~chosen)), video_list.subset(np.flatnonzero(chosen))


def save_class_names(path, names):
    """Writes the names in index order, one a line.

    Raises:
        UserError: a name that is empty, holds a line break, or comes twice.
    """
    _check_names(path, names)
    write_text_atomically(pathlib.Path(path), "".join(f"{name}\n" for name in names))


def load_class_names(path):
    """Reads what `save_class_names` wrote; returns a tuple of str, accents composed (NFC).

    Raises:
        UserError: no such file, an empty one, an empty line, or a name that comes twice.
    """
    path = os.fspath(path)
    names = tuple(map(_one_spelling, _read_lines(path)))
    if not names:
        raise UserError(f"{path}: no class names in it; write one a line, in index order")
    _check_names(path, names)
    return names


def _one_spelling(name):
    """The form in which names of classes are compared, whatever system wrote them.

    macOS decomposes accents in file names, others do not; a name that is not UTF-8, which
    Python reads as lone surrogates, could not be written into any file.
    """
    return unicodedata.normalize("NFC", printable(name))


def _hidden(name):
    return name.startswith(".")


def _is_video(name):
    return os.path.splitext(name)[1].lower() in VIDEO_EXTENSIONS


def _shortened(names, most=5):
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _check_names(path, names):
    first_line = {}
    for line, name in enumerate(names, start=1):
        if not name.strip() or len(name.splitlines()) != 1:
            raise UserError(f"{path}, line {line}: {name!r} is not a class name")
        if first_line.setdefault(_one_spelling(name), line) != line:
            raise UserError(f"{path}, line {line}: class name {name!r} comes twice")


def _read_lines(file):
    try:
        with open(file, encoding="utf-8-sig") as lines:
            return [line.rstrip("\n") for line in lines]
    except FileNotFoundError:
        raise UserError(f"{file}: no such file") from None
    except UnicodeDecodeError:
        raise UserError(f"{file}: not a text file in UTF-8") from None


def _read_rows(file, separator):
    """(line number, path, label text) of every line that is not empty."""
    rows = []
    for number, line in enumerate(_read_lines(file), start=1):
        if not line.strip():
            continue
        fields = [field.strip() for field in line.strip().rsplit(separator, 1)]
        if len(fields) != 2 or not all(fields):
            between = "white space" if separator is None else repr(separator)
            raise UserError(
                f"{file}, line {number}: expected 'path label' with {between} between, "
                f"got {line.strip()!r}"
            )
        rows.append((number, fields[0], _one_spelling(fields[1])))
    if not rows:
        raise UserError(f"{file}: no videos in this list; write one 'path label' a line")
    return rows


def _label_map(file, rows, class_names):
    """(function of line number and label text -> index, class names)."""
    as_integers = [_integer(label) for _, _, label in rows]
    if class_names is not None:
        names = tuple(class_names)
    elif all(value is None for value in as_integers):
        names = tuple(sorted({label for _, _, label in rows}))
    else:
        names = tuple(str(i) for i in range(max(v for v in as_integers if v is not None) + 1))
    by_name = {_one_spelling(name): index for index, name in enumerate(names)}

    def to_index(line, label):
        if label in by_name:
            return by_name[label]
        value = _integer(label)
        if value is None:
            hint = (
                f"not one of the classes ({_shortened(names)})"
                if class_names is not None
                else "not an integer, as other labels of the list are"
            )
            raise UserError(f"{file}, line {line}: label {label!r} is {hint}")
        if not 0 <= value < len(names):
            raise UserError(f"{file}, line {line}: label {value} is outside 0 to {len(names) - 1}")
        return value

    return to_index, names


def _integer(text):
    """The integer written in `text`, or None."""
    try:
        return int(text)
    except ValueError:
        return None
