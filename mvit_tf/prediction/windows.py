"""Sliding windows over a video of any length: which frames, and their decoding, once and in order.

Imports no TensorFlow: `window_frames` runs in decode workers.
"""

import dataclasses
import heapq
import math

import numpy as np

from mvit_tf.data.sampling import ClipSampling
from mvit_tf.data.video.decoding import VideoInfo
from mvit_tf.data.video.sequence import open_sequence
from mvit_tf.data.video.timing import TAIL_TOLERANCE
from mvit_tf.errors import UserError

# A frame stamped up to this share of a frame period late counts as on time, as in `decoding`.
_LATENESS = 0.25
# Frames are handed on in parts of so many bytes and frames.
_PART_BYTES = 2**24
_PART_FRAMES = 16
# Whoever waits for the frames hears of it at least so often.
_FRAMES_A_STEP = 100
_ROUNDING_GUARD = 1e-6
# Seconds between windows of an image model, which looks at single frames.
_IMAGE_STRIDE = 1.0


class SlidingWindows:
    """The windows of a video: each a clip of the model, one every `stride` seconds.

    A window is as long as a clip, and the last one ends with the video. Of a video shorter than a
    clip there is one. A window of an image model is as long as the stride; the model sees the
    frame in its middle.

    Args:
        sampling: which frames of a window make the clip.
        fps: frames a second of the video.
        num_frames: of the video.
        stride: seconds; `None` is half a clip, or a second of an image model.

    Raises:
        UserError: a stride that is no positive number.
    """

    def __init__(
        self, sampling: ClipSampling, fps: float, num_frames: int, stride: float | None = None
    ):
        if stride is not None and not 0 < stride < math.inf:
            raise UserError(f"stride={stride:g}: must be a number of seconds above 0")
        self._sampling, self._fps, self._num_frames = sampling, fps, num_frames
        image = sampling.num_frames == 1
        span = sampling.span(fps)
        if stride is None:
            stride = _IMAGE_STRIDE if image else span / fps / 2
        # Windows closer than the frames would repeat themselves.
        self._stride = max(stride * fps, 1.0)
        self._span = self._stride if image else max(span, 1.0)
        slack = num_frames - self._span
        self._count = 1 + max(math.ceil(slack / self._stride - _ROUNDING_GUARD), 0)

    @property
    def stride(self) -> float:
        """Seconds from a window to the next."""
        return self._stride / self._fps

    def __len__(self):
        return self._count

    def indices(self, number: int) -> np.ndarray:
        """int64 (T,), the frames of a window as indices into those of the video."""
        start = self._start(number)
        if self._sampling.num_frames == 1:
            middle = start + self._span / 2
            return np.array([min(int(middle), self._num_frames - 1)], np.int64)
        if self._sampling.rule == "segments":
            length = min(round(self._span), self._num_frames)
            own = self._sampling.evaluation_indices(length, self._fps, 1)[0]
            return np.minimum(int(start) + own, self._num_frames - 1)
        return self._sampling.indices(start, self._num_frames, self._fps)

    def time(self, number: int) -> tuple[float, float]:
        """Start and end of a window, in seconds after the video's first frame."""
        start = self._start(number)
        end = min(start + self._span, self._num_frames)
        return start / self._fps, end / self._fps

    def wanted(self):
        """Yields the indices of all windows in ascending order, each once."""
        open_indices, last = [], -1
        for number in range(len(self)):
            indices = self.indices(number)
            while open_indices and open_indices[0] < indices.min():
                last, before = heapq.heappop(open_indices), last
                if last != before:
                    yield last
            for index in indices.tolist():
                heapq.heappush(open_indices, index)
        while open_indices:
            last, before = heapq.heappop(open_indices), last
            if last != before:
                yield last

    def _start(self, number):
        return max(min(number * self._stride, self._num_frames - self._span), 0.0)


@dataclasses.dataclass(frozen=True)
class WindowedVideo:
    """What comes before the frames of a video's windows.

    Args:
        info: VideoInfo.
        start_time: float, seconds. The first frame's time on the file's own clock.
    """

    info: VideoInfo
    start_time: float


@dataclasses.dataclass(frozen=True, eq=False)
class FramesPart:
    """Frames of a video's windows.

    Args:
        indices: list of int, ascending.
        frames: uint8 (len(indices), H, W, 3), RGB, turned for show.
    """

    indices: list
    frames: np.ndarray


def window_frames(path, sampling, stride):
    """The frames of a video's sliding windows, each once; for `DecodeWorkers.run`.

    The frame at index i is the one shown i / fps seconds after the first, as in `decoding`.
    Damaged frames are passed over: the one before stands for them.

    Args:
        path: str, the file.
        sampling: ClipSampling.
        stride: seconds or None, see `SlidingWindows`.

    Yields:
        WindowedVideo; then FramesPart, and None now and then; last a list of str, what is wrong
        with the video. The frames behind the last one that can be decoded are missing.

    Raises:
        DecodeError: no frame can be decoded.
    """
    video = open_sequence(path)
    info = video.info
    yield WindowedVideo(info, video.start_time)
    windows = SlidingWindows(sampling, info.fps, info.num_frames, stride)
    most = min(max(_PART_BYTES // (3 * info.width * info.height), 1), _PART_FRAMES)
    indices, pictures = [], []
    for index, picture in _frames_at(video, windows.wanted()):
        if index is not None:
            indices.append(index)
            pictures.append(picture)
        if len(pictures) >= most or (index is None and pictures):
            yield FramesPart(indices, np.stack(pictures))
            indices, pictures = [], []
        elif index is None:
            yield None
    if pictures:
        yield FramesPart(indices, np.stack(pictures))
    yield video.problems


def _frames_at(video, wanted):
    """Yields (index, picture as an array), and (None, None) every so many frames decoded."""
    fps = video.info.fps
    late = _LATENESS / fps
    index, shown, picture = next(wanted, None), None, None
    for count, frame in enumerate(video.frames(), start=1):
        while index is not None and shown is not None and index / fps + late < frame.start:
            picture = video.rgb(shown) if picture is None else picture
            yield index, picture
            index = next(wanted, None)
        shown, picture = frame, None
        if index is None:
            return
        if count % _FRAMES_A_STEP == 0:
            yield None, None
    if shown is None:
        return
    picture = video.rgb(shown)
    at_tail = video.info.duration - shown.end <= TAIL_TOLERANCE
    while index is not None and (at_tail or index / fps < shown.end):
        yield index, picture
        index = next(wanted, None)
