"""Heat maps over the frames of a clip: a picture of all frames, and a video."""

import math
from fractions import Fraction
from pathlib import Path

import av
import matplotlib
import numpy as np
from PIL import Image

from mvit_tf.files import write_atomically

# Frames of less are enlarged: those of small models cannot be seen otherwise.
_LEAST_SIDE = 128
_COLUMNS = 8
_MAX_FRAMES = 32
_GAP = 4
# Heat up to the median is taken as background; the hottest half per cent of pixels as the top.
_RANGE = (50, 99.5)
_OPACITY = 0.75


def overlay(explanation):
    """The frames in grey, with the heat as colour over them.

    Args:
        explanation: Explanation.

    Returns:
        uint8 (T, h, w, 3).
    """
    heat = explanation.heat
    low, high = np.percentile(heat, _RANGE)
    # Of a few hot pixels alone none is left out.
    high = high if high > low else heat.max()
    heat = np.clip((heat - low) / (high - low), 0, 1) if high > low else np.zeros_like(heat)
    heat = np.sqrt(heat)  # Relevance falls off steeply: what has a quarter of the top counts too.
    colours = matplotlib.colormaps["inferno"](heat)[..., :3]
    grey = explanation.frames.mean(axis=-1, keepdims=True) / 255
    opacity = _OPACITY * heat[..., np.newaxis]
    return np.rint(255 * ((1 - opacity) * grey + opacity * colours)).astype(np.uint8)


def heat_grid(explanation):
    """The frames of a clip, each with its heat below it, eight in a row.

    Args:
        explanation: Explanation. Of more than 32 frames, 32 evenly chosen ones are drawn.

    Returns:
        PIL.Image.Image, RGB.
    """
    count = len(explanation.frames)
    chosen = np.linspace(0, count - 1, min(count, _MAX_FRAMES)).round().astype(int)
    pairs = [
        np.concatenate([_enlarged(frame), _enlarged(heated)])
        for frame, heated in zip(
            explanation.frames[chosen], overlay(explanation)[chosen], strict=True
        )
    ]
    height, width = (side + _GAP for side in pairs[0].shape[:2])
    columns = min(len(pairs), _COLUMNS)
    rows = math.ceil(len(pairs) / columns)
    picture = np.full((rows * height - _GAP, columns * width - _GAP, 3), 255, np.uint8)
    for number, pair in enumerate(pairs):
        row, column = divmod(number, columns)
        top, left = row * height, column * width
        picture[top : top + pair.shape[0], left : left + pair.shape[1]] = pair
    return Image.fromarray(picture)


def write_heat_grid(explanation, path):
    """Writes `heat_grid` as a PNG file, whole or not at all."""
    picture = heat_grid(explanation)
    write_atomically(Path(path), lambda temporary: picture.save(temporary, format="PNG"))


def write_heat_video(explanation, path, fps):
    """Writes frames and heat side by side as an H.264 mp4, whole or not at all.

    Args:
        explanation: Explanation.
        path: of the file.
        fps: float, frames a second; those of the clip at its own speed are
            ``target_fps / sampling_rate``.
    """
    frames = [
        np.concatenate([_enlarged(frame), _enlarged(heated)], axis=1)
        for frame, heated in zip(explanation.frames, overlay(explanation), strict=True)
    ]
    write_atomically(Path(path), lambda temporary: _encode(temporary, frames, fps))


def _enlarged(frame):
    height, width = frame.shape[:2]
    factor = math.ceil(_LEAST_SIDE / min(height, width))
    # Without smoothing, so that each pixel of the model's is seen as it is.
    return frame.repeat(factor, axis=0).repeat(factor, axis=1)


def _encode(path, frames, fps):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        height, width = frames[0].shape[:2]
        # Half the colour's resolution takes even sides.
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
