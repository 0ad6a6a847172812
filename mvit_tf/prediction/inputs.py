"""Which videos `mvit predict` and `mvit features` are asked for: files, folders, lists, URLs."""

import collections
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mvit_tf.data.lists.class_names import read_text
from mvit_tf.data.lists.entries import is_image, is_video
from mvit_tf.data.lists.video_list import load_video_list
from mvit_tf.data.remote import require_readable
from mvit_tf.errors import UserError
from mvit_tf.urls import is_url, join, parent, without_query

STANDARD_INPUT = "-"
_LIST_EXTENSIONS = (".csv", ".tsv", ".txt", ".json", ".list", ".lst")


@dataclass(frozen=True)
class VideoInput:
    """A video to look at.

    Attributes:
        path: file or URL.
        segment: (start, end) in seconds of the part to look at, or `None` for all of it.
        labels: names of its classes where a list says them, else `None`.
    """

    path: str
    segment: tuple[float, float] | None = None
    labels: tuple[str, ...] | None = None


@dataclass
class Inputs:
    """What `find_inputs` finds.

    Attributes:
        videos: in the order asked for; those of a folder by name.
        passed_over: how often each reason is that something in a folder is not taken.
        notes: what one should know of them, in lines.
    """

    videos: list[VideoInput] = field(default_factory=list)
    passed_over: collections.Counter = field(default_factory=collections.Counter)
    notes: list[str] = field(default_factory=list)


def find_inputs(
    sources: Iterable[str],
    *,
    class_names: Sequence[str],
    multi_label: bool = False,
    image: bool = False,
    nested: bool = False,
) -> Inputs:
    """The videos that files, folders, lists and URLs stand for.

    A folder stands for the files in it with the suffix of a video. A file that ends in .csv, .tsv,
    .txt, .json, .list or .lst is a list: one path a line, or any form that training reads.
    "-" is a list of one path a line on standard input. Anything else is a video.

    Args:
        sources: what was asked for.
        class_names, multi_label: of the model, to read the labels of lists by.
        image: whether the model takes images, which are then what folders are searched for.
        nested: look into folders within folders too; links to folders are not followed.

    Raises:
        UserError: a folder without videos, a list that cannot be read, or nothing at all.
    """
    found = Inputs()
    for source in sources:
        if source == STANDARD_INPUT:
            found.videos += _paths_in(sys.stdin.read(), "")
        elif not is_url(source) and os.path.isdir(source):
            _add_folder(found, source, image, nested)
        elif without_query(source).lower().endswith(_LIST_EXTENSIONS):
            _add_list(found, source, class_names, multi_label)
        else:
            found.videos.append(VideoInput(source))
    if not found.videos:
        raise UserError("no video to look at")
    for path in {video.path.partition("://")[0]: video.path for video in found.videos}.values():
        require_readable(path)
    return found


def _add_folder(found, folder, image, nested):
    before = len(found.videos)
    is_wanted = is_image if image else is_video
    reached = Inputs()
    _walk(reached, folder, is_wanted, nested)
    if not reached.videos:
        what = "images" if image else "videos"
        inner = reached.passed_over["a folder"]
        cure = f"; --nested takes the {what} in its {inner} folders" if inner else ""
        raise UserError(f"{folder}: no {what} in this folder{cure}")
    found.videos[before:] = reached.videos
    found.passed_over += reached.passed_over


def _walk(found, folder, is_wanted, nested):
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}") from None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if os.path.isdir(entry.path):
            if nested and not entry.is_symlink():
                _walk(found, entry.path, is_wanted, nested)
            else:
                found.passed_over["a linked folder" if nested else "a folder"] += 1
        elif is_wanted(entry.name):
            found.videos.append(VideoInput(entry.path))
        else:
            suffix = os.path.splitext(entry.name)[1].lower()
            found.passed_over[suffix or "without a suffix"] += 1


def _add_list(found, source, class_names, multi_label):
    text = read_text(source)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and all(is_video(line) or is_image(line) for line in lines):
        found.videos += _paths_in(text, parent(source))
        return
    options = {"multi_label": multi_label}
    try:
        videos = load_video_list(source, class_names=class_names, **options)
        known = True
    except UserError as error:
        # Labels of other classes than the model's do not keep the videos from being predicted.
        try:
            videos, known = load_video_list(source, **options), False
        except UserError:
            raise error from None
        found.notes.append(f"{error}: so nothing of {source} is scored")
    for index, path in enumerate(videos.paths):
        labels = tuple(videos.class_names[label] for label in videos.labels_of(index))
        found.videos.append(VideoInput(path, videos.segment(index), labels if known else None))


def _paths_in(text, folder):
    return [VideoInput(join(folder, line.strip())) for line in text.splitlines() if line.strip()]
