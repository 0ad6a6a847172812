"""Videos without labels: any folder, any list of paths, or a labelled set whose labels are left."""

import os

from mvit_tf.data.lists.class_folders import videos_in
from mvit_tf.data.lists.class_names import read_text
from mvit_tf.data.lists.entries import is_video, refuse
from mvit_tf.data.lists.list_formats import PATH_COLUMNS
from mvit_tf.data.lists.video_list import VideoList, load_video_list
from mvit_tf.data.records.index import record_files
from mvit_tf.data.records.tfds import is_tfds_folder
from mvit_tf.data.remote import files_under, is_file, is_folder, require_readable
from mvit_tf.errors import UserError
from mvit_tf.urls import absolute, is_url, join, parent


def load_unlabelled_videos(source, *, root=None, split=None, **options):
    """Reads videos and leaves out what labels they have.

    Args:
        source: path of a folder with videos at any depth; of a list with one path a line, maybe
            under a first line such as "path"; or of anything that `load_video_list` reads.
        root: optional folder that relative paths of a list start from; by default its own.
        split: optional str, of a list that says which side of a split a video is on.
        **options: of `load_video_list`, for a list with labels.

    Returns:
        VideoList of no classes, in the order of the lines, or sorted folder by folder.

    Raises:
        UserError: nothing there, no video in it, one twice, or a mistake in a list.
    """
    source = os.fspath(source)
    try:
        plain = not is_tfds_folder(source) and record_files(source) is None
        if plain:
            require_readable(source)
        in_folder = plain and is_folder(source)
    except OSError as error:
        raise UserError(f"{source} cannot be read: {error.strerror or error}") from None
    if in_folder:
        videos = _of_folder(source)
    elif plain and is_file(source):
        videos = _of_paths(source, root)
    elif plain:
        raise UserError(f"{source}: no such folder or file; give a folder of videos, or a list")
    else:
        videos = None
    if videos is not None and split is not None:
        raise UserError(f"{source} does not say which side of a split a video is on: no {split!r}")
    if videos is not None:
        return videos
    videos = load_video_list(source, root=root, split=split, **options)
    return _unlabelled(
        videos.paths,
        segments=videos.segments,
        groups=videos.groups,
        passed_over=videos.passed_over,
    )


def _unlabelled(paths, **fields):
    return VideoList(paths=tuple(paths), labels=((),) * len(paths), class_names=(), **fields)


def _of_folder(folder):
    passed_over = []
    if is_url(folder):
        paths = [path for path in files_under(folder) if is_video(path) and "/." not in path]
    else:
        paths = list(videos_in(folder, True, False, passed_over, refuse))
    if not paths:
        raise UserError(f"{folder}: no videos in it, at any depth")
    return _unlabelled(paths, passed_over=tuple(passed_over))


def _of_paths(file, root):
    """The videos of a list of nothing but paths; None for any other."""
    lines = [(number, line.strip()) for number, line in enumerate(read_text(file).split("\n"), 1)]
    lines = [(number, line) for number, line in lines if line]
    if lines and lines[0][1].lower() in PATH_COLUMNS:
        lines = lines[1:]
    if not lines or not all(is_video(line) for _, line in lines):
        return None
    root = parent(file) if root is None else os.fspath(root)
    found = {}
    for number, line in lines:
        path = join(root, line)
        other = found.setdefault(absolute(path), (number, path))[0]
        if other != number:
            raise UserError(f"{file}, line {number}: {line} is already on line {other}")
    return _unlabelled([path for _, path in found.values()])
