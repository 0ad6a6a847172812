"""Every frame of a video decoded once, to find damage anywhere in it."""

import dataclasses
import os

import av

from mvit_tf.data.decoding import VideoInfo, open_video
from mvit_tf.data.video_file import open_container, video_stream
from mvit_tf.data.video_timing import TAIL_TOLERANCE

# So many failed reads in a row, without a packet between them, end a scan.
_MOST_FAILED_READS = 100


@dataclasses.dataclass(frozen=True)
class VideoScan:
    """What came of decoding a whole video.

    Args:
        info: VideoInfo.
        num_decoded: int, frames decoded without damage.
        num_damaged: int, frames that are damaged, cannot be decoded, or are missing because the
            file is cut off.
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
    path = os.fspath(path)
    num_decoded = num_damaged = 0
    problems, last = [], None
    with open_video(path) as video, open_container(path) as container:
        info = video.info
        for picture, damage in _decode_all(container, video_stream(path, container)):
            if picture:
                last = video.clock.place(picture, last)
            if damage:
                num_damaged += 1
            else:
                num_decoded += 1
            if damage and not problems:
                problems.append(f"damaged at {last.start if last else 0.0:.2f} s: {damage}")
    reached = last.end if last else 0.0
    if info.duration - reached > TAIL_TOLERANCE:
        num_damaged += round((info.duration - reached) * info.fps)
        problems.append(f"ends after {reached:.2f} of {info.duration:.2f} s")
    share = num_damaged / max(num_decoded + num_damaged, 1)
    return VideoScan(info, num_decoded, num_damaged, share, "; ".join(problems))


def _decode_all(container, stream):
    """Yields (picture or None, what is wrong with it or None) to the end of the file."""
    for packet, damage in _read_all(container, stream):
        if damage:
            yield None, damage
            continue
        try:
            for picture in packet.decode():
                yield picture, "a damaged frame" if picture.is_corrupt else None
        except av.FFmpegError as error:
            yield None, error.strerror


def _read_all(container, stream):
    """Yields (packet, None), or (None, what is wrong) where the file cannot be read."""
    failures = 0
    while failures < _MOST_FAILED_READS:
        try:
            for packet in container.demux(stream):
                failures = 0
                yield packet, None
            return
        except av.FFmpegError as error:
            failures += 1
            if failures == 1:
                yield None, error.strerror
