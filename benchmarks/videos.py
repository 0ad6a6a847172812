"""Videos like those of well-known data sets, for measuring how fast they load."""

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_ucf101_like(folder: Path, count: int, *, seconds: float = 7.2) -> list[str]:
    """AVI files of MPEG-4 pictures as UCF101 has them: 320 x 240, 25 frames a second."""
    return [
        _write(
            folder / f"ucf101_like_{index}.avi", seed=index, size=(240, 320), fps=25,
            seconds=seconds, codec="mpeg4", gop=250, options={"qscale": "5", "flags": "+qscale"},
        )
        for index in range(count)
    ]  # fmt: skip


def write_kinetics_like(folder: Path, count: int, *, seconds: float = 10.0) -> list[str]:
    """MP4 files of H.264 as Kinetics is kept: 340 x 256, 30 frames a second, B-frames."""
    return [
        _write(
            folder / f"kinetics_like_{index}.mp4", seed=index, size=(256, 340), fps=30,
            seconds=seconds, codec="libx264", gop=250, options={"preset": "medium", "crf": "23"},
        )
        for index in range(count)
    ]  # fmt: skip


def write_small_h264(folder: Path, count: int, *, seconds: float = 10.0) -> list[str]:
    """MP4 files of H.264: 320 x 240, 30 frames a second, B-frames."""
    return [
        _write(
            folder / f"small_{index}.mp4", seed=index, size=(240, 320), fps=30,
            seconds=seconds, codec="libx264", gop=250, options={"preset": "medium", "crf": "23"},
        )
        for index in range(count)
    ]  # fmt: skip


def write_large_h264(folder: Path, count: int, *, size: tuple, seconds: float) -> list[str]:
    """MP4 files of H.264 of any size, (height, width), encoded for speed."""
    return [
        _write(
            folder / f"{size[0]}p_{index}.mp4", seed=index, size=size, fps=30, seconds=seconds,
            codec="libx264", gop=60, options={"preset": "ultrafast", "crf": "28"},
        )
        for index in range(count)
    ]  # fmt: skip


def _write(path, *, seed, size, fps, seconds, codec, gop, options):
    folder = path.parent
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{path.name}"
    with av.open(str(unfinished), "w", format=path.suffix[1:]) as container:
        stream = container.add_stream(codec, rate=Fraction(fps))
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.gop_size = gop
        stream.options = options
        for pixels in _frames(seed, size, round(seconds * fps)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    os.replace(unfinished, path)
    return str(path)


def _frames(seed, size, count):
    """A camera that drifts over a still background, and a patch that moves across it.

    The spectrum of both falls as in photographs, so that there is as much to code.
    """
    rng = np.random.default_rng(seed)
    background = _texture(rng, (512, 512))
    patch = _texture(rng, (96, 96))
    velocity, start = rng.uniform(-2, 2, 2), rng.uniform(0, 512, 2)
    for index in range(count):
        top, left = np.round(start + velocity * index).astype(int)
        rows = (top + np.arange(size[0])) % 512
        columns = (left + np.arange(size[1])) % 512
        frame = background[rows[:, None], columns]
        at = [
            round((room - 96) * (0.5 + 0.5 * np.sin(index / period)))
            for room, period in zip(size, (17, 23), strict=True)
        ]
        frame[at[0] : at[0] + 96, at[1] : at[1] + 96] = patch
        noise = rng.integers(-2, 3, frame.shape, np.int16)
        yield np.clip(frame + noise, 0, 255).astype(np.uint8)


def _texture(rng, size):
    """uint8 (H, W, 3), amplitude falling with the frequency."""
    frequency = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1]))
    frequency[0, 0] = np.inf
    channels = []
    for _ in range(3):
        phases = rng.uniform(0, 2 * np.pi, frequency.shape)
        values = np.fft.irfft2(np.exp(1j * phases) / frequency, size)
        channels.append(128 + 50 * values / values.std())
    return np.clip(np.stack(channels, -1), 0, 255).astype(np.uint8)
