"""A record read as a video is: its facts, and frames at given indices.

A record is named by its file and where in it it begins, "train-00003-of-00010.tfrecord#73501".
All of it is read, so that its checksum is compared, and only the frames asked for are decoded.
"""

import contextlib
import io
import os
import re
import tempfile

import numpy as np
from PIL import Image, UnidentifiedImageError

from mvit_tf.data.records import examples, framing
from mvit_tf.data.records.storage import is_remote, open_file
from mvit_tf.data.video.decoding import DecodeError, VideoInfo, open_video

# Frames a second where a record does not say, as in sets of the Model Garden's own tools.
ASSUMED_FPS = 30.0
_NAME = re.compile(r"(.+)#([0-9]{1,18})", re.DOTALL)
_SHARD = re.compile(r"\.tfrecords?\b|-[0-9]{5}-of-[0-9]{5}$")


def record_name(file, offset):
    """What the record at `offset` of `file` is called."""
    return f"{file}#{offset}"


def parse_record_name(path):
    """(file, offset) of a record's name; None for any other path."""
    match = _NAME.fullmatch(os.fspath(path))
    if match is None or not is_record_file(match[1]):
        return None
    return match[1], int(match[2])


def is_record_file(path):
    """Whether a file is taken for TFRecords by its name, "x.tfrecord" or "x-00000-of-00010"."""
    return _SHARD.search(os.path.basename(path)) is not None


def is_remote_record(path):
    """Whether a path names a record that only TensorFlow can read."""
    return is_remote(path) and parse_record_name(path) is not None


@contextlib.contextmanager
def open_source(path):
    """`open_video`, of a record too.

    Yields:
        VideoReader or RecordReader.

    Raises:
        DecodeError: as `open_video`, or the record is damaged.
    """
    place = parse_record_name(os.fspath(path))
    if place is None:
        with open_video(path) as video:
            yield video
        return
    message = parse_record(path, *place)
    if examples.frames_of(message) is not None:
        yield RecordReader(path, message)
    elif examples.VIDEO in message.feature_lists.feature_list:
        with video_within(path, message) as file, open_video(file) as video:
            yield video
    else:
        raise DecodeError(path, "corrupt_record", f"it has no {examples.FRAMES}")


def parse_record(path, file, offset):
    """The SequenceExample at `offset` of `file`; `path` is the record's name.

    Raises:
        DecodeError: it is missing, damaged, or none.
    """
    try:
        with open_file(file) as opened:
            return examples.parse(framing.read_record(opened, offset))
    except FileNotFoundError:
        raise DecodeError(path, "missing", "no such file") from None
    except OSError as error:
        reason = error.strerror or error
        raise DecodeError(path, "missing", f"cannot be reached: {reason}") from None
    except (framing.CorruptRecord, examples.NotASequenceExample) as error:
        raise DecodeError(path, "corrupt_record", str(error)) from None


class RecordReader:
    """A record whose frames are pictures, with what `VideoReader` has.

    Args:
        path: str, the record's name.
        message: its SequenceExample.

    Attributes:
        path: str.
        info: VideoInfo.

    Raises:
        DecodeError: it has no frame that is a picture.
    """

    def __init__(self, path, message):
        self.path = path
        self._frames = examples.frames_of(message)
        num_frames = len(self._frames)
        if not num_frames:
            raise DecodeError(path, "no_frames", "the record holds no frames")
        head = examples.head_of(message)
        fps = head.fps or _rate_of(head, num_frames) or ASSUMED_FPS
        with self._picture(0) as picture:
            self._size, codec = picture.size, picture.format.lower()
        self.info = VideoInfo(
            codec=codec,
            fps=fps,
            num_frames=num_frames,
            duration=num_frames / fps,
            width=self._size[0],
            height=self._size[1],
            rotation=0,
        )

    def frames_at_indices(self, indices):
        """The frames at `indices`, as by `VideoReader.frames_at_indices`.

        Raises:
            DecodeError: one of them is damaged, or of another size than the first.
        """
        indices = np.clip(np.asarray(indices, np.int64), 0, self.info.num_frames - 1)
        frames = np.empty((len(indices), self.info.height, self.info.width, 3), np.uint8)
        for index in np.unique(indices).tolist():
            frames[indices == index] = self._decoded(index)
        return frames

    def clips_at_indices(self, clips):
        """Yields the frames of several clips, as `VideoReader.clips_at_indices`."""
        for indices in clips:
            yield self.frames_at_indices(indices)

    def go_on_after_damage(self):
        """As of `VideoReader`; each picture stands for itself."""

    def _decoded(self, index):
        with self._picture(index) as picture:
            if picture.size != self._size:
                raise self._damaged(index, "it has another size than the first frame")
            try:
                return np.asarray(picture.convert("RGB"))
            except (OSError, SyntaxError, ValueError) as error:
                raise self._damaged(index, error) from None

    def _picture(self, index):
        try:
            return Image.open(io.BytesIO(self._frames[index]))
        except UnidentifiedImageError:
            raise self._damaged(index, "it is no picture") from None
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise self._damaged(index, error) from None

    def _damaged(self, index, reason):
        return DecodeError(self.path, "decode_error", f"frame {index} cannot be decoded: {reason}")


def _rate_of(head, num_frames):
    """Frames a second by the times of start and end, or None."""
    if head.start is None or head.end is None or head.end <= head.start:
        return None
    return num_frames / (head.end - head.start)


@contextlib.contextmanager
def video_within(path, message):
    """The path of a file with the video that a record holds.

    What goes wrong with that file in the context is said of the record, whose name is `path`.
    """
    steps = message.feature_lists.feature_list[examples.VIDEO].feature
    content = b"".join(value for step in steps for value in step.bytes_list.value)
    with _file_of(content) as file:
        try:
            yield file
        except DecodeError as error:
            raise DecodeError(path, error.outcome, error.detail) from None


@contextlib.contextmanager
def _file_of(content):
    """The path of a file that holds `content`, in memory where the system has such files."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("record"), "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
        return
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "record")
        with open(path, "wb") as file:
            file.write(content)
        yield path
