"""The time line of a video: what a model says along it, as a picture."""

import os

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from mvit_tf.analysis.fonts import cut, drawable
from mvit_tf.analysis.plots import write_figure
from mvit_tf.prediction.scan import VideoScan
from mvit_tf.prediction.spans import window_parts
from mvit_tf.urls import without_secrets

_INK, _FAINT = "#1f2933", "#d9dee4"
_CURVE, _SPAN = "#2a6fbb", "#e07b39"
_MOST_LABELS = 10
_LONGEST_NAME = 40


def plot_timeline(scan: VideoScan, file: str | os.PathLike) -> None:
    """Draws the probability of each label that matters over time, and its spans above it.

    Those are the labels of the spans, the longest shown first, then the most probable ones; ten
    at most.

    Args:
        scan: what is drawn.
        file: the PNG file to write.
    """
    labels = _labels(scan)
    names = [cut(scan.class_names[label], _LONGEST_NAME) for label in labels]
    title = cut(os.path.basename(without_secrets(scan.path)), _LONGEST_NAME)
    (title, *names), fonts = drawable(title, *names)
    figure = Figure(figsize=(11, 0.9 + 0.62 * len(labels)), layout="constrained")
    figure.get_layout_engine().set(hspace=0.02, h_pad=0.02)
    rows = figure.subplots(len(labels), 1, sharex=True, squeeze=False)[:, 0]
    edges, values = _steps(scan)
    for axes, label, name in zip(rows, labels, names, strict=True):
        axes.fill_between(edges, values[:, label], color=_CURVE, alpha=0.28, linewidth=0)
        axes.plot(edges, values[:, label], color=_CURVE, linewidth=1)
        axes.axhline(scan.threshold, color=_FAINT, linewidth=0.8, zorder=0)
        for span in scan.spans:
            if span.label == scan.class_names[label]:
                width = span.end - span.start
                axes.broken_barh([(span.start, width)], (1.08, 0.2), facecolors=_SPAN)
                if width > scan.duration / 25:
                    axes.text(
                        (span.start + span.end) / 2, 1.15, f"{span.score:.0%}", color="white",
                        ha="center", va="center", fontsize=7, clip_on=True,
                    )  # fmt: skip
        axes.set(ylim=(0, 1.3), yticks=[], xlim=(0, max(scan.duration, edges[-1])))
        axes.set_ylabel(
            name, rotation=0, ha="right", va="center", color=_INK, fontsize=9,
            fontfamily=fonts, parse_math=False,
        )  # fmt: skip
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(_FAINT)
        axes.tick_params(colors=_INK, length=0, labelsize=8)
    rows[0].set_title(
        f"{title}: probability, and spans at {scan.threshold:.0%} or more", loc="left",
        color=_INK, fontsize=11, fontweight="bold", fontfamily=fonts, parse_math=False,
    )  # fmt: skip
    rows[-1].xaxis.set_major_locator(MaxNLocator(10, steps=[1, 2, 3, 5, 6, 10]))
    rows[-1].xaxis.set_major_formatter(FuncFormatter(lambda second, _: clock(second)))
    write_figure(figure, file)


def clock(seconds: float) -> str:
    """ "1:02:03", "2:03" or, where they are no whole ones, "2:03.5"."""
    seconds = round(seconds, 1)
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{int(rest):02d}" if rest == int(rest) else f"{rest:04.1f}"
    return f"{hours}:{minutes:02d}:{text}" if hours else f"{minutes}:{text}"


def _labels(scan):
    """Indices of the labels to draw."""
    shown = dict.fromkeys(scan.class_names, 0.0)
    for span in scan.spans:
        shown[span.label] += span.end - span.start
    peaks = scan.probabilities.max(axis=0)
    order = sorted(
        range(len(peaks)), key=lambda label: (-shown[scan.class_names[label]], -peaks[label])
    )
    return order[:_MOST_LABELS]


def _steps(scan):
    """Moments and the values there of each label, of curves that are level within each part."""
    parts = window_parts(scan.times)
    gap = np.full((1, scan.probabilities.shape[1]), np.nan)
    edges, values = [], []
    for (start, end), row in zip(parts, scan.probabilities, strict=True):
        if edges and start > edges[-1] + 1e-6:
            edges.append(start)
            values.append(gap[0])
        edges += [start, end]
        values += [row, row]
    return np.array(edges), np.stack(values)
