"""When each decoded picture of a video is shown."""

import dataclasses

import av


@dataclasses.dataclass(frozen=True, eq=False)
class TimedFrame:
    """A decoded picture, shown from `start` to `end`.

    Args:
        picture: av.VideoFrame.
        start, end: float, seconds after the video's first frame.
        offset: float, what turns its time stamp, in seconds, into `start`.
    """

    picture: av.VideoFrame
    start: float
    end: float
    offset: float


class FrameClock:
    """Places the pictures of one stream in time.

    Args:
        stream: av.VideoStream.
        by_dts: bool, whether frames go by their decoding times.
    """

    def __init__(self, stream, by_dts):
        self._tick = float(stream.time_base)
        self._by_dts = by_dts

    def start(self, picture, timing):
        """Sets the first frame and the rate: `timing` is a VideoTiming."""
        self.first_stamp = self.stamp(picture) or 0
        self._period = 1 / timing.fps
        self._joints = timing.joints

    @property
    def start_time(self):
        """The first frame's time on the file's own clock, in seconds."""
        return self.first_stamp * self._tick

    @property
    def joined(self):
        """Whether the file is several joined ones."""
        return self._joints is not None

    def stamp(self, picture):
        """Time stamp of a picture, in ticks of the stream; None where it has none."""
        if self._by_dts:  # The last frames out of a decoder may lack this one.
            return picture.dts
        return picture.dts if picture.pts is None else picture.pts

    def stamp_at(self, moment):
        """Time stamp, in ticks, of a moment in seconds after the first frame."""
        return self.first_stamp + round(moment / self._tick)

    def place(self, picture, last):
        """The TimedFrame of a picture; `last` is the one before it, None after a seek."""
        stamp = self.stamp(picture)
        offset = last.offset if last else -self.first_stamp * self._tick
        if stamp is None:
            start = last.start + self._period if last else 0.0
        else:
            start = stamp * self._tick + offset
            if last and self._is_joint(start - last.start):
                offset += last.end - start
                start = last.end
        shown_for = max((picture.duration or 0) * self._tick, self._period)
        return TimedFrame(picture, start, start + shown_for, offset)

    def _is_joint(self, step):
        """Whether the time stamps start anew after this step, in seconds, from the last frame."""
        if self._joints is None:
            return False
        back, ahead = self._joints
        return step < -back or step > ahead
