"""Which frames of a video make a clip: pure arithmetic on frame indices.

Frame index ``i`` stands for the moment ``i / fps`` after the video's first frame; `decoding`
turns it into the picture shown at that moment.
"""

import dataclasses
import math
from typing import Literal

import numpy as np

from mvit_tf.errors import UserError
from mvit_tf.typed import Count, Positive, frozen_dataclass

# An index that is whole on paper may come out just below it in floating point.
ROUNDING_GUARD = 1e-6


@frozen_dataclass
class ClipSampling:
    """The rule that picks the `num_frames` frames of a clip.

    A clip spans ``num_frames * sampling_rate / target_fps`` seconds whatever the video's own
    frame rate. The rule "linspace" is SlowFast's (`slowfast/datasets/decoder.py`): the frames
    run evenly from the first to the last of the span, so 16x4 at 30 frames a second takes
    0, 4, 8, 12, 16, 21, ..., 63, a step of 4.2. The rule "stride" takes 0, 4, 8, ..., 60.

    The rule "segments" is that of Something-Something (`slowfast/datasets/ssv2.py`): the whole
    video in `num_frames` equal segments, a random frame of each in training and the middle one
    in evaluation, where there is only one such clip. It has no use for rate and frame rate.

    Args:
        num_frames: int. Frames in a clip, T.
        sampling_rate: float. Step between frames, counted at `target_fps`.
        target_fps: float. Frames a second that `sampling_rate` refers to.
        rule: "linspace", "stride" or "segments".
        short_videos: what a video shorter than a clip does: "repeat_last" repeats its last frame,
            "loop" begins again, "reject" counts as one that cannot be decoded.

    Raises:
        UserError: a value out of range.
    """

    num_frames: Count
    sampling_rate: Positive = 4.0
    target_fps: Positive = 30.0
    rule: Literal["linspace", "stride", "segments"] = "linspace"
    short_videos: Literal["repeat_last", "loop", "reject"] = "repeat_last"

    def span(self, fps):
        """Length of a clip in frames of a video of `fps` frames a second (float)."""
        return self.num_frames * self.sampling_rate * fps / self.target_fps

    def random_start(self, num_video_frames, fps, rng):
        """Start of a training clip: uniform over every start that keeps the span inside.

        Args:
            num_video_frames: int. Frames in the video.
            fps: float. The video's frames a second.
            rng: numpy.random.Generator.

        Returns:
            float, the frame index at which the clip starts; 0 for a video shorter than a clip.
        """
        return float(rng.uniform(0.0, self._slack(num_video_frames, fps)))

    def uniform_starts(self, num_video_frames, fps, num_clips):
        """Starts of the `num_clips` evaluation clips: evenly spread, the middle for one clip.

        SlowFast's test rule with ``USE_OFFSET_SAMPLING``: ``k * floor(slack / (num_clips - 1))``.

        Returns:
            int64 array (num_clips,).

        Raises:
            UserError: `num_clips` below 1.
        """
        if num_clips < 1:
            raise UserError(f"num_clips must be at least 1, not {num_clips}")
        slack = self._slack(num_video_frames, fps)
        if num_clips == 1:
            return np.array([int(slack / 2)], np.int64)
        return np.arange(num_clips, dtype=np.int64) * int(slack / (num_clips - 1))

    def indices(self, start, num_video_frames, fps):
        """Frame indices of the clip that starts at `start`, held inside the video.

        Returns:
            int64 array (num_frames,), never decreasing but where a short video begins again.
        """
        span = self.span(fps)
        if self.rule == "linspace":
            positions = np.linspace(start, start + span - 1, self.num_frames)
        else:
            positions = start + np.arange(self.num_frames) * (span / self.num_frames)
        whole = np.floor(positions + ROUNDING_GUARD).astype(np.int64)
        # A span under one frame would make "linspace" run backwards.
        whole = np.maximum.accumulate(np.maximum(whole, 0))
        if self.short_videos == "loop" and self.is_longer_than(num_video_frames, fps):
            return whole % num_video_frames
        return np.minimum(whole, num_video_frames - 1)

    def is_longer_than(self, num_video_frames, fps):
        """Whether a clip has more frames than a video, so that some come twice."""
        if self.rule == "segments":
            return num_video_frames < self.num_frames
        return num_video_frames < math.floor(self.span(fps))

    def training_indices(self, num_video_frames, fps, rng):
        """Frame indices of one random clip, int64 (num_frames,)."""
        if self.rule == "segments":
            first, last = self._segments(num_video_frames)
            return rng.integers(first, last, endpoint=True)
        start = self.random_start(num_video_frames, fps, rng)
        return self.indices(start, num_video_frames, fps)

    def evaluation_indices(self, num_video_frames, fps, num_clips):
        """Frame indices of evenly spread clips, int64 (num_clips, num_frames).

        Raises:
            UserError: `num_clips` below 1, or above 1 by the rule "segments".
        """
        if self.rule == "segments":
            if num_clips != 1:
                raise UserError(
                    f"the sampling rule 'segments' has one evaluation clip, not {num_clips}: "
                    "others would hold the same frames"
                )
            first, last = self._segments(num_video_frames)
            return ((first + last) // 2)[None]
        starts = self.uniform_starts(num_video_frames, fps, num_clips)
        return np.stack([self.indices(start, num_video_frames, fps) for start in starts])

    def to_dict(self):
        """The fields as plain data, for JSON or YAML."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields):
        """The inverse of `to_dict`."""
        return cls(**fields)

    def _segments(self, num_video_frames):
        """First and last frame index of each segment, two int64 arrays (num_frames,)."""
        length = (num_video_frames - 1) / self.num_frames
        edges = np.round(length * np.arange(self.num_frames + 1)).astype(np.int64)
        return edges[:-1], edges[1:]

    def _slack(self, num_video_frames, fps):
        """How many frames the video is longer than a clip; 0 if it is shorter."""
        return max(num_video_frames - self.span(fps), 0.0)
