"""The videos that look most alike to a model, and a picture of them."""

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from mvit_tf.analysis.fonts import drawable
from mvit_tf.analysis.plots import write_figure
from mvit_tf.data.clips import evaluation_frames, gather_frames
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.data.video.decode_workers import DecodeWorkers
from mvit_tf.data.video.decoding import DecodeError
from mvit_tf.errors import UserError

_INK, _FAINT = "#1f2933", "#d9dee4"
# The frames of a strip, their height and width, and what is between them, in pixels.
_STRIP_FRAMES = 3
_THUMBNAIL = (90, 120)
_GAP = 3
_STRIP_INCHES = 2.7
_LONGEST_NAME = 34
# Rows compared at once: the similarities of all would be N times N.
_ROWS = 1024


def nearest_by_cosine(
    features: np.ndarray, queries: Sequence[int], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The rows whose direction is closest to that of each query, itself left out.

    Args:
        features: float32 (N, C).
        queries: indices of Q rows.
        count: how many to find; N - 1 at most.

    Returns:
        (int64 (Q, count) of rows, the closest first; float32 (Q, count), their cosines).
    """
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.maximum(norms, np.finfo(np.float32).tiny)
    count = min(count, len(unit) - 1)
    rows, cosines = [], []
    for start in range(0, len(queries), _ROWS):
        some = np.asarray(queries[start : start + _ROWS])
        values = unit[some] @ unit.T
        values[np.arange(len(some)), some] = -np.inf
        order = np.argsort(-values, axis=1, kind="stable")[:, :count]
        rows.append(order)
        cosines.append(np.take_along_axis(values, order, axis=1))
    return np.concatenate(rows), np.concatenate(cosines)


def plot_neighbours(
    names: Sequence[str],
    features: np.ndarray,
    file: str | os.PathLike,
    *,
    workers: DecodeWorkers,
    paths: Sequence[str] | None = None,
    num_queries: int = 12,
    num_neighbours: int = 4,
) -> None:
    """Draws a contact sheet: a row for each query, a strip of frames of it and of its nearest.

    The queries are spread evenly over the videos.

    Args:
        names: the N videos' names.
        features: float32 (N, C), one row a video.
        file: the PNG file to write.
        workers: to decode the frames in; a video that gives none is shown grey.
        paths: the N videos to decode; by default `names`.
        num_queries, num_neighbours: rows, and strips beside the query, at most.

    Raises:
        UserError: there are less than two videos, or the file cannot be written.
    """
    if len(names) < 2:
        raise UserError(f"{len(names)} video has no neighbours: give two at least")
    queries = np.unique(np.linspace(0, len(names) - 1, min(num_queries, len(names))).astype(int))
    rows, cosines = nearest_by_cosine(features, queries, num_neighbours)
    shown = sorted({*queries.tolist(), *rows.ravel().tolist()})
    strips = {index: _strip((paths or names)[index], workers) for index in shown}
    titles, fonts = drawable(*(_title(names[index]) for index in shown))
    titles = dict(zip(shown, titles, strict=True))
    height = _STRIP_INCHES * _THUMBNAIL[0] / (_THUMBNAIL[1] * _STRIP_FRAMES) + 0.3
    columns = 1 + rows.shape[1]
    figure = Figure(figsize=(_STRIP_INCHES * columns, height * len(queries)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.02, wspace=0.01, hspace=0)
    grid = figure.subplots(len(queries), columns, squeeze=False)
    for query, near, close, line in zip(queries, rows, cosines, grid, strict=True):
        said = ["", *(f"{value:.2f}  " for value in close)]
        for index, before, axes in zip([query, *near], said, line, strict=True):
            axes.imshow(strips[index])
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(color=_INK if index == query else _FAINT, linewidth=1.5)
            axes.set_title(
                before + titles[index], color=_INK, fontsize=7, loc="left", pad=2,
                fontfamily=fonts, parse_math=False, fontweight="normal" if before else "bold",
            )  # fmt: skip
    try:
        write_figure(figure, file)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror or error}") from None


def _strip(path, workers):
    """uint8 (h, w, 3): frames of a video side by side."""
    height, width = _THUMBNAIL
    strip = np.full((height, width * _STRIP_FRAMES, 3), 0xD9, np.uint8)
    sampling = ClipSampling(num_frames=_STRIP_FRAMES, rule="segments")
    try:
        frames, facts = gather_frames(
            workers.run(evaluation_frames, path, sampling, 1), _thumbnails
        )
    except DecodeError:
        return strip
    strip[:] = 0xFF
    for number, pick in enumerate(facts.picks[0]):
        start = number * width
        strip[:, start : start + width - _GAP] = frames[pick][:, _GAP:]
    return strip


def _thumbnails(frames, _):
    return np.stack([_thumbnail(frame) for frame in frames])


def _thumbnail(frame):
    """The whole frame, in the middle of one of the thumbnails' size."""
    height, width = _THUMBNAIL
    return np.asarray(ImageOps.pad(Image.fromarray(frame), (width, height), color="white"))


def _title(name):
    name = os.path.join(os.path.basename(os.path.dirname(name)), os.path.basename(name))
    return name if len(name) <= _LONGEST_NAME else "…" + name[1 - _LONGEST_NAME :]
