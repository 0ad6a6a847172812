"""A video with what a model says drawn on its frames.

Imports no TensorFlow: the frames are decoded, drawn on and encoded in a decode worker.
"""

import contextlib
import dataclasses
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mvit_tf.analysis.fonts import font_file_for
from mvit_tf.data.video.decode_workers import DecodeWorkers, in_this_process
from mvit_tf.data.video.sequence import open_sequence
from mvit_tf.errors import UserError
from mvit_tf.files import write_atomically
from mvit_tf.prediction.spans import window_parts

_FRAMES_A_STEP = 25
# Ticks a second of the written file, in which the common frame rates are whole numbers.
_TICKS = 90000
# Labels of a multi-label model that are drawn at once.
_MOST_LABELS = 3
_BAND = (20, 24, 31, 170)
_SHOWN, _NOT_SHOWN = (224, 123, 57, 255), (126, 139, 153, 255)


@dataclasses.dataclass(frozen=True)
class Caption:
    """What is drawn on the frames of a part of a video.

    Args:
        start, end: float, seconds after the video's first frame.
        lines: tuple of (label, probability, whether it is one of the spans' labels).
    """

    start: float
    end: float
    lines: tuple


def annotate_video(
    scan,
    file: str | os.PathLike,
    *,
    workers: DecodeWorkers | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Writes a scanned video with its labels on the frames, as H.264 in an mp4 file.

    Every frame that can be decoded is there at its own time, turned for show; audio is not.

    Args:
        scan: VideoScan.
        file: the mp4 file to write; it is whole or not there.
        workers: processes to decode and encode in; by default this one.
        on_progress: called with the frames done and about how many there are.

    Raises:
        DecodeError: the video cannot be decoded any more.
        UserError: the file cannot be written.
    """
    run = in_this_process if workers is None else workers.run
    captions, total = _captions(scan), round(scan.duration * scan.fps)

    def fill(temporary):
        with contextlib.closing(run(_annotate, scan.path, os.fspath(temporary), captions)) as steps:
            for done in steps:
                on_progress(done, total)

    try:
        write_atomically(Path(file), fill)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror or error}") from None


def _captions(scan):
    captions = []
    for (start, end), row in zip(window_parts(scan.times), scan.probabilities, strict=True):
        order = np.argsort(-row, kind="stable")[: _MOST_LABELS if scan.multi_label else 1]
        lines = [
            (scan.class_names[label], float(row[label]), bool(row[label] >= scan.threshold))
            for label in order
        ]
        shown = [line for line in lines if line[2]]
        captions.append(Caption(float(start), float(end), tuple(shown or lines[:1])))
    return captions


def _annotate(path, output, captions):
    """Decodes, draws and encodes; yields the number of frames done now and then."""
    video = open_sequence(path)
    with av.open(output, "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(video.info.fps).limit_denominator())
        # H.264 in 4:2:0 has even sides only.
        stream.width, stream.height = _even(video.info.width), _even(video.info.height)
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "20", "threads": "2"}
        stream.codec_context.time_base = Fraction(1, _TICKS)
        painter = _Painter(video.info.width, video.info.height)
        position, last = 0, -1
        for done, shown in enumerate(video.frames(), start=1):
            while position + 1 < len(captions) and captions[position + 1].start <= shown.start:
                position += 1
            caption = captions[position]
            lines = caption.lines if shown.start < caption.end + 1 / video.info.fps else ()
            frame = av.VideoFrame.from_ndarray(painter.draw(video.rgb(shown), lines))
            frame.time_base = Fraction(1, _TICKS)
            frame.pts = last = max(round(shown.start * _TICKS), last + 1)
            frame.duration = max(round((shown.end - shown.start) * _TICKS), 1)
            container.mux(stream.encode(frame))
            if done % _FRAMES_A_STEP == 0:
                yield done
        container.mux(stream.encode(None))


def _even(side):
    return side + side % 2


class _Painter:
    """Draws labels with their probabilities at the bottom of frames of one size."""

    def __init__(self, width, height):
        self._size = width, height
        self._text = max(round(min(width, height) / 18), 9)
        self._font = self._font_for("100%")[0]
        self._made, self._band = None, None

    def draw(self, picture, lines):
        """The array (height, width, 3) with the lines drawn, its sides even."""
        width, height = self._size
        picture = np.pad(picture, [(0, height % 2), (0, width % 2), (0, 0)], mode="edge")
        if not lines:
            return picture
        if lines != self._made:
            self._made, self._band = lines, self._make_band(lines)
        band = self._band
        image = Image.fromarray(picture)
        image.paste(band, (0, height - band.height), band)
        return np.asarray(image)

    def _make_band(self, lines):
        width, height = self._size
        step = round(self._text * 1.9)
        band = Image.new("RGBA", (width, min(step * len(lines), height)), _BAND)
        draw = ImageDraw.Draw(band)
        margin = self._text // 2
        for row, (label, probability, shown) in enumerate(lines):
            top, colour = row * step, _SHOWN if shown else _NOT_SHOWN
            share = f"{probability:.0%}"
            room = width - 3 * margin - draw.textlength(share, font=self._font)
            label = " ".join(label.split())
            font, label = self._font_for(label)
            text = _fit(label, room, lambda text, font=font: draw.textlength(text, font=font))
            baseline = top + round(self._text * 1.25)
            draw.text((margin, baseline), text, "white", font, anchor="ls")
            draw.text((width - margin, baseline), share, "white", self._font, anchor="rs")
            bar = (width - 2 * margin) * probability
            below = top + round(self._text * 1.5)
            draw.rectangle(
                [margin, below, margin + bar, below + max(self._text // 6, 2)], fill=colour
            )
        return band

    def _font_for(self, text):
        file, text = font_file_for(text)
        return ImageFont.truetype(file, self._text), text


def _fit(label, room, length):
    """As much of a label as fits."""
    if length(label) <= room:
        return label
    while label and length(label + "…") > room:
        label = label[:-1]
    return label + "…"
