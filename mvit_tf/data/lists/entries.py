"""What a folder or a list says before its labels are numbered."""

import dataclasses
import os

from mvit_tf.errors import UserError

# Of containers that FFmpeg reads.
VIDEO_EXTENSIONS = (
    ".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".3gp", ".flv", ".wmv",
    ".3g2", ".asf", ".divx", ".f4v", ".gif", ".m2ts", ".mpe", ".mts", ".mxf", ".nut", ".ogm",
    ".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".y4m",
)  # fmt: skip
# Of images that Pillow reads. A GIF is a video for video models, for image models its first frame.
IMAGE_EXTENSIONS = (
    ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".jpe", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip

_TRAINING_NAMES = ("train", "training", "trn", "tr")
_HELD_OUT_NAMES = (
    "val", "valid", "validate", "validation", "dev", "test", "testing", "tst", "eval",
    "evaluation", "holdout", "held_out",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Entry:
    """A video, or a segment of one, with its label as it is written.

    Args:
        path: str.
        label: str; of a multi-label list a tuple of str, maybe empty.
        place: str, where in the list it stands, such as "line 3".
        segment: (start, end) in seconds, or None for the whole video.
        fields: dict of str, what the columns of a list with a header hold.
        source: str, the video that a record was made from; empty for a video itself.
        intervals: optional tuple, for each label of a multi-label list (start, end) in seconds of
            the part of the video that shows it.
    """

    path: str
    label: str | tuple[str, ...]
    place: str
    segment: tuple[float, float] | None = None
    fields: dict[str, str] = dataclasses.field(default_factory=dict)
    source: str = ""
    intervals: tuple[tuple[float, float], ...] | None = None

    @property
    def labels(self):
        """The label, or all of them, as a tuple."""
        return (self.label,) if isinstance(self.label, str) else self.label


@dataclasses.dataclass(frozen=True)
class Listing:
    """All entries of a folder or list.

    Args:
        entries: list of Entry.
        columns: tuple of str, the columns of a list with a header.
        class_names: tuple of str, the classes in index order, where the listing itself says them.
        passed_over: tuple of (path, reason), what lies there and is no entry.
    """

    entries: list[Entry]
    columns: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None
    passed_over: tuple[tuple[str, str], ...] = ()


def is_training_name(name):
    """Whether this is what the training side of a split is called."""
    return name.strip().lower() in _TRAINING_NAMES


def is_split_name(name):
    """Whether this is what a side of a split is called."""
    return is_training_name(name) or name.strip().lower() in _HELD_OUT_NAMES


def is_video(name):
    """Whether a file of this name is taken for a video."""
    return os.path.splitext(name)[1].lower() in VIDEO_EXTENSIONS


def is_image(name):
    """Whether a file of this name is taken for an image, where images are wanted."""
    return os.path.splitext(name)[1].lower() in IMAGE_EXTENSIONS


def refuse(message):
    """What becomes of a mistake in a list unless its reader collects them: a UserError."""
    raise UserError(message)
