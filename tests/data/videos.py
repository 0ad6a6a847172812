"""Tiny videos whose every frame carries its own number, for tests of decoding."""

from fractions import Fraction

import av
import numpy as np

BITS = 10
BLOCK = 16
WIDTH, HEIGHT = BITS // 2 * BLOCK, 64


def numbered_frame(number):
    """uint8 (64, 80, 3): `number` as two rows of black and white blocks over a grey ramp."""
    frame = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    frame[:] = np.linspace(40, 200, WIDTH, dtype=np.uint8)[None, :, None]
    for bit in range(BITS):
        row, column = divmod(bit, BITS // 2)
        top, left = row * BLOCK, column * BLOCK
        frame[top : top + BLOCK, left : left + BLOCK] = 235 if number >> bit & 1 else 20
    return frame


def read_numbers(frames):
    """The numbers that `numbered_frame` wrote into frames (..., 64, 80, 3)."""
    numbers = np.zeros(frames.shape[:-3], np.int64)
    for bit in range(BITS):
        row, column = divmod(bit, BITS // 2)
        top, left = row * BLOCK + 4, column * BLOCK + 4
        block = frames[..., top : top + BLOCK - 8, left : left + BLOCK - 8, :]
        numbers |= (block.mean(axis=(-3, -2, -1)) > 128).astype(np.int64) << bit
    return numbers


def write_video(
    path,
    frames,
    *,
    fps=30,
    codec="libx264",
    pix_fmt="yuv420p",
    gop=12,
    bframes=0,
    stamps=None,
    rotation=None,
    container_options=None,
    **codec_options,
):
    """Encodes uint8 frames (T, H, W, 3).

    Args:
        stamps: optional sequence of float, the moment of each frame in seconds.
        rotation: optional dict of keyword arguments for `set_display_rotation`.
    """
    options = {"threads": "1", **codec_options}
    if codec == "libx264":
        options = {"preset": "veryfast", "crf": "18", "bf": str(bframes), **options}
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.gop_size = gop
        stream.options = options
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(**rotation)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if stamps is not None:
                frame.time_base = Fraction(1, 1000)
                frame.pts = round(stamps[number] * 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_numbered(path, num_frames, **options):
    """A video of `num_frames` frames, frame i carrying the number i."""
    return write_video(path, [numbered_frame(i) for i in range(num_frames)], **options)


def write_audio(path, seconds=0.5, codec="aac"):
    """A file with sound and no picture."""
    rate, size, sample = 16000, 1024, {"aac": "fltp", "mp2": "s16"}[codec]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        size = stream.codec_context.frame_size or size
        for start in range(0, int(seconds * rate), size):
            frame = av.AudioFrame(format=sample, layout="mono", samples=size)
            frame.planes[0].update(bytes(frame.planes[0].buffer_size))
            frame.sample_rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def remux(source, target, *, start=0.0, end=float("inf"), shift=0.0, options=None):
    """Copies a video's packets without decoding them.

    From the keyframe before `start` to `end`, in seconds, with time stamps less `shift`. Where
    those before `start` become negative, MP4 and MOV get an edit list that hides them.
    """
    with av.open(str(source)) as given, av.open(str(target), "w", options=options or {}) as made:
        stream = given.streams.video[0]
        copy = made.add_stream_from_template(stream)
        packets = [packet for packet in given.demux(stream) if packet.size]
        tick = stream.time_base
        keyframes = [p for p in packets if p.is_keyframe and p.pts * tick <= start + 1e-6]
        first = packets.index(keyframes[-1])
        offset = round(shift / tick)
        for packet in packets[first:]:
            if packet.dts * tick < end - 1e-6:
                packet.pts, packet.dts, packet.stream = (
                    packet.pts - offset,
                    packet.dts - offset,
                    copy,
                )
                made.mux(packet)
    return target


def join(target, *parts):
    """Joins files byte by byte."""
    target.write_bytes(b"".join(part.read_bytes() for part in parts))
    return target


def patch(path, old, new):
    """Replaces bytes of a file by as many others, wherever they occur."""
    assert len(old) == len(new)
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))
    return path


def patch_after(path, marker, offset, new):
    """Overwrites the bytes `offset` after the first `marker`."""
    data = bytearray(path.read_bytes())
    place = data.index(marker) + len(marker) + offset
    data[place : place + len(new)] = new
    path.write_bytes(data)
    return path


MATROSKA_RATE = b"\x23\xe3\x83\x84"  # DefaultDuration, four bytes of nanoseconds.
MATROSKA_LENGTH = b"\x44\x89\x88"  # Duration, eight bytes of a float, in milliseconds.


def remove_matroska_rate(path):
    """Makes the element that holds the frame rate a void one."""
    data = bytearray(path.read_bytes())
    place = data.index(MATROSKA_RATE)
    data[place : place + 8] = b"\xec\x86" + bytes(6)
    path.write_bytes(data)
    return path


def shown_by_time(stamps, info):
    """The frame shown at each index, by the rule of `frames_at_indices`; `info` a VideoInfo."""
    stamps = np.asarray(stamps) - stamps[0]
    moments = np.arange(info.num_frames) / info.fps
    return [int(np.flatnonzero(stamps <= m + 0.25 / info.fps)[-1]) for m in moments]


def played(path):
    """Moment, in seconds, and number of every frame that plain decoding gives."""
    with av.open(str(path)) as container:
        frames = [
            (float(frame.pts * frame.time_base), read_numbers(frame.to_ndarray(format="rgb24")))
            for frame in container.decode(video=0)
        ]
    moments, numbers = zip(*frames, strict=True)
    return np.array(moments), np.array(numbers)
