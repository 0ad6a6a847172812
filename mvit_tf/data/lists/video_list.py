"""Labelled videos, from class folders or from a list."""

import dataclasses
import os

import numpy as np

from mvit_tf.data.lists.class_folders import read_class_folders
from mvit_tf.data.lists.class_names import label_index, one_spelling, shortened
from mvit_tf.data.lists.entries import refuse
from mvit_tf.data.lists.groups import groups_of
from mvit_tf.data.lists.list_formats import SPLIT_COLUMNS, first_column, read_list
from mvit_tf.data.remote import is_file, is_folder, require_readable
from mvit_tf.errors import UserError
from mvit_tf.urls import absolute, scheme

# A label from here on is a date or an identifier, not an index.
_MOST_CLASSES = 100_000


@dataclasses.dataclass(frozen=True)
class VideoList:
    """Videos, or segments of them, with their labels.

    Args:
        paths: tuple of str, the files; several segments of one file repeat its path.
        labels: tuple of int, one for each path, each an index into `class_names`.
        class_names: tuple of str, in index order.
        segments: optional tuple, for each path (start, end) in seconds of the part of the video
            that is the example, or None for all of it.
        groups: optional tuple of str, for each path what it shares its source with.
        passed_over: tuple of (path, reason), what lies beside the videos and is none of them;
            lists that differ in nothing else are equal.

    Raises:
        UserError: lengths that differ, or a label without a name.
    """

    paths: tuple[str, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]
    segments: tuple[tuple[float, float] | None, ...] | None = None
    groups: tuple[str, ...] | None = None
    passed_over: tuple[tuple[str, str], ...] = dataclasses.field(default=(), compare=False)

    def __post_init__(self):
        for name in ("labels", "segments", "groups"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.paths):
                raise UserError(f"{len(self.paths)} paths but {len(values)} {name}")
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

    def videos_per_class(self):
        """int array (num_classes,): how many videos each class has here."""
        return np.bincount(np.asarray(self.labels, np.int64), minlength=self.num_classes)

    def segment(self, index):
        """(start, end) in seconds of the part of video `index` to look at, or None for all."""
        return None if self.segments is None else self.segments[index]

    def name(self, index):
        """What video `index` is called in accounts: its path, and the segment if it is one."""
        segment = self.segment(index)
        return self.paths[index] + ("" if segment is None else " {:g}-{:g} s".format(*segment))

    def subset(self, indices):
        """The videos at `indices`, in that order, with the same class names; no `passed_over`."""
        of = {
            name: None if values is None else tuple(values[i] for i in indices)
            for name in ("paths", "labels", "segments", "groups")
            for values in [getattr(self, name)]
        }
        return VideoList(class_names=self.class_names, **of)


def load_video_list(
    source,
    *,
    root=None,
    separator=None,
    class_names=None,
    split=None,
    group_by=None,
    nested=False,
    problems=None,
):
    """Reads class folders (`class_folders`) or a list in any form of `list_formats`.

    The labels of a list are class names where `class_names` is given and holds them, or where no
    label is an integer (then the sorted names are the classes); else class indices.

    Args:
        source: path of a folder of class folders, or of a list.
        root: optional folder that relative paths of a list start from; by default its own.
        separator: optional str between path and label of a list.
        class_names: optional sequence of str, the classes in index order.
        split: optional str. Only the lines of a list whose column of `SPLIT_COLUMNS` says so.
        group_by: optional str: see `groups_of`.
        nested: bool. Take the videos of folders within class folders too.
        problems: optional list of str. Mistakes of single lines and class folders are added to
            it and what they concern is left out, where otherwise the first one is raised.

    Returns:
        VideoList in the order of the lines, or by class and name. Without `class_names`, integer
        labels get the names "0", "1", ... up to the largest label.

    Raises:
        UserError: nothing there, or a mistake; the message names file and line.
    """
    source = os.fspath(source)
    fault = refuse if problems is None else problems.append
    require_readable(source)
    try:
        in_folders = is_folder(source)
        in_list = not in_folders and is_file(source)
    except OSError as error:
        raise UserError(f"{source} cannot be read: {error.strerror}") from None
    if in_folders:
        listing = read_class_folders(source, class_names=class_names, nested=nested, fault=fault)
    elif in_list:
        listing = read_list(source, root=root, separator=separator, fault=fault)
    else:
        raise UserError(
            f"{source}: no such folder or file; give a folder with one subfolder of videos for "
            "each class, or a list of them"
        )
    entries = _of_split(source, listing, split)
    for path in {scheme(entry.path): entry.path for entry in entries}.values():
        require_readable(path)
    to_index, names = _label_map(source, entries, class_names or listing.class_names)
    kept, labels, seen = [], [], {}
    for entry in entries:
        label, mistake = to_index(entry.label)
        key = absolute(entry.path), entry.segment
        if key in seen:
            mistake = f"{entry.path} is already on {seen[key]}; keep one of the two"
        if mistake:
            fault(f"{source}, {entry.place}: {mistake}")
            continue
        seen[key] = entry.place
        kept.append(entry)
        labels.append(label)
    try:
        groups = groups_of(kept, listing.columns, group_by)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    return VideoList(
        paths=tuple(entry.path for entry in kept),
        labels=tuple(labels),
        class_names=names,
        segments=tuple(entry.segment for entry in kept) if any(e.segment for e in kept) else None,
        groups=groups,
        passed_over=listing.passed_over,
    )


def _of_split(source, listing, split):
    """The entries of one split; of all where the list knows only one."""
    column = first_column(listing.columns, SPLIT_COLUMNS)
    if column is None:
        if split is not None:
            raise UserError(
                f"{source} has no column {' or '.join(SPLIT_COLUMNS)} to take {split!r} from"
            )
        return listing.entries
    known = sorted({entry.fields.get(column, "") for entry in listing.entries})
    if split is None and len(known) <= 1:
        return listing.entries
    if split not in known:
        raise UserError(
            f"{source}: the column {column} holds {', '.join(map(repr, known))}; "
            + (
                "say which to take, by train_split or validation_split"
                if split is None
                else f"{split!r} is none of them"
            )
        )
    return [entry for entry in listing.entries if entry.fields.get(column, "") == split]


def _label_map(source, entries, class_names):
    """(function of a label's text -> (index, None) or (None, what is wrong), class names)."""
    indices = [label_index(entry.label) for entry in entries]
    most = max((index for index in indices if index is not None), default=-1)
    if class_names is not None:
        names = tuple(class_names)
    elif all(index is None for index in indices):
        names = tuple(sorted({entry.label for entry in entries}))
    elif most >= _MOST_CLASSES:
        place = entries[indices.index(most)].place
        raise UserError(
            f"{source}, {place}: label {most} would be that of the last of {most + 1:,} classes; "
            "labels are names, or indices from 0"
        )
    else:
        names = tuple(map(str, range(most + 1)))
    by_name = {one_spelling(name): index for index, name in enumerate(names)}
    # Where the class "1" is not that of index 1, a list must be of one kind.
    ambiguous = any(label_index(name) not in (None, index) for index, name in enumerate(names))
    others = [
        entry
        for entry, index in zip(entries, indices, strict=True)
        if index is not None and entry.label not in by_name
    ]
    if ambiguous and others:
        raise UserError(
            f"{source}, {others[0].place}: label {others[0].label!r} is none of the classes "
            f"({shortened(names)}); as they are numbers, it is not taken for an index"
        )

    def to_index(label):
        if label in by_name:
            return by_name[label], None
        value = label_index(label)
        if value is None:
            if class_names is None:
                return None, f"label {label!r} is not an integer, as other labels of the list are"
            return None, f"label {label!r} is not one of the classes ({shortened(names)})"
        if not 0 <= value < len(names):
            return None, f"label {value} is outside 0 to {len(names) - 1}"
        return value, None

    return to_index, names
