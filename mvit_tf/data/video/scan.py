"""Every frame of a video decoded once, to find damage anywhere in it."""

import dataclasses
import os

import av

from mvit_tf.data.video.decoding import VideoInfo, open_video
from mvit_tf.data.video.timing import TAIL_TOLERANCE
from mvit_tf.data.video.video_file import open_container, read_packets, video_stream

# So many failed reads in a row, without a packet between them, end a scan.
_MOST_FAILED_READS = 100
_FRAMES_A_STEP = 100
# What FFmpeg says of packets before which data is missing, as also where files were joined.
SUSPECT = "a suspect packet"
# Gaps that start so long after damage are laid to it, in seconds.
_LOSS_WINDOW = 1.0


@dataclasses.dataclass(frozen=True)
class VideoScan:
    """What came of decoding a whole video.

    Args:
        info: VideoInfo.
        num_decoded: int, frames decoded without damage.
        num_damaged: int, frames that are damaged, cannot be decoded, are missing after damage,
            or because the file is cut off.
        damaged_share: float in [0, 1], the share of `num_damaged` in both.
        detail: str, what is wrong and where; empty for a sound video.
    """

    info: VideoInfo
    num_decoded: int
    num_damaged: int
    damaged_share: float
    detail: str


def scan_video(path):
    """Decodes every frame of a video once, going on after damage, and keeps none of them.

    Args:
        path: path of the file.

    Returns:
        VideoScan.

    Raises:
        DecodeError: the file cannot be opened, or has no decodable frame before the first damage.
    """
    *_, scan = scan_steps(path)
    return scan


def scan_steps(path):
    """`scan_video` for one who waits: yields None now and then, and the VideoScan at the end.

    Raises:
        DecodeError: the file cannot be opened, or has no decodable frame before the first damage.
    """
    path = os.fspath(path)
    tally, steps = _Tally(), 0
    with open_video(path) as video, open_container(path) as container:
        info, last = video.info, None
        for picture, damage in decode_all(container, video_stream(path, container)):
            frame = video.clock.place(picture, last) if picture else None
            tally.add(last, frame, damage, info.fps)
            last = frame or last
            steps += 1
            if steps % _FRAMES_A_STEP == 0:
                yield None
    reached = last.end if last else 0.0
    problems = tally.problems
    if info.duration - reached > TAIL_TOLERANCE:
        tally.num_lost += round((info.duration - reached) * info.fps)
        problems.append(f"ends after {reached:.2f} of {info.duration:.2f} s")
    num_damaged = tally.num_damaged + max(tally.num_lost, tally.num_errors)
    share = num_damaged / max(tally.num_decoded + num_damaged, 1)
    yield VideoScan(info, tally.num_decoded, num_damaged, share, "; ".join(problems))


class _Tally:
    """Counts frames and damage."""

    def __init__(self):
        self.num_decoded = self.num_damaged = self.num_lost = self.num_errors = 0
        self.problems = []
        self._damaged_until = -1.0

    def add(self, last, frame, damage, fps):
        """Notes a frame or what is wrong; `last` is the frame before, either may be None."""
        now = last.end if last else 0.0
        # A gap says how many frames were lost, for pictures may come some time after damage.
        lost = round((frame.start - now) * fps) if frame and now <= self._damaged_until else 0
        if lost > 0:
            self.num_lost += lost
            self.problems = self.problems or [f"frames missing at {now:.2f} s"]
        if damage:
            self._damaged_until = now + _LOSS_WINDOW
        if not damage:
            self.num_decoded += frame is not None
        elif damage != SUSPECT:
            self.problems = self.problems or [f"damaged at {now:.2f} s: {damage}"]
            self.num_damaged += frame is not None
            self.num_errors += frame is None


def decode_all(container, stream):
    """Yields (picture or None, what is wrong or None) to the end of the file.

    Where the `SUSPECT` packets of a file are all that is wrong, its pictures are sound.
    """
    for packet, damage in _read_all(container, stream):
        if damage:
            yield None, damage
        if packet is None:
            continue
        try:
            for picture in packet.decode():
                yield picture, "a damaged frame" if picture.is_corrupt else None
        except av.FFmpegError as error:
            yield None, error.strerror


def _read_all(container, stream):
    """Yields (packet or None, what is wrong or None) to the end of the file."""
    failures = 0
    while failures < _MOST_FAILED_READS:
        try:
            for packet in read_packets(container, stream):
                failures = 0
                yield packet, SUSPECT if packet.is_corrupt else None
            return
        except av.FFmpegError as error:
            failures += 1
            if failures == 1:
                yield None, error.strerror
