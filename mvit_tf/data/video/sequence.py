"""Every frame of a video in order, decoded once from start to end, whatever its length."""

import dataclasses
import os

import av

from mvit_tf.data.video.decoding import VideoInfo, open_video
from mvit_tf.data.video.display import RgbConverter
from mvit_tf.data.video.frame_clock import FrameClock
from mvit_tf.data.video.scan import SUSPECT, decode_all
from mvit_tf.data.video.timing import TAIL_TOLERANCE
from mvit_tf.data.video.video_file import open_container, video_stream

# Problems that are told one by one.
_MOST_PROBLEMS = 20


@dataclasses.dataclass(frozen=True, eq=False)
class ShownFrame:
    """A frame on the video's clock.

    Args:
        picture: av.VideoFrame, as stored; `FrameSequence.rgb` turns it for show.
        start, end: float, seconds after the video's first frame.
    """

    picture: av.VideoFrame
    start: float
    end: float


class FrameSequence:
    """A video that is read once from start to end, made by `open_sequence`.

    Attributes:
        info: VideoInfo.
        start_time: float, seconds. The first frame's time on the file's own clock.
        problems: list of str, what is wrong and where; grows while `frames` is read.
    """

    def __init__(self, path: str, info: VideoInfo, clock: FrameClock):
        self.path = path
        self.info = info
        self.start_time = clock.start_time
        self.problems = []
        self._clock = clock
        self._rgb = None

    def frames(self):
        """Yields a ShownFrame for each sound frame; goes on after damage, as players do."""
        last = None
        with open_container(self.path) as container:
            for picture, damage in decode_all(container, video_stream(self.path, container)):
                if damage and damage != SUSPECT:
                    self._note(f"damaged at {last.end if last else 0.0:.2f} s: {damage}")
                if picture is None or (damage and damage != SUSPECT):
                    continue
                if self._rgb is None:
                    self._rgb = RgbConverter(self.path, picture)
                frame = self._clock.place(picture, last)
                # Time stamps that run backwards: no player shows such a frame.
                if last and frame.start < last.start:
                    continue
                last = frame
                yield ShownFrame(picture, frame.start, frame.end)
        reached = last.end if last else 0.0
        if self.info.duration - reached > TAIL_TOLERANCE:
            self._note(f"ends after {reached:.2f} of {self.info.duration:.2f} s")

    def rgb(self, frame):
        """The picture of a ShownFrame: uint8 (height, width, 3), RGB, turned for show.

        Raises:
            DecodeError: it cannot be converted.
        """
        return self._rgb(frame.picture)

    def _note(self, problem):
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(problem)


def open_sequence(path):
    """A video for one reading from start to end.

    Args:
        path: path of the file.

    Returns:
        FrameSequence.

    Raises:
        DecodeError: as `open_video`.
    """
    path = os.fspath(path)
    with open_video(path) as video:
        return FrameSequence(path, video.info, video.clock)
