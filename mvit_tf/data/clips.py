"""The frames of a video's clips, a part at a time: what decoding gives, without TensorFlow."""

import contextlib
import dataclasses

import numpy as np

from mvit_tf.data.decoding import DecodeError, open_video

# Frames are handed on in parts of so many bytes, a clip of ordinary size in one, and all clips
# of a video are decoded in one pass where their frames are no more than so many.
_PART_BYTES = 2**24
_ONE_PASS_BYTES = 2**26


@dataclasses.dataclass(frozen=True, eq=False)
class ClipFrames:
    """Clips that are decoded together; the frames follow it, in parts.

    Attributes:
        picks: int64 (n, T). The clips' frames as indices into the distinct frames that follow.
        num_frames: int. How many distinct frames those are.
        padded: bool. Whether the video is shorter than a clip, so that frames come twice.
        width, height: int, of the frames.
    """

    picks: np.ndarray
    num_frames: int
    padded: bool
    width: int
    height: int


def training_frames(path, sampling, seed, segment=None):
    """The frames of one random clip.

    Args:
        path: str, the file.
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
    with open_video(path) as video:
        first, count = _range(video, segment)
        indices = sampling.training_indices(count, video.info.fps, rng)
        yield from _frames(video, first + indices[None], sampling, count)


def evaluation_frames(path, sampling, num_clips, segment=None):
    """The frames of evenly spread clips, as many together as bring little memory.

    Args:
        path, sampling, segment: see `training_frames`.
        num_clips: int.

    Yields:
        ClipFrames and parts as `training_frames`, until every clip has come.

    Raises:
        DecodeError: as `training_frames`.
    """
    with open_video(path) as video:
        info = video.info
        first, count = _range(video, segment)
        indices = first + sampling.evaluation_indices(count, info.fps, num_clips)
        frame_bytes = 3 * info.width * info.height
        if np.unique(indices).size * frame_bytes <= _ONE_PASS_BYTES:
            yield from _frames(video, indices, sampling, count)
        else:
            for clip in indices:
                yield from _frames(video, clip[None], sampling, count)


def _range(video, segment):
    """First index and number of the frames of a segment."""
    info = video.info
    if segment is None:
        return 0, info.num_frames
    # The frame shown at the start belongs to it, the one that begins at the end does not.
    first, end = (round(moment * info.fps) for moment in segment)
    if first >= info.num_frames:
        raise DecodeError(
            video.path,
            "too_short",
            f"{info.duration:.2f} s long, and the segment begins at {segment[0]:g} s",
        )
    return first, max(min(end, info.num_frames) - first, 1)


def _frames(video, indices, sampling, count):
    info = video.info
    padded = sampling.is_longer_than(count, info.fps)
    if padded and sampling.short_videos == "reject":
        raise DecodeError(
            video.path,
            "too_short",
            f"{count} frames, {count / info.fps:.2f} s, are shorter than a clip",
        )
    distinct, picks = np.unique(indices, return_inverse=True)
    yield ClipFrames(picks.reshape(indices.shape), len(distinct), padded, info.width, info.height)
    step = max(_PART_BYTES // (3 * info.width * info.height), 1)
    for start in range(0, len(distinct), step):
        yield video.frames_at_indices(distinct[start : start + step])


def gather_clips(items, shrink):
    """Makes clips of what `training_frames` or `evaluation_frames` yield.

    Args:
        items: the generator that they are.
        shrink: function of (uint8 (k, H, W, 3), ClipFrames), the frames of each part, to an array
            (k, ...); called part by part, so that large frames are never all in memory.

    Yields:
        (array (n, T, ...), ClipFrames) for the n clips that were decoded together.
    """
    # Closed whatever happens: a worker is held until then.
    with contextlib.closing(items):
        for clip in items:
            parts, have = [], 0
            while have < clip.num_frames:
                frames = next(items)
                have += len(frames)
                parts.append(shrink(frames, clip))
            whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
            yield whole[clip.picks], clip


def decode_clips(path, sampling, num_clips):
    """The evaluation clips of one video, all in memory.

    Args:
        path: path of the file.
        sampling: ClipSampling.
        num_clips: int.

    Returns:
        uint8 array (num_clips, T, height, width, 3).

    Raises:
        DecodeError: the file does not give every frame of every clip.
    """
    items = evaluation_frames(path, sampling, num_clips)
    return np.concatenate([clips for clips, _ in gather_clips(items, lambda frames, _: frames)])
