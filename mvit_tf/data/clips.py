"""The frames of a video's clips, a part at a time: what decoding gives, without TensorFlow."""

import contextlib
import dataclasses
import math

import numpy as np

from mvit_tf.data.records.reading import open_source
from mvit_tf.data.video.decoding import DecodeError

# Frames are handed on in parts of so many bytes: a clip of ordinary size in one, of 4K one by one.
_PART_BYTES = 2**24
# A moment that is that of a frame on paper may come out just before it in floating point.
_ROUNDING_GUARD = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class ClipFrames:
    """What comes before the frames of a video's clips.

    Attributes:
        picks: int64 (n, T). The clips' frames as indices into the distinct frames that follow.
        num_frames: int. How many distinct frames those are.
        padded: bool. Whether the video is shorter than a clip, so that frames come twice.
        width, height: int, of the frames.
        moments: float64 (n, T). When the clips' frames are shown, in seconds after the video's
            first frame.
    """

    picks: np.ndarray
    num_frames: int
    padded: bool
    width: int
    height: int
    moments: np.ndarray


def training_frames(path, sampling, seed, segment=None):
    """The frames of one random clip.

    Args:
        path: str, the file, or a record (`records.reading`).
        sampling: ClipSampling.
        seed: numpy.random.SeedSequence of the clip's start.
        segment: (start, end) in seconds of the part that the clip is taken from; all by default.

    Yields:
        ClipFrames with one clip, then its frames in parts, uint8 (k, H, W, 3).

    Raises:
        DecodeError: the video does not give every frame, is too short, or ends before the
            segment.
    """
    rng = np.random.default_rng(seed)
    with open_source(path) as video:
        first, count = segment_range(video, segment)
        indices = sampling.training_indices(count, video.info.fps, rng)
        yield from _frames(video, first + indices[None], sampling, count)


def evaluation_frames(path, sampling, num_clips, segment=None):
    """The frames of evenly spread clips, each once, though clips overlap.

    Args:
        path, sampling, segment: see `training_frames`.
        num_clips: int.

    Yields:
        ClipFrames with all clips, then their frames in parts, uint8 (k, H, W, 3).

    Raises:
        DecodeError: as `training_frames`.
    """
    with open_source(path) as video:
        first, count = segment_range(video, segment)
        indices = first + sampling.evaluation_indices(count, video.info.fps, num_clips)
        yield from _frames(video, indices, sampling, count)


def whole_clips(path, sampling, num_clips):
    """Evenly spread clips as they are decoded, one after the other.

    Args:
        path: path of the file.
        sampling: ClipSampling.
        num_clips: int.

    Yields:
        uint8 array (T, H, W, 3) for each clip.

    Raises:
        DecodeError: as `training_frames`.
    """
    with open_source(path) as video:
        info = video.info
        indices = sampling.evaluation_indices(info.num_frames, info.fps, num_clips)
        _refuse_short(video, sampling, info.num_frames)
        yield from video.clips_at_indices(indices)


def segment_range(video, segment):
    """First index and number of the frames of a segment."""
    info = video.info
    if segment is None:
        return 0, info.num_frames
    # The frame shown at the start belongs to it, and not the one shown at the end.
    first, end = (math.floor(moment * info.fps + _ROUNDING_GUARD) for moment in segment)
    if first >= info.num_frames:
        raise DecodeError(
            video.path,
            "too_short",
            f"{info.duration:.2f} s long, and the segment begins at {segment[0]:g} s",
        )
    return first, max(min(end, info.num_frames) - first, 1)


def _frames(video, indices, sampling, count):
    info = video.info
    padded = _refuse_short(video, sampling, count)
    distinct, picks = np.unique(indices, return_inverse=True)
    yield ClipFrames(
        picks=picks.reshape(indices.shape),
        num_frames=len(distinct),
        padded=padded,
        width=info.width,
        height=info.height,
        moments=indices / info.fps,
    )
    step = max(_PART_BYTES // (3 * info.width * info.height), 1)
    for start in range(0, len(distinct), step):
        yield video.frames_at_indices(distinct[start : start + step])


def _refuse_short(video, sampling, count):
    """Whether `count` frames are shorter than a clip, where that is not refused."""
    padded = sampling.is_longer_than(count, video.info.fps)
    if padded and sampling.short_videos == "reject":
        raise DecodeError(
            video.path,
            "too_short",
            f"{count} frames, {count / video.info.fps:.2f} s, are shorter than a clip",
        )
    return padded


def gather_frames(items, shrink):
    """Puts together what `training_frames` or `evaluation_frames` yield.

    Args:
        items: the generator that they are.
        shrink: function of (uint8 (k, H, W, 3), ClipFrames), the frames of each part, to an array
            (k, ...); called part by part, so that large frames are never all in memory.

    Returns:
        (array (N, ...) of the distinct frames, ClipFrames); ``frames[facts.picks]`` are the clips.
    """
    # Closed whatever happens: a worker is held until then.
    with contextlib.closing(items):
        facts = next(items)
        done = 0
        for frames in items:
            part = shrink(frames, facts)
            if not done:
                distinct = np.empty((facts.num_frames, *part.shape[1:]), part.dtype)
            distinct[done : done + len(part)] = part
            done += len(part)
    return distinct, facts
