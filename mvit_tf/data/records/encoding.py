"""A video as the data of a record; runs in worker processes, without TensorFlow."""

import dataclasses
import io
import math
from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from mvit_tf.data.clips import segment_range
from mvit_tf.data.records import examples
from mvit_tf.data.records.framing import LARGEST_RECORD
from mvit_tf.data.remote import open_file
from mvit_tf.data.video.decoding import open_video
from mvit_tf.data.video.video_file import DecodeError, reachable
from mvit_tf.typed import NotNegative, frozen_dataclass

# Frames are handed on in parts of about so many bytes, as they were decoded.
_PART_BYTES = 2**25
_COPY_BYTES = 2**24
# A moment that is that of a frame on paper may come out just before it in floating point.
_ROUNDING_GUARD = 1e-6


@frozen_dataclass
class Encoding:
    """What becomes of the frames of a video in its record.

    Args:
        frames: "jpeg", each frame a JPEG picture; or "video", the file as it is.
        short_side: int. Larger frames are made so small; none is made larger. 0 keeps all.
        fps: float. Frames a second, where the video has more; 0 keeps its own rate.
        quality: int in [1, 95], of the JPEG pictures.

    Raises:
        UserError: a value out of range.
    """

    frames: Literal["jpeg", "video"] = "jpeg"
    short_side: Annotated[int, Field(ge=0)] = 256
    fps: NotNegative = 0.0
    quality: Annotated[int, Field(ge=1, le=95)] = 90


@dataclasses.dataclass(frozen=True)
class VideoFacts:
    """What a record says of the video in it.

    Args:
        fps: float, frames a second of the record.
        num_frames: int, frames in the record.
        width, height: int, pixels of them as shown.
        start, end: float, seconds of the part of the file that they are.
        format: str, of the frames or of the file.
    """

    fps: float
    num_frames: int
    width: int
    height: int
    start: float
    end: float
    format: str


def encode_video(path, segment, encoding):
    """What is to be put into the record of a video, a part at a time.

    Args:
        path: str, the file.
        segment: (start, end) in seconds of the part of it, or None for all.
        encoding: Encoding.

    Yields:
        VideoFacts, then lists of bytes: JPEG pictures, or pieces of the file.

    Raises:
        DecodeError: the video does not give every frame, or ends before the segment.
    """
    parts = _whole_file if encoding.frames == "video" else _pictures
    size = 0
    for item in parts(path, segment, encoding):
        if isinstance(item, list):
            size += sum(map(len, item))
        if size > LARGEST_RECORD:
            raise DecodeError(
                path,
                "too_long",
                "a record holds 2 GiB at most: take fewer or smaller frames, or a list of segments",
            )
        yield item


def record_data(facts, parts, encoding, labels, source, intervals=None):
    """The SequenceExample of a video in bytes.

    Args:
        facts: VideoFacts.
        parts: list of bytes, all that `encode_video` yielded.
        encoding: Encoding.
        labels: dict of int to str, each label and the name of its class.
        source: str, what the video is called.
        intervals: optional sequence of (label, start, end), seconds of the video, in which labels
            count.
    """
    context = {
        examples.LABEL_INDEX: list(labels),
        examples.LABEL_TEXT[0]: list(labels.values()),
        examples.SOURCE[0]: source,
        examples.START: round(facts.start * 1e6),
        examples.END: round(facts.end * 1e6),
        examples.FRAME_RATE: float(facts.fps),
        examples.NUM_FRAMES: facts.num_frames,
        examples.WIDTH: facts.width,
        examples.HEIGHT: facts.height,
        examples.FORMAT: facts.format,
    }
    if intervals is not None:
        context |= {
            examples.INTERVAL_LABEL: [label for label, _, _ in intervals],
            examples.INTERVAL_START: [round(start * 1e6) for _, start, _ in intervals],
            examples.INTERVAL_END: [round(end * 1e6) for _, _, end in intervals],
        }
    if encoding.frames == "video":
        return examples.serialise(context, {examples.VIDEO: [b"".join(parts)]})
    moments = [round((facts.start + n / facts.fps) * 1e6) for n in range(len(parts))]
    return examples.serialise(context, {examples.FRAMES: parts, examples.TIMESTAMPS: moments})


def _pictures(path, segment, encoding):
    with open_video(path) as video:
        info = video.info
        first, count = segment_range(video, segment)
        fps = min(encoding.fps or info.fps, info.fps)
        num_frames = max(math.floor(count * fps / info.fps + _ROUNDING_GUARD), 1)
        indices = np.floor(np.arange(num_frames) * (info.fps / fps) + _ROUNDING_GUARD)
        indices = first + indices.astype(np.int64)
        width, height = _shrunk(info.width, info.height, encoding.short_side)
        start = first / info.fps
        yield VideoFacts(fps, num_frames, width, height, start, start + count / info.fps, "jpeg")
        step = max(_PART_BYTES // (3 * info.width * info.height), 1)
        for begin in range(0, num_frames, step):
            frames = video.frames_at_indices(indices[begin : begin + step])
            yield [_jpeg(frame, (width, height), encoding.quality) for frame in frames]


def _jpeg(frame, size, quality):
    picture = Image.fromarray(frame)
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=quality)
    return content.getvalue()


def _shrunk(width, height, short_side):
    """(width, height) of the frames with `short_side` at most, rounded as training resizes."""
    short = min(width, height)
    if not short_side or short <= short_side:
        return width, height
    return tuple(max(round(side * short_side / short), 1) for side in (width, height))


def _whole_file(path, segment, encoding):
    # Opened, so that what is no video is found now.
    with open_video(path) as video:
        info = video.info
        first, count = segment_range(video, segment)
    # Of a part of a file, the numbers are those of the part, though the file is whole.
    start, end = segment or (0.0, info.duration)
    yield VideoFacts(info.fps, count, info.width, info.height, start, end, info.codec)
    with reachable(path), open_file(path) as file:
        while piece := file.read(_COPY_BYTES):
            yield [piece]
