"""The frames of a video's clips, a part at a time: what decoding gives, without TensorFlow."""

import contextlib
import dataclasses
import math

import numpy as np

from mvit_tf.data.image_file import open_image
from mvit_tf.data.lists.entries import is_image
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
        damaged: float. Share of the clips' frames that cannot be decoded, so that the nearest of
            the same clip stands for each.
        damage: str, what is wrong there.
    """

    picks: np.ndarray
    num_frames: int
    padded: bool
    width: int
    height: int
    moments: np.ndarray
    damaged: float = 0.0
    damage: str = ""


def training_frames(path, sampling, seed, segment=None, tolerated_damage=0.0):
    """The frames of one random clip.

    Args:
        path: str, the file, or a record (`records.reading`).
        sampling: ClipSampling.
        seed: numpy.random.SeedSequence of the clip's start.
        segment: (start, end) in seconds of the part that the clip is taken from; all by default.
        tolerated_damage: float in [0, 1). Share of a clip's frames that may be undecodable.

    Yields:
        ClipFrames with one clip, then its frames in parts, uint8 (k, H, W, 3); last another
        ClipFrames where damage was tolerated.

    Raises:
        DecodeError: the video does not give every frame, or enough of them, is too short, or ends
            before the segment.
    """
    rng = np.random.default_rng(seed)
    with _open(path, sampling) as video:
        first, count = segment_range(video, segment)
        indices = sampling.training_indices(count, video.info.fps, rng)
        yield from _frames(video, first + indices[None], sampling, count, tolerated_damage)


def evaluation_frames(path, sampling, num_clips, segment=None, tolerated_damage=0.0):
    """The frames of evenly spread clips, each once, though clips overlap.

    Args:
        path, sampling, segment, tolerated_damage: see `training_frames`.
        num_clips: int.

    Yields:
        ClipFrames with all clips, then their frames in parts, uint8 (k, H, W, 3); last another
        ClipFrames where damage was tolerated.

    Raises:
        DecodeError: as `training_frames`.
    """
    with _open(path, sampling) as video:
        first, count = segment_range(video, segment)
        indices = first + sampling.evaluation_indices(count, video.info.fps, num_clips)
        yield from _frames(video, indices, sampling, count, tolerated_damage)


def clip_parts(path, sampling, num_clips, segment=None):
    """The frames of evenly spread clips, clip after clip, though clips overlap.

    Args:
        path: path of the file.
        sampling: ClipSampling.
        num_clips: int.
        segment: see `training_frames`.

    Yields:
        ClipFrames with all clips, then their frames in parts, uint8 (k, H, W, 3); a part is of one
        clip.

    Raises:
        DecodeError: as `training_frames`.
    """
    with _open(path, sampling) as video:
        info = video.info
        first, count = segment_range(video, segment)
        indices = first + sampling.evaluation_indices(count, info.fps, num_clips)
        padded = _refuse_short(video, sampling, count)
        facts = _clip_frames(info, indices, np.arange(indices.size), indices.size, padded)
        yield facts
        step = _part_length(info)
        # Frames that later clips have too are kept by this.
        yield from video.clips_at_indices(
            [clip[start : start + step] for clip in indices for start in range(0, len(clip), step)]
        )


def _open(path, sampling):
    """`open_source`, or `open_image` for a model of one frame."""
    one_frame = sampling.num_frames == 1
    return open_image(path) if one_frame and is_image(path) else open_source(path)


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


def _frames(video, indices, sampling, count, tolerated_damage):
    info = video.info
    padded = _refuse_short(video, sampling, count)
    distinct, picks = np.unique(indices, return_inverse=True)
    facts = _clip_frames(info, indices, picks, len(distinct), padded)
    yield facts
    step = _part_length(info)
    damage = _Damage(facts, tolerated_damage)
    for start in range(0, len(distinct), step):
        part = distinct[start : start + step]
        try:
            yield video.frames_at_indices(part)
        except DecodeError as error:
            if not damage.is_tolerable(error):
                raise
            video.go_on_after_damage()
            yield from _decodable_frames(video, part, start, damage)
    if damage.lost.any():
        yield damage.mended_facts()


def _clip_frames(info, indices, picks, num_frames, padded):
    return ClipFrames(
        picks=picks.reshape(indices.shape),
        num_frames=num_frames,
        padded=padded,
        width=info.width,
        height=info.height,
        moments=indices / info.fps,
    )


def _part_length(info):
    """Frames in a part."""
    return max(_PART_BYTES // (3 * info.width * info.height), 1)


def _decodable_frames(video, indices, start, damage):
    """Those of a part that can be decoded, one by one; `start` is the number of the first."""
    for number, index in enumerate(indices, start):
        try:
            frame = video.frames_at_indices([index])
        except DecodeError as error:
            damage.add(number, error)
            video.go_on_after_damage()
        else:
            yield frame


class _Damage:
    """Which distinct frames of a video's clips are lost, within what is tolerated.

    Attributes:
        lost: bool (num_frames,).
    """

    def __init__(self, facts, tolerated):
        self._facts = facts
        self._tolerated = tolerated
        self._reason = ""
        self.lost = np.zeros(facts.num_frames, bool)

    def is_tolerable(self, error):
        """Whether the frames are damaged, and some damage is allowed."""
        return self._tolerated > 0 and error.outcome == "decode_error"

    def add(self, number, error):
        """Notes that a frame is lost.

        Raises:
            DecodeError: `error`, where it is of another kind or a clip has lost too many.
        """
        self.lost[number] = True
        most = self.lost[self._facts.picks].mean(axis=1).max()
        if not self.is_tolerable(error) or most > self._tolerated:
            raise error
        self._reason = self._reason or error.detail

    def mended_facts(self):
        """The ClipFrames by which the nearest decoded frame of a clip stands for a lost one."""
        decoded_numbers = np.cumsum(~self.lost) - 1
        mended = np.empty_like(self._facts.picks)
        for clip, picks in enumerate(self._facts.picks):
            there = np.flatnonzero(~self.lost[picks])
            # Of two at the same distance the earlier.
            nearest = abs(np.arange(len(picks))[:, None] - there).argmin(axis=1)
            mended[clip] = decoded_numbers[picks[there[nearest]]]
        return dataclasses.replace(
            self._facts,
            picks=mended,
            num_frames=int((~self.lost).sum()),
            damaged=float(self.lost[self._facts.picks].mean()),
            damage=self._reason,
        )


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


def whole_clips(items):
    """Puts together what `clip_parts` yields, one clip at a time.

    Args:
        items: the generator that it is.

    Yields:
        uint8 array (T, H, W, 3) for each clip.
    """
    # Closed whatever happens: a worker is held until then.
    with contextlib.closing(items):
        num_frames = next(items).picks.shape[1]
        clip = None
        for part in items:
            if clip is None:
                clip, done = np.empty((num_frames, *part.shape[1:]), np.uint8), 0
            clip[done : done + len(part)] = part
            done += len(part)
            if done == num_frames:
                yield clip
                clip = None  # Not held while the next one is filled: large clips are large.


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
            if isinstance(frames, ClipFrames):
                facts = frames
                continue
            part = shrink(frames, facts)
            if not done:
                distinct = np.empty((facts.num_frames, *part.shape[1:]), part.dtype)
            distinct[done : done + len(part)] = part
            done += len(part)
    return distinct[:done], facts
