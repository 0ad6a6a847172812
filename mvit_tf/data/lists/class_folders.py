"""Folders of videos or images, one for each class."""

import os

from mvit_tf.data.lists.class_names import loose_spelling, one_spelling, shortened
from mvit_tf.data.lists.entries import (
    IMAGE_EXTENSIONS,
    VIDEO_EXTENSIONS,
    Entry,
    Listing,
    is_image,
    is_split_name,
    is_training_name,
    is_video,
    refuse,
)
from mvit_tf.data.lists.remote_folders import RemoteFolders
from mvit_tf.errors import UserError
from mvit_tf.urls import is_url, join


def read_class_folders(root, *, class_names=None, nested=False, images=False, fault=refuse):
    """Reads ``root/<class>/<video>``; the classes are the sorted names of the folders.

    The root may be a URL of an object store.

    Files without one of `entries.VIDEO_EXTENSIONS` (in any case), folders within class folders
    and files beside them are passed over, and said to be; hidden ones are not even said. A link
    that leads nowhere is a video, which is missing.

    Args:
        root: path of the folder of class folders.
        class_names: optional sequence of str. Index order to use instead of the sorted folder
            names, e.g. that of a trained model; a class may then lack a folder.
        nested: bool. Take the videos of folders within class folders too; links to folders are
            not followed.
        images: bool. Take images (`entries.IMAGE_EXTENSIONS`) instead of videos.
        fault: function of a message, for a class folder that cannot be used.

    Returns:
        Listing, classes in index order and videos sorted by name within each. The names are
        those of the folders in one spelling: composed accents (NFC), and bytes that are not
        UTF-8 as ``\\udcXX``.

    Raises:
        UserError: no such folder, no class folders in it, or two folders of one name; by `fault`
            also a class folder without videos, or one that `class_names` does not name.
    """
    remote = RemoteFolders(root) if is_url(root) else None
    if remote is None and not os.path.isdir(root):
        raise UserError(f"{root}: no such folder")
    folders, passed_over = _class_folders(root) if remote is None else remote.class_folders()
    if not folders:
        raise UserError(
            f"{root}: no class folders in it; put the {'images' if images else 'videos'} of each "
            "class into a subfolder named after the class"
        )
    _refuse_splits(root, folders)
    names = tuple(class_names) if class_names is not None else tuple(sorted(folders))
    known = [one_spelling(name) for name in names]
    for name in sorted(folders.keys() - set(known)):
        meant = [f"{known!r}" for known in names if loose_spelling(known) == loose_spelling(name)]
        fault(
            f"{join(root, folders[name])}: not one of the {len(names)} known classes "
            f"({', '.join(meant) or shortened(names)}); rename or remove the folder"
        )
    entries = []
    for name in known:
        if name not in folders:
            continue
        folder = join(root, folders[name])
        not_taken = []
        if remote is None:
            videos = list(videos_in(folder, nested, images, not_taken, fault))
        else:
            videos = remote.videos(folders[name], nested, images, not_taken)
        if not videos:
            what = "images" if images else "videos"
            fault(f"{folder}: no {what} in this class folder{_why(not_taken, images)}")
        entries += [Entry(path, name, path) for path in videos]
        passed_over += not_taken
    return Listing(entries, class_names=names, passed_over=tuple(passed_over))


def _refuse_splits(root, folders):
    """Refuses folders of the sides of a split, each with class folders, for classes."""
    sides = {name: os.path.join(root, folder) for name, folder in folders.items()}
    if len(sides) < 2 or not all(is_split_name(name) for name in sides):
        return
    if all(any(os.path.isdir(entry.path) for entry in os.scandir(side)) for side in sides.values()):
        train = next((sides[name] for name in sides if is_training_name(name)), "...")
        others = [side for side in sides.values() if side != train]
        raise UserError(
            f"{root} holds the sides of a split ({', '.join(sorted(sides))}), not classes; give "
            f"{train} for training and {' or '.join(sorted(others))} for validation"
        )


def _class_folders(root):
    """(class name -> name of its folder, [(path, reason)] of what is no folder)."""
    folders, passed_over = {}, []
    try:
        found = sorted(os.scandir(root), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{root} cannot be read: {error.strerror}") from None
    for entry in found:
        if _hidden(entry.name):
            continue
        if not os.path.isdir(entry.path):
            passed_over.append((entry.path, _dead(entry) or "not in a class folder"))
            continue
        other = folders.setdefault(one_spelling(entry.name), entry.name)
        if other != entry.name:
            raise UserError(
                f"{root}: two folders of one class, {ascii(other)} and {ascii(entry.name)}, which "
                "differ only in how the name is encoded; put their videos into one"
            )
    return folders, passed_over


def videos_in(folder, nested, images, passed_over, fault):
    """Yields the paths of the videos of a folder, sorted by name.

    Args:
        folder: path.
        nested: bool. Those of the folders in it too; links to folders are not followed.
        images: bool. Images instead.
        passed_over: list, to which (path, reason) of all else is added.
        fault: function of a message, for a folder that cannot be read.
    """
    try:
        found = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        fault(f"{folder}: cannot be read: {error.strerror}")
        return
    is_wanted = is_image if images else is_video
    for entry in found:
        if _hidden(entry.name):
            continue
        # By os.path, as an entry's own `is_dir` raises on a link that leads to itself.
        if os.path.isdir(entry.path):
            if nested and not entry.is_symlink():
                yield from videos_in(entry.path, nested, images, passed_over, fault)
            else:
                passed_over.append((entry.path, "linked folder" if nested else "nested folder"))
        elif is_wanted(entry.name) and (os.path.isfile(entry.path) or entry.is_symlink()):
            yield entry.path
        else:
            extension = os.path.splitext(entry.name)[1]
            unknown = f"unknown extension {extension}" if extension else "no extension"
            special = None if os.path.isfile(entry.path) else "not a regular file"
            passed_over.append((entry.path, _dead(entry) or special or unknown))


def _why(not_taken, images):
    if any(reason == "nested folder" for _, reason in not_taken):
        return f", only folders; nested=true takes the {'images' if images else 'videos'} in them"
    extensions = IMAGE_EXTENSIONS if images else VIDEO_EXTENSIONS
    return (
        f" (looked for {shortened(extensions)}; it holds {len(not_taken)} other entries); "
        "add some or remove the folder"
    )


def _dead(entry):
    return "dead link" if entry.is_symlink() and not os.path.exists(entry.path) else None


def _hidden(name):
    return name.startswith(".")
