"""Frame rate and length of a video, from its frames' time stamps.

Headers are believed only where the stamps bear them out. MP4, MOV and AVI carry a table of all
frames, which costs nothing to look at; of other files all packets are read, without decoding
them, except for large Matroska files whose first and last packets agree with the header.
"""

import contextlib
import dataclasses
import math
import os

import av
import numpy as np

from mvit_tf.data.remote import file_size, open_file
from mvit_tf.data.video.video_file import (
    open_container,
    reachable,
    read_packets,
    stamps_by_dts,
)

# Steps of the time stamps that tell two joined files from a video with gaps, in seconds.
_STEP_BACK = 0.1
_STEP_AHEAD = 10.0
# Shares by which frame count and frame distance may miss a header's rate, for lost packets.
_COUNT_TOLERANCE = 0.1
_DISTANCE_TOLERANCE = 0.004
_FALLBACK_FPS = 30.0
_HIGHEST_UNPROVEN_FPS = 1000.0
# Time missing at a file's end that counts as an inexact header, not as damage, in seconds.
TAIL_TOLERANCE = 0.25
# Matroska files from this size on are not read whole, in bytes.
_LARGE = 4 << 20
_PROBE_PACKETS = 200
# Formats whose header states a length; of others FFmpeg's is an estimate.
_STATING_FORMATS = ("matroska,webm", "flv", "asf")
_TS_DISCONT = 0x0200  # libavformat's AVFMT_TS_DISCONT.


@dataclasses.dataclass(frozen=True)
class VideoTiming:
    """Rate and length of a video stream.

    Args:
        fps: float, average frames a second.
        num_frames: int, at least 1.
        joints: tuple (back, ahead) of float where the file is several joined ones whose time
            stamps start anew: steps of the stamps beyond these, in seconds, are such joints.
            None for all other files.
    """

    fps: float
    num_frames: int
    joints: tuple | None = None


def video_timing(path, container, stream, start_stamp):
    """Finds rate and length.

    Args:
        path: str, the file.
        container: av.container.InputContainer, open on it; left where it stands.
        stream: av.VideoStream of it.
        start_stamp: int or None, time stamp of the first frame that can be decoded.

    Returns:
        VideoTiming.
    """
    if container.format.name == "matroska,webm" and file_size(path) >= _LARGE:
        timing = _timing_by_samples(path, container, stream, start_stamp)
        if timing:
            return timing
    extent = _indexed_extent(path, container, stream, start_stamp)
    extent = extent or _read_extent(path, stream, start_stamp)
    rate = _proven_rate(stream, extent)
    if rate is None and (extent.span <= 0 or not extent.num_frames):
        return VideoTiming(_unproven_rate(stream), max(extent.num_frames, 1), extent.joints)
    rate = rate or extent.num_frames / extent.span
    num_frames = round((extent.span + extent.missing) * rate)
    return VideoTiming(rate, max(num_frames, 1), extent.joints)


@dataclasses.dataclass(frozen=True)
class _Extent:
    """What the frames' time stamps say.

    Args:
        num_frames: int, frames shown.
        span: float, seconds that they are shown; 0 if unknown.
        distance: float, typical seconds from one frame to the next; 0 if unknown.
        missing: float, seconds by which the header says that the file is longer.
        joints: as of `VideoTiming`.
    """

    num_frames: int
    span: float = 0.0
    distance: float = 0.0
    missing: float = 0.0
    joints: tuple | None = None


def _indexed_extent(path, container, stream, start_stamp):
    """The _Extent by the file's table of frames; None where that may be incomplete."""
    is_avi, is_mov = container.format.name == "avi", container.format.name.startswith("mov,")
    if not (is_avi or is_mov) or not stream.frames or not stream.duration:
        return None
    if is_avi and len(stream.index_entries) < stream.frames:
        return None
    if is_mov and (start_stamp != stream.start_time or _is_fragmented(path)):
        return None
    entries, num_frames, tick = stream.index_entries, stream.frames, float(stream.time_base)
    if is_avi:  # An empty entry repeats the picture before it.
        stamps = [entry.timestamp for entry in entries if entry.size]
        num_frames = len(stamps)
    else:
        # An edit list may hide frames, or show some twice; the stated length does not know it.
        hidden = len(entries) != num_frames or entries[0].is_discard or entries[-1].is_discard
        if hidden or stream.start_time > 0:
            return None
        sampled = [*range(min(num_frames, _PROBE_PACKETS)), num_frames - 1]
        stamps = [entries[i].timestamp for i in sampled]
    if not stamps or stream.duration <= stamps[-1] - stamps[0]:
        return None
    distance = _typical_distance(np.diff(stamps) * tick)
    return _Extent(num_frames, stream.duration * tick, distance)


def _is_fragmented(path):
    """Whether an MP4 file has fragments, whose frames its first table does not know."""
    with reachable(path), open_file(path) as file:
        while len(header := file.read(16)) >= 8:
            size, kind = int.from_bytes(header[:4]), header[4:8]
            if kind == b"moof":
                return True
            if size == 1:  # The size does not fit in four bytes and follows.
                size = int.from_bytes(header[8:])
            if size < 8:
                break
            file.seek(size - len(header), os.SEEK_CUR)
    return False


def _timing_by_samples(path, container, stream, start_stamp):
    """The VideoTiming by the first and the last packets; None where the header does not fit."""
    stated = (container.duration or 0) / av.time_base
    rate = _proven_rate(stream, _read_extent(path, stream, start_stamp, limit=_PROBE_PACKETS))
    if not (stated and rate and start_stamp is not None):
        return None
    tick, end = float(stream.time_base), 0.0
    with open_container(path) as tail, contextlib.suppress(av.FFmpegError):
        tail.seek(round(stated / tick), stream=tail.streams[stream.index])
        for packet in read_packets(tail, tail.streams[stream.index]):
            if packet.pts is not None:
                end = max(end, packet.pts * tick + 1 / rate)
    if end < stated - TAIL_TOLERANCE:
        return None
    return VideoTiming(rate, max(round((end - start_stamp * tick) * rate), 1))


def _read_extent(path, stream, start_stamp, limit=math.inf):
    """The _Extent by the packets of the file, or by the first `limit` of the stream's."""
    stamped, num_unstamped, file_end, order = [], 0, 0.0, math.nan
    with open_container(path) as container:
        by_dts = stamps_by_dts(container)
        ticks = [float(stream.time_base or 0) for stream in container.streams]
        with contextlib.suppress(av.FFmpegError):  # Damage: the packets before it count.
            for packet in read_packets(container):
                if not packet.size or packet.is_discard:
                    continue
                stamp = packet.dts if by_dts or packet.pts is None else packet.pts
                duration = packet.duration or 0
                if stamp is not None:
                    file_end = max(file_end, (stamp + duration) * ticks[packet.stream_index])
                if packet.stream_index != stream.index:
                    continue
                order = order if packet.dts is None else packet.dts
                if stamp is None:
                    num_unstamped += 1
                else:
                    stamped.append((stamp, order, duration))
                if len(stamped) >= limit:
                    break
        missing = _stated_length(container, stream) - file_end
        discontinuous = bool(int(container.format.flags) & _TS_DISCONT)
    if not stamped:
        return _Extent(num_unstamped)

    stamps, orders, durations = np.array(stamped, np.float64).T * float(stream.time_base)
    steps = np.diff(orders)
    distance = _typical_distance(steps)
    ahead = max(_STEP_AHEAD, 10 * distance) if discontinuous else math.inf
    starts = np.flatnonzero(steps < -_STEP_BACK) + 1
    joined = len(starts) or (np.diff(np.sort(stamps)) > ahead).any()
    num_frames, span = num_unstamped, 0.0
    for number, part in enumerate(np.split(np.arange(len(stamps)), starts)):
        if number == 0 and start_stamp is not None and not by_dts:
            part = part[stamps[part] >= (start_stamp - 0.5) * float(stream.time_base)]
        if len(part):
            num_frames += len(part)
            span += _shown_for(stamps[part], durations[part], distance, ahead)
    if num_unstamped > _COUNT_TOLERANCE * num_frames:
        span = 0.0
    return _Extent(
        num_frames,
        span,
        distance,
        missing if missing > TAIL_TOLERANCE else 0.0,
        (_STEP_BACK, ahead) if joined else None,
    )


def _typical_distance(steps):
    """Usual one of those steps from frame to frame, in seconds, that go forward; 0 if none does."""
    forward = steps[steps > 0]
    if not len(forward):
        return 0.0
    # The mean of those like the median: time stamps are rounded to the file's ticks.
    median = np.median(forward)
    near = forward[abs(forward - median) < median / 2]
    return float(near.mean() if len(near) else median)


def _stated_length(container, stream):
    """Seconds from the start of the file's clock to its end by the header; 0 if it is silent."""
    if container.format.name == "avi":  # FFmpeg shortens the duration of a cut file.
        return float(stream.frames * stream.time_base)
    if container.format.name in _STATING_FORMATS:
        return (container.duration or 0) / av.time_base
    return 0.0


def _shown_for(stamps, durations, distance, ahead):
    """Seconds from the first frame's appearance to the last one's end, less steps over `ahead`."""
    last = durations[stamps.argmax()]
    steps = np.diff(np.sort(stamps))
    near = steps[steps <= ahead]
    if not len(near):
        return float(last or distance) * len(stamps)
    # FFmpeg makes up durations where the file has none, or a wrong rate.
    made_up = abs(np.median(durations) - np.median(near)) > np.median(near) / 2
    last = near.mean() if made_up else max(last, distance)
    return float(near.sum() + last * (1 + len(steps) - len(near)))


def _proven_rate(stream, extent):
    """The header's frame rate where the stamps bear it out, else None."""
    if extent.span <= 0:
        return None
    for rate in _stated_rates(stream):
        miscount = abs(extent.span * rate - extent.num_frames)
        # Some frames may be lost, or be in the file without being shown.
        same_distance = abs(1 / rate - extent.distance) <= _DISTANCE_TOLERANCE * extent.distance
        if miscount <= 0.5 or (
            same_distance and miscount <= max(1, _COUNT_TOLERANCE * extent.num_frames)
        ):
            return rate
    return None


def _unproven_rate(stream):
    """A frame rate where there are no time stamps to tell it."""
    rates = (rate for rate in _stated_rates(stream) if rate <= _HIGHEST_UNPROVEN_FPS)
    return next(rates, _FALLBACK_FPS)


def _stated_rates(stream):
    rates = (stream.average_rate, stream.guessed_rate, stream.base_rate)
    return [float(rate) for rate in rates if rate and rate > 0]
