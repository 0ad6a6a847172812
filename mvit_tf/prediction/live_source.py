"""Frames of a camera, a stream or a played file as they come, without a queue that grows.

Imports no TensorFlow: `live_frames` runs in a decode worker.
"""

import dataclasses
import os
import time

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from mvit_tf.data.video.display import Display
from mvit_tf.data.video.video_file import DecodeError, check_file, read_packets, video_stream
from mvit_tf.errors import UserError
from mvit_tf.files import one_line
from mvit_tf.urls import scheme, without_secrets

SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "srt")
_CAMERA = "/dev/video"
# What a stream may in turn make FFmpeg open; no files of this machine.
_PROTOCOLS = "http,https,httpproxy,tls,tcp,udp,rtp,rtsp,rtmp,srt,crypto,data"
_OPTIONS = {
    "protocol_whitelist": _PROTOCOLS,
    # Seconds of a stream are else read before its first frame comes.
    "fflags": "nobuffer",
    "analyzeduration": "1000000",
    "rtsp_transport": "tcp",
    "overrun_nonfatal": "1",
}
# Time stamps that go back by so many seconds, or ahead of the clock on the wall, start anew.
_STEP_BACK, _STEP_AHEAD = 1.0, 5.0
# Whoever waits for the frames hears of it at least so often, in seconds.
_SIGN_OF_LIFE = 1.0
_MOST_FAILED_READS = 100
# How FFmpeg says that it was waited for too long.
_STALLED = (av.error.ExitError, av.error.TimeoutError)
# Seconds for connecting and finding the streams, which takes longer than a frame.
_LEAST_PATIENCE_AT_FIRST = 15.0


@dataclasses.dataclass(frozen=True, eq=False)
class LiveFrame:
    """A frame of a live source.

    Args:
        moment: float, seconds after the connection's first frame, on the source's clock.
        captured: float, `time.monotonic()` when it would have come had nothing been waiting.
        picture: uint8 (H, W, 3), RGB, turned for show.
        num_skipped: int, frames so far that were not decoded, to catch up.
    """

    moment: float
    captured: float
    picture: np.ndarray
    num_skipped: int


def check_source(source):
    """Refuses what no live source can be.

    Raises:
        UserError: a URL of another scheme, or no such file or camera.
    """
    kind = scheme(source)
    if kind is not None and kind not in SCHEMES:
        raise UserError(
            f"--live {without_secrets(source)}: {kind}:// is no live source; give a camera such as "
            f"/dev/video0, a URL of {', '.join(SCHEMES)}, or a file, which is played"
        )
    if kind is None and not source.startswith(_CAMERA):
        check_file(source)
    elif kind is None and not os.path.exists(source):
        raise UserError(f"--live {source}: no such camera")


def live_frames(source, spacing, patience, most_behind):
    """The frames of a live source, one every `spacing` seconds; for `DecodeWorkers.run`.

    A file is played at its own speed. Where decoding falls behind the source, everything up to the
    next keyframe is passed over without decoding.

    Args:
        source: str, see `check_source`.
        spacing: float, seconds from a frame to the next; those between are not converted.
        patience: float, seconds without data after which a source has stalled.
        most_behind: float, seconds behind from which on frames are passed over.

    Yields:
        LiveFrame, and None now and then; ends where the source does.

    Raises:
        DecodeError: it cannot be opened, or stalls ("decoder_timeout"), or breaks off.
    """
    with _open(source, patience) as container:
        stream = video_stream(source, container)
        clock = _SourceClock(played=os.path.isfile(source))
        reformatter, size, display = VideoReformatter(), None, None
        due, told, skipping, num_skipped = 0.0, time.monotonic(), False, 0
        for packet in _packets(source, container, stream):
            if skipping and packet.size and not packet.is_keyframe:
                num_skipped += 1
                continue
            for picture in _decoded(packet):
                moment, behind = clock.place(picture)
                skipping = behind > (most_behind / 4 if skipping else most_behind)
                now = time.monotonic()
                if moment < due - 1e-3:
                    if now - told > _SIGN_OF_LIFE:
                        told = now
                        yield None
                    continue
                due = max(due + spacing, moment)
                if size is None:
                    size, display = (picture.width, picture.height), Display.of(picture)
                rgb = reformatter.reformat(picture, *size, format="rgb24", threads=1)
                told = now
                yield LiveFrame(moment, now - behind, display.apply(rgb.to_ndarray()), num_skipped)


class _SourceClock:
    """When the frames of a source would come if nothing had to wait.

    Args:
        played: bool. A file: each frame is waited for until its time has come.
    """

    def __init__(self, played):
        self._played = played
        self._last = self._origin = None

    def place(self, picture):
        """(moment of a frame, seconds that it is behind)."""
        now = time.monotonic()
        stamp = now if picture.time is None else float(picture.time)
        last, self._last = self._last, (stamp, now)
        jumped = last is not None and (
            stamp < last[0] - _STEP_BACK or stamp - last[0] > now - last[1] + _STEP_AHEAD
        )
        if self._origin is None or jumped:
            # Moments go on where they were.
            moment = 0.0 if last is None else last[0] - self._first + (now - last[1])
            self._first = stamp - moment
            self._origin = now - moment
        moment = stamp - self._first
        behind = now - self._origin - moment
        if self._played and behind < 0:
            time.sleep(-behind)
            behind = 0.0
        elif behind < 0:
            # The frame that had to wait least tells when the others should have come.
            self._origin += behind
            behind = 0.0
        return moment, behind


def _open(source, patience):
    kind = scheme(source)
    options, name, form = {}, source, None
    if kind is not None:
        options = _OPTIONS
    elif source.startswith(_CAMERA):
        form = "v4l2"
    else:
        name = f"file:{source}"
    try:
        return av.open(
            name,
            format=form,
            options=options,
            timeout=(max(patience, _LEAST_PATIENCE_AT_FIRST), patience),
            metadata_errors="replace",
        )
    except (av.FFmpegError, ValueError) as error:
        silent = isinstance(error, _STALLED)
        reason = "it gives nothing" if silent else getattr(error, "strerror", None) or error
        detail = one_line(f"cannot be opened as a live source: {reason}")
        raise DecodeError(source, "container_error", detail) from None


def _packets(source, container, stream):
    failures = 0
    while True:
        try:
            for packet in read_packets(container, stream):
                failures = 0
                yield packet
            return
        except av.error.InvalidDataError as error:  # A damaged packet; others follow.
            failures += 1
            if failures == _MOST_FAILED_READS:
                raise DecodeError(source, "decode_error", error.strerror) from None
        except av.FFmpegError as error:
            stalled = isinstance(error, _STALLED)
            outcome = "decoder_timeout" if stalled else "decode_error"
            detail = "gives nothing any more" if stalled else f"broke off: {error.strerror}"
            raise DecodeError(source, outcome, detail) from None


def _decoded(packet):
    try:
        yield from packet.decode()
    except av.FFmpegError:  # Lost data: the next keyframe mends it.
        return
