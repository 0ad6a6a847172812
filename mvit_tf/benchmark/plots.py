"""Pictures of the results, on Matplotlib's Agg canvas: no window system, no pyplot state."""

import os
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_INK = "#1f2933"
_FAINT = "#d9dee4"
_DOTS_PER_INCH = 150
# By family, so that eager and compiled share a hue.
_COLOURS = {
    "ours": "#14508c",
    "ours-frozen": "#3f78b5",
    "ours-remat": "#7d8cc4",
    "ours-xla": "#6c9fce",
    "ours-saved-model": "#9cc4ea",
    "ours-jax": "#2f8f9d",
    "torchvision": "#e07b39",
    "torchvision-compile": "#f0b48b",
    "pytorchvideo": "#4f8a5b",
    "pytorchvideo-compile": "#a3c9ab",
    "timm": "#8a5a9e",
    "timm-compile": "#c4a5d1",
}


def plot_cells(results: Sequence, png_path: str | os.PathLike) -> None:
    """A bar for every contestant's median in every cell, with its quartiles.

    Args:
        results: CellResults.
        png_path: the picture to write.
    """
    columns = min(len(results), 2)
    rows = -(-len(results) // columns)
    bars = max(len(result.measurements) for result in results)
    height = 0.9 + 0.32 * bars
    figure = Figure(figsize=(6.2 * columns, height * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, result in zip(panels, results, strict=False):
        _draw_cell(axes, result)
    for axes in panels[len(results) :]:
        axes.set_axis_off()
    _write(figure, png_path)


def plot_growth(series: dict[str, Sequence], png_path: str | os.PathLike) -> None:
    """Time and peak memory over the number of frames and over the batch.

    Args:
        series: "frames" or "batch" -> CellResults that differ in it alone.
        png_path: the picture to write.
    """
    figure = Figure(figsize=(5.6 * len(series), 6.4), layout="constrained")
    panels = figure.subplots(2, len(series), squeeze=False)
    for column, (axis, results) in enumerate(series.items()):
        for axes, what in zip(panels[:, column], ("seconds", "gigabytes"), strict=True):
            names = dict.fromkeys(m.name for result in results for m in result.measurements)
            for name in names:
                points = [
                    (_place(result.cell, axis), _height(measurement, what))
                    for result in results
                    for measurement in result.measurements
                    if measurement.name == name
                ]
                axes.plot(*zip(*points, strict=True), marker="o", color=_COLOURS.get(name),
                          label=name, linewidth=2, markersize=4)  # fmt: skip
            axes.set_title(
                "Time of an iteration, s" if what == "seconds" else "Peak memory, GB",
                color=_INK, fontsize=11, fontweight="bold", loc="left",
            )  # fmt: skip
            axes.set_xlabel("frames in a clip" if axis == "frames" else "batch", color=_INK)
            axes.set_xticks([_place(result.cell, axis) for result in results])
            axes.set_ylim(bottom=0)
            axes.grid(color=_FAINT, linewidth=0.8)
            _plain(axes)
    panels[0, 0].legend(frameon=False, labelcolor=_INK)
    figure.suptitle(next(iter(series.values()))[0].cell.title, color=_INK, fontsize=10)
    _write(figure, png_path)


def _draw_cell(axes, result):
    measurements = result.measurements[::-1]
    for place, measurement in enumerate(measurements):
        summary = measurement.summary
        axes.barh(place, summary.median, height=0.7, color=_COLOURS.get(measurement.name, _FAINT))
        axes.plot([summary.lower_quartile, summary.upper_quartile], [place, place],
                  color=_INK, linewidth=1.2)  # fmt: skip
        axes.annotate(
            f"{summary.median:.3g} s  {measurement.ratio:.2f}x",
            (max(summary.median, summary.upper_quartile), place),
            xytext=(4, 0), textcoords="offset points", va="center", color=_INK, fontsize=8,
        )  # fmt: skip
    axes.set_yticks(range(len(measurements)), [m.name for m in measurements], fontsize=8)
    axes.margins(x=0.25)
    axes.set_xlim(left=0)
    axes.set_title(result.cell.title, color=_INK, fontsize=9, fontweight="bold", loc="left")
    axes.set_xlabel("seconds an iteration", color=_INK, fontsize=8)
    _plain(axes)


def _place(cell, axis):
    return cell.config.input_size[0] if axis == "frames" else cell.batch


def _height(measurement, what):
    return measurement.summary.median if what == "seconds" else measurement.peak_bytes / 1e9


def _plain(axes):
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    axes.tick_params(colors=_INK, length=0, labelsize=8)


def _write(figure, png_path):
    FigureCanvasAgg(figure)
    figure.savefig(Path(png_path), format="png", dpi=_DOTS_PER_INCH, facecolor="white")
