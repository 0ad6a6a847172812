"""Frames of a video file at given moments, by PyAV (FFmpeg).

Frames are picked by their time stamps, never by counting packets, so B-frames, variable frame
rates and seeks give the picture a player would show at that moment. A file that cannot give
what was asked raises `DecodeError`; nothing is made up to fill a hole. FFmpeg's own log stays
off, as PyAV leaves it: what matters in it reaches the caller as an exception.
"""

import contextlib
import dataclasses
import os

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from mvit_tf.errors import UserError
from mvit_tf.files import printable

OUTCOMES = (
    "missing",  # no such file
    "empty_file",  # zero bytes
    "container_error",  # not a video file, or its header is damaged or cut off
    "no_video_stream",  # audio only
    "no_frames",  # a video stream without one decodable frame
    "decode_error",  # damaged, or cut off, before the last frame asked for
)

_FALLBACK_FPS = 30.0
_HIGHEST_FPS = 1000.0
# A frame stamped up to this share of a frame period late still counts as on time.
_LATENESS = 0.25
# Time missing at a file's end that counts as an inexact header, not as damage, in seconds.
_TAIL_TOLERANCE = 0.25
# Decoders may hold frames back, so a seek aims this many frame periods early.
_SEEK_MARGIN = 3
# Where the file has no index of keyframes, only a gap this long is worth a seek, in seconds.
_BLIND_SEEK_GAP = 10.0


class DecodeError(UserError):
    """A file that does not give the frames asked for.

    Attributes:
        path: str, the file.
        outcome: str, one of `OUTCOMES`.
        detail: str, what was wrong.
    """

    def __init__(self, path, outcome, detail):
        super().__init__(path, outcome, detail)
        self.path = path
        self.outcome = outcome
        self.detail = detail

    def __str__(self):
        return printable(f"{self.path}: {self.detail}")


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """What the file says of itself.

    Args:
        fps: float, average frames a second.
        num_frames: int; frame indices run from 0 to ``num_frames - 1``.
        duration: float, seconds.
        width, height: int, pixels as shown, that is after rotation.
        rotation: int, degrees counterclockwise by which the stored frames are turned for show.
    """

    fps: float
    num_frames: int
    duration: float
    width: int
    height: int
    rotation: int


@contextlib.contextmanager
def open_video(path):
    """Opens a video for reading, and closes it again in every case.

    Args:
        path: path of the file.

    Yields:
        VideoReader.

    Raises:
        DecodeError: the file is missing, empty, not a video, or has no decodable frame.
    """
    path = os.fspath(path)
    if not os.path.exists(path):
        raise DecodeError(path, "missing", "no such file")
    if os.path.isfile(path) and os.path.getsize(path) == 0:
        raise DecodeError(path, "empty_file", "the file is empty (zero bytes)")
    with _open_container(path) as container:
        yield VideoReader(path, container)


class VideoReader:
    """An open video, made by `open_video`; for use by one thread at a time.

    Attributes:
        path: str.
        info: VideoInfo.
    """

    def __init__(self, path, container):
        self.path = path
        self._container = container
        self._stream = _video_stream(path, container)
        # Videos are decoded in parallel; threads inside each would only be in the way.
        self._stream.thread_count = 1
        self._stream.thread_type = "NONE"
        self._time_base = float(self._stream.time_base)
        # AVI stores no presentation times, and those FFmpeg derives run backwards with B-frames.
        self._stamps_by_dts = container.format.name == "avi"
        self._reformatter = VideoReformatter()

        fps = _frame_rate(self._stream)
        num_frames = _stated_frames(container, self._stream, fps)
        num_frames = num_frames or _count_packets(path, self._stream.index)
        self._period = 1 / fps
        self._start_stamp = None
        self._damage = None
        # Time stamps after a seek in an MPEG program stream may be a frame off.
        self._seekable = container.format.name != "mpeg"
        self._shown = None
        self._upcoming = self._decode()
        self._pending = next(self._upcoming, None)
        if self._pending is None:
            reason = self._damage or "the video stream is empty"
            raise DecodeError(path, "no_frames", f"no frame can be decoded: {reason}")
        self._display = _Display.of(self._pending.picture)
        self._stored_size = self._pending.picture.width, self._pending.picture.height
        width, height = self._display.size(*self._stored_size)
        self.info = VideoInfo(
            fps=fps,
            num_frames=max(num_frames, 1),
            duration=max(num_frames, 1) / fps,
            width=width,
            height=height,
            rotation=self._display.rotation,
        )

    def frames_at_indices(self, indices):
        """The pictures shown at the moments ``index / fps`` after the first frame.

        Each is the last frame whose time stamp is not later than that moment, give or take a
        quarter of a frame period. The file is decoded forward once, from the keyframe before
        the first moment, and only the frames asked for are converted to RGB.

        Args:
            indices: sequence of int in any order, with or without repeats; those outside the
                video are moved to its first or last frame.

        Returns:
            uint8 array (len(indices), height, width, 3), RGB, turned for show.

        Raises:
            DecodeError: the file is damaged, or ends, before the last frame asked for.
        """
        indices = np.clip(np.asarray(indices, np.int64), 0, self.info.num_frames - 1)
        frames = np.empty((len(indices), self.info.height, self.info.width, 3), np.uint8)
        for index in np.unique(indices).tolist():
            frames[indices == index] = self._rgb(self._frame_at(index * self._period))
        return frames

    def _frame_at(self, moment):
        """The frame shown at `moment`, in seconds after the first frame."""
        position = self._shown or self._pending
        behind = position is None or position.start > moment + _LATENESS * self._period
        if behind or self._keyframe_between(position.start, moment):
            self._restart(moment)
        frame = self._advance(moment)
        if frame is None and self._seekable:
            # A seek may have missed or met damage; what counts is decoding from the start.
            self._seekable = False
            self._restart(0.0)
            frame = self._advance(moment)
        if frame is None:
            raise self._failure()
        return frame

    def _advance(self, moment):
        """Decodes up to `moment`; None where what can be decoded does not reach it."""
        while self._pending and self._pending.start <= moment + _LATENESS * self._period:
            self._shown, self._pending = self._pending, next(self._upcoming, None)
        if self._pending or self._shown is None:
            return self._shown
        covered = moment < self._shown.end
        at_tail = self.info.duration - self._shown.end <= _TAIL_TOLERANCE
        return self._shown if covered or at_tail else None

    def _keyframe_between(self, position, moment):
        """Whether a seek to `moment` would skip frames that follow `position`."""
        if not self._seekable:
            return False
        if moment - position > _BLIND_SEEK_GAP:
            return True
        entries = self._stream.index_entries
        found = entries.search_timestamp(self._seek_stamp(moment))
        return found >= 0 and entries[found].timestamp > self._to_stamp(position)

    def _restart(self, moment):
        """Goes on decoding at the keyframe before `moment`."""
        target = self._seek_stamp(moment) if self._seekable else min(self._start_stamp, 0)
        self._shown, self._pending, self._damage = None, None, None
        try:
            self._container.seek(target, stream=self._stream)
        except av.FFmpegError as error:
            self._damage = f"cannot seek, {error.strerror}"
            return
        self._upcoming = self._decode()
        self._pending = next(self._upcoming, None)

    def _to_stamp(self, moment):
        return self._start_stamp + round(moment / self._time_base)

    def _seek_stamp(self, moment):
        return self._to_stamp(moment - _SEEK_MARGIN * self._period)

    def _decode(self):
        """Yields `_Frame`s from where the container stands until its end or the first damage."""
        last = None
        try:
            for packet in self._container.demux(self._stream):
                for picture in packet.decode():
                    if picture.is_corrupt:
                        self._damage = "a damaged frame"
                        return
                    last = self._place(picture, last)
                    yield last
        except av.FFmpegError as error:
            self._damage = error.strerror

    def _place(self, picture, last):
        """The picture with the time for which it is shown; `last` is the frame before it."""
        first, second = picture.pts, picture.dts
        if self._stamps_by_dts:
            first, second = second, first
        # The last frames out of a decoder may lack the stamp that AVI goes by.
        stamp = first if first is not None or self._stamps_by_dts else second
        if self._start_stamp is None:
            self._start_stamp = stamp or 0
            self._seekable = self._seekable and stamp is not None
        if stamp is None:
            start = last.start + self._period if last else 0.0
        else:
            start = (stamp - self._start_stamp) * self._time_base
        shown_for = max((picture.duration or 0) * self._time_base, self._period)
        return _Frame(picture, start, start + shown_for)

    def _rgb(self, frame):
        width, height = self._stored_size
        # A stream may change its size midway: every picture takes that of the first.
        picture = self._reformatter.reformat(
            frame.picture, width=width, height=height, format="rgb24", threads=1
        )
        return self._display.apply(picture.to_ndarray())

    def _failure(self):
        reached = self._shown.end if self._shown else 0.0
        reach = f"{reached:.2f} of {self.info.duration:.2f} s"
        if self._damage:
            detail = f"can be read up to {reach} only: {self._damage}"
        else:
            detail = f"ends after {reach}: the file is cut off"
        return DecodeError(self.path, "decode_error", detail)


@dataclasses.dataclass(frozen=True, eq=False)
class _Frame:
    """A decoded picture (av.VideoFrame), shown from `start` to `end`, in seconds."""

    picture: av.VideoFrame
    start: float
    end: float


@dataclasses.dataclass(frozen=True)
class _Display:
    """How stored pictures are turned and mirrored for show; transposed first, then flipped."""

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    @classmethod
    def of(cls, picture):
        """Reads FFmpeg's display matrix; turns that are no multiple of 90 degrees are rounded.

        The matrix sends stored (x, y) to shown ``(a x + c y, b x + d y)``.
        """
        for data in picture.side_data:
            if data.type.name == "DISPLAYMATRIX":
                a, b, _, c, d, *_ = np.frombuffer(bytes(data), "<i4").tolist()
                if abs(b) > abs(a):
                    return cls(transpose=True, flip_rows=b < 0, flip_columns=c < 0)
                return cls(transpose=False, flip_rows=d < 0, flip_columns=a < 0)
        return cls()

    @property
    def rotation(self):
        """Degrees counterclockwise; the turn that follows a mirroring of the columns, if any."""
        if self.transpose:
            return 90 if self.flip_rows else 270
        return 180 if self.flip_rows else 0

    def size(self, width, height):
        """(width, height) as shown."""
        return (height, width) if self.transpose else (width, height)

    def apply(self, picture):
        """The array (height, width, 3) as shown."""
        if self.transpose:
            picture = picture.transpose(1, 0, 2)
        if self.flip_rows:
            picture = picture[::-1]
        if self.flip_columns:
            picture = picture[:, ::-1]
        return picture


def _open_container(path):
    try:
        # The prefix keeps FFmpeg from taking a name such as "concat:x" for a protocol.
        container = av.open(f"file:{path}", metadata_errors="replace")
    except av.FFmpegError as error:
        detail = f"cannot be opened as a video: {error.strerror}"
        raise DecodeError(path, "container_error", detail) from None
    if container.format.name == "tty":  # FFmpeg draws text files as ANSI art.
        container.close()
        raise DecodeError(path, "container_error", "cannot be opened as a video: a text file")
    return container


def _video_stream(path, container):
    """The stream FFmpeg calls best; cover pictures of audio files do not count."""
    stream = container.streams.best("video")
    if stream is None or Disposition.attached_pic in stream.disposition:
        kinds = sorted({stream.type for stream in container.streams})
        raise DecodeError(
            path, "no_video_stream", f"no video in this file (streams: {', '.join(kinds)})"
        )
    return stream


def _frame_rate(stream):
    """Frames a second; headers may lack it or hold nonsense."""
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 0 < rate <= _HIGHEST_FPS:
            return float(rate)
    return _FALLBACK_FPS


def _stated_frames(container, stream, fps):
    """Number of frames by the stream's header; 0 where it does not say."""
    if stream.frames > 0:
        return stream.frames
    # FFmpeg guesses the length of an MPEG program stream from its bit rate.
    if container.format.name == "mpeg":
        return 0
    if stream.duration:
        return round(float(stream.duration * stream.time_base) * fps)
    # Matroska and WebM write a stream's length into a tag, as 00:00:05.000000000.
    try:
        hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
        return round((int(hours) * 3600 + int(minutes) * 60 + float(seconds)) * fps)
    except ValueError:
        return 0


def _count_packets(path, stream_index):
    """Number of frames by reading the whole file, without decoding it."""
    with _open_container(path) as container:
        packets = container.demux(container.streams[stream_index])
        count = 0
        with contextlib.suppress(av.FFmpegError):  # Damage: the frames before it count.
            count = sum(packet.size > 0 for packet in packets)
        return count
