"""Frames of a video file at given moments, by PyAV (FFmpeg).

Frames are picked by their time stamps, never by counting packets, so B-frames, variable frame
rates and seeks give the picture a player would show at that moment. A file that cannot give
what was asked raises `DecodeError`; nothing is made up to fill a hole. FFmpeg's own log stays
off, as PyAV leaves it: what matters in it reaches the caller as an exception.
"""

import contextlib
import dataclasses
import math
import os

import av
import numpy as np
from av.video.frame import PictureType

from mvit_tf.data.video.display import Display, RgbConverter
from mvit_tf.data.video.frame_clock import FrameClock
from mvit_tf.data.video.timing import TAIL_TOLERANCE, video_timing
from mvit_tf.data.video.video_file import (
    OUTCOMES,
    DecodeError,
    check_file,
    open_container,
    read_packets,
    stamps_by_dts,
    video_stream,
)

__all__ = ["OUTCOMES", "DecodeError", "VideoInfo", "VideoReader", "open_video"]

# A frame stamped up to this share of a frame period late still counts as on time.
_LATENESS = 0.25
# Decoders may hold frames back, so a seek aims this many frame periods early. Where the file has
# no index, it may end between keyframes: then the next try aims seconds earlier.
_SEEK_MARGIN = 3
_EARLIER_SEEKS = (0.0, 2.5, 12.0)
# Where the file has no index of keyframes, only a gap this long is worth a seek, in seconds.
_BLIND_SEEK_GAP = 10.0


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """What is known of a video before its frames are decoded.

    Args:
        codec: str, FFmpeg's name of the format of the stream, such as "h264".
        fps: float, average frames a second.
        num_frames: int; frame indices run from 0 to ``num_frames - 1``.
        duration: float, seconds.
        width, height: int, pixels as shown, that is after rotation.
        rotation: int, degrees counterclockwise by which the stored frames are turned for show.
    """

    codec: str
    fps: float
    num_frames: int
    duration: float
    width: int
    height: int
    rotation: int


@contextlib.contextmanager
def open_video(path):
    """Opens a video for reading, and closes it again in every case.

    Args:
        path: path of the file.

    Yields:
        VideoReader.

    Raises:
        DecodeError: the file is missing, empty, a pipe, not a video, or has no decodable frame.
    """
    path = os.fspath(path)
    check_file(path)
    reader = VideoReader(path)
    try:
        reader.open()
        yield reader
    finally:
        reader.close()


class VideoReader:
    """An open video, made by `open_video`; for use by one thread at a time.

    Attributes:
        path: str.
        info: VideoInfo.
        clock: FrameClock.
    """

    def __init__(self, path):
        self.path = path
        self._container = self._pictures = None
        self._may_skip = False

    def open(self):
        """Opens the file, decodes its first frame and finds its rate and length."""
        self._open()
        self.clock = FrameClock(self._stream, stamps_by_dts(self._container))
        first = next(self._pictures, None)
        if first is None:
            reason = self._damage or "the video stream is empty"
            raise DecodeError(self.path, "no_frames", f"no frame can be decoded: {reason}")
        self._rgb = RgbConverter(self.path, first)
        start_stamp = self.clock.stamp(first)
        timing = video_timing(self.path, self._container, self._stream, start_stamp)
        self.clock.start(first, timing)
        self._period = 1 / timing.fps
        # Time stamps after a seek in an MPEG program stream may be a frame off, and those of
        # joined files come more than once.
        is_program_stream = self._container.format.name == "mpeg"
        self._margin = _SEEK_MARGIN
        self._may_seek = not (is_program_stream or start_stamp is None or timing.joints)
        self._seekable = self._may_seek
        # Of other codecs FFmpeg's word for it is not that nothing builds on a picture.
        is_h264 = self._stream.codec_context.codec.canonical_name == "h264"
        self._may_skip = is_h264 and self._may_seek and not stamps_by_dts(self._container)
        self._shown, self._pending = None, self.clock.place(first, None)
        display = Display.of(first)
        width, height = display.size(first.width, first.height)
        self.info = VideoInfo(
            codec=self._stream.codec_context.codec.canonical_name,
            fps=timing.fps,
            num_frames=timing.num_frames,
            duration=timing.num_frames / timing.fps,
            width=width,
            height=height,
            rotation=display.rotation,
        )

    def close(self):
        """Closes the file and lets go of all frames; harmless where it is closed."""
        if self._pictures:
            self._pictures.close()
        self._shown = self._pending = self._pictures = None
        if self._container:
            self._container.close()

    def frames_at_indices(self, indices):
        """The pictures shown at the moments ``index / fps`` after the first frame.

        Each is the last frame whose time stamp is not later than that moment, give or take a
        quarter of a frame period. The file is decoded forward once, from the keyframe before
        the first moment, and only the frames asked for are converted to RGB.

        Args:
            indices: sequence of int in any order, with or without repeats; those outside the
                video are moved to its first or last frame.

        Returns:
            uint8 array (len(indices), height, width, 3), RGB, turned for show.

        Raises:
            DecodeError: the file is damaged, or ends, before the last frame asked for.
        """
        return next(self.clips_at_indices([indices]))

    def clips_at_indices(self, clips):
        """Yields the frames of several clips, one clip after the other.

        Clips may overlap: where each starts and ends no earlier than the one before it, the file
        is still decoded once only. Frames of later clips that come up on the way are kept, as
        RGB, until their last clip has had them, so no more are held than a clip and its overlap.

        Args:
            clips: sequence of sequences of int, the frame indices of each clip, as for
                `frames_at_indices`.

        Yields:
            uint8 array (len(indices), height, width, 3) for each clip's `indices`.

        Raises:
            DecodeError: as by `frames_at_indices`; the clips before have been yielded.
        """
        last = self.info.num_frames - 1
        clips = [np.clip(np.asarray(indices, np.int64), 0, last) for indices in clips]
        last_use = {index: n for n, clip in enumerate(clips) for index in clip.tolist()}
        kept = {}
        for number, clip in enumerate(clips):
            frames = np.empty((len(clip), self.info.height, self.info.width, 3), np.uint8)
            end = clip.max(initial=-1)
            for index in sorted(index for index in last_use if index <= end):
                frame = kept.pop(index, None)
                if frame is None:
                    frame = self._rgb(self._frame_at(index * self._period).picture)
                frames[clip == index] = frame
                if last_use[index] > number:
                    kept[index] = frame
                else:
                    del last_use[index]
            yield frames

    def go_on_after_damage(self):
        """After a DecodeError of damaged frames, lets those behind the next keyframe be decoded."""
        self._seekable = self._may_seek
        self._shown = self._pending = None
        # Aiming early would meet the damage again just behind it.
        self._margin = 0

    def _frame_at(self, moment):
        """The frame shown at `moment`, in seconds after the first frame."""
        self._wanted = self.clock.stamp_at(moment) - 1  # The rounding must not be upwards.
        position = self._shown or self._pending
        behind = position is None or position.start > moment + _LATENESS * self._period
        if behind or self._keyframe_between(position.start, moment):
            self._restart(moment)
        frame = self._advance(moment)
        if frame is None and self._seekable:
            # A seek may have missed or met damage; what counts is decoding from the start.
            self._seekable = False
            self._restart(0.0)
            frame = self._advance(moment)
        if frame is None:
            raise self._failure()
        return frame

    def _advance(self, moment):
        """Decodes up to `moment`; None where what can be decoded does not reach it."""
        while self._pending and self._pending.start <= moment + _LATENESS * self._period:
            self._shown, self._pending = self._pending, self._next(self._pending)
        if self._pending or self._shown is None:
            return self._shown
        covered = moment < self._shown.end
        at_tail = self.info.duration - self._shown.end <= TAIL_TOLERANCE
        return self._shown if covered or at_tail else None

    def _keyframe_between(self, position, moment):
        """Whether a seek to `moment` would skip frames that follow `position`."""
        if not self._seekable:
            return False
        if moment - position > _BLIND_SEEK_GAP:
            return True
        entries = self._stream.index_entries
        found = entries.search_timestamp(self._seek_stamp(moment))
        return found >= 0 and entries[found].timestamp > self.clock.stamp_at(position)

    def _open(self):
        """Opens the file anew, at its start."""
        self.close()
        self._container = open_container(self.path)
        self._stream = video_stream(self.path, self._container)
        self._damage = None
        self._pictures = self._decode()

    def _restart(self, moment):
        """Goes on decoding at the keyframe before `moment`, or at the start of the file."""
        for earlier in _EARLIER_SEEKS:
            self._shown = self._pending = None
            target = self._seek_stamp(moment - earlier)
            if not self._seekable or target <= self.clock.first_stamp:
                break
            if self._seek(target) and self._pending and self._pending.start <= moment:
                return
        self._open()
        self._pending = self._next(None)

    def _seek(self, target):
        """Whether decoding can go on at the keyframe before the time stamp `target`."""
        try:
            self._container.seek(target, stream=self._stream)
        except av.FFmpegError:
            return False
        self._damage = None
        self._pictures = self._decode()
        self._pending = self._next(None)
        # B-frames shown before the keyframe may build on pictures that were passed over.
        while self._pending and self._pending.picture.pict_type == PictureType.B:
            self._pending = self._next(self._pending)
        # A keyframe that is itself a P-frame builds on others: what follows it is not exact.
        if self._pending and self._pending.picture.pict_type == PictureType.P:
            self._seekable = False
        return self._seekable

    def _seek_stamp(self, moment):
        return self.clock.stamp_at(moment - self._margin * self._period)

    def _decode(self):
        """Yields pictures from where the container stands until its end or the first damage.

        Those that no other builds on and that are shown before another one, which itself is not
        after the moment wanted, are passed over: with B-frames, a third of the work and more.
        """
        shown_later = -math.inf
        try:
            for packet in read_packets(self._container, self._stream):
                if self._may_skip and packet.pts is not None:
                    self._skip(packet.pts < shown_later)
                    if packet.pts <= self._wanted:
                        shown_later = max(shown_later, packet.pts)
                for picture in packet.decode():
                    if picture.is_corrupt:
                        self._damage = "a damaged frame"
                        return
                    yield picture
        except av.FFmpegError as error:
            self._damage = error.strerror

    def _skip(self, pass_over):
        context = self._stream.codec_context
        discard = "NONREF" if pass_over else "DEFAULT"
        if context.skip_frame != discard:
            context.skip_frame = discard

    def _next(self, last):
        """The TimedFrame after `last`; None at the end and at damage."""
        picture = next(self._pictures, None)
        return None if picture is None else self.clock.place(picture, last)

    def _failure(self):
        reached = self._shown.end if self._shown else 0.0
        reach = f"{reached:.2f} of {self.info.duration:.2f} s"
        if self._damage and self.clock.joined:
            detail = f"can be read up to {reach} only, where another file is joined to it"
        elif self._damage:
            detail = f"can be read up to {reach} only: {self._damage}"
        else:
            detail = f"ends after {reach}: the file is cut off"
        return DecodeError(self.path, "decode_error", detail)
