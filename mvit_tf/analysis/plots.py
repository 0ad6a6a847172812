"""Pictures of a training run: its curves, its confusion matrix, its clips.

Figures are drawn with Matplotlib's Agg canvas directly: no window system, no pyplot state.
"""

import csv
import io
import os
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mvit_tf.analysis.fonts import cut, drawable, fonts_for
from mvit_tf.errors import UserError
from mvit_tf.files import write_atomically
from mvit_tf.remote_path import RemotePath, as_path

_INK = "#1f2933"
_FAINT = "#d9dee4"
_TRAINING = "#2a6fbb"
_VALIDATION = "#e07b39"
_SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", "#9cc4ea", "#14508c"])
_DOTS_PER_INCH = 150
_PANELS = {
    "Loss": "loss",
    "Accuracy": "accuracy",
    "Mean average precision": "mean_average_precision",
    "Learning rate": "learning_rate",
}
# Above this many classes the numbers in the cells of a confusion matrix cannot be read.
_MAX_CLASSES_WITH_NUMBERS = 25
# Above this many, the names along its axes cannot either.
_MAX_CLASSES_WITH_NAMES = 100
# Width of a frame of a contact sheet.
_FRAME_INCHES = 1.3
# Characters of a name along the axes; the rest is cut off.
_LONGEST_NAME = 60


def plot_training_curves(csv_path: str | os.PathLike, png_path: str | os.PathLike) -> None:
    """Draws loss, scores and learning rate over the epochs of a training log.

    Args:
        csv_path: a log of Keras' `CSVLogger`: the column `epoch`, counted from 0, and any of
            `loss`, `accuracy`, `mean_average_precision`, `learning_rate` and, with the prefix
            `val_`, those of validation. Cells without a number are left out. An epoch logged twice
            counts with its last row.
        png_path: the picture to write.

    Raises:
        UserError: the log is missing or holds no epoch.
    """
    columns = _read_log(csv_path)
    panels = {
        title: names
        for title, metric in _PANELS.items()
        if (names := _logged((metric, f"val_{metric}"), columns))
    }
    figure = Figure(figsize=(4.2 * len(panels), 3.4), layout="constrained")
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, names) in zip(row, panels.items(), strict=True):
        for name in names:
            _draw_curve(axes, name, columns["epoch"] + 1, columns[name])
        axes.set_title(title, color=_INK, fontsize=12, fontweight="bold", loc="left")
        axes.set_xlabel("epoch", color=_INK)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if title in ("Accuracy", "Mean average precision"):
            axes.set_ylim(0.0, 1.03)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        else:
            axes.set_ylim(bottom=0.0)
        axes.grid(color=_FAINT, linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(_FAINT)
        axes.tick_params(colors=_INK, length=0)
        if len(names) > 1:
            axes.legend(frameon=False, labelcolor=_INK)
    write_figure(figure, png_path)


def plot_confusion_matrix(
    matrix: np.ndarray, class_names: Sequence[str], png_path: str | os.PathLike
) -> None:
    """Draws a confusion matrix, shaded by the share of each true class.

    Where the names cannot be drawn, as no installed font has a character of theirs or there are
    more than a hundred, their indices stand for them.

    Args:
        matrix: counts (K, K), rows the true classes, columns the predicted ones.
        class_names: the K names.
        png_path: the picture to write.

    Raises:
        ValueError: the matrix is not square, or has another size than the names.
    """
    matrix = np.asarray(matrix)
    size = len(class_names)
    if matrix.shape != (size, size):
        raise ValueError(f"a matrix of shape {matrix.shape} does not fit {size} class names")
    totals = matrix.sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(totals, 1)
    accuracy = np.trace(matrix) / max(matrix.sum(), 1)

    named = size <= _MAX_CLASSES_WITH_NAMES
    fonts = fonts_for("".join(class_names)) if named else None
    names = list(map(str, range(size)))
    if fonts:
        names = [cut(name, _LONGEST_NAME) for name in class_names]
    font_size = np.clip(260 / size, 4, 10)
    # Inches that the longest name takes beyond what a usual one does.
    room = max(0, max(map(len, names)) - 12) * font_size * 0.008
    side = np.clip(1.8 + 0.55 * size, 4.5, 16.0)
    figure = Figure(figsize=(side + 1.2 + room, side + 0.7 * room), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap=_SHADES, vmin=0.0, vmax=1.0)
    axes.set_title(
        f"{accuracy:.1%} of {int(matrix.sum()):,} videos right",
        color=_INK, fontsize=12, fontweight="bold", loc="left",
    )  # fmt: skip
    axes.tick_params(colors=_INK, length=0)
    axes.spines[:].set_color(_FAINT)
    if named:
        style = {"fontfamily": fonts, "fontsize": font_size, "parse_math": False}
        axes.set_xticks(
            range(size), names, rotation=45, ha="right", rotation_mode="anchor", **style
        )
        axes.set_yticks(range(size), names, **style)
    counted = "" if fonts else ", counted from 0 as in labels.txt"
    axes.set_xlabel(f"predicted class{counted}", color=_INK)
    axes.set_ylabel(f"true class{counted}", color=_INK)
    if size <= _MAX_CLASSES_WITH_NUMBERS:
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                ink = "white" if shares[row, column] > 0.6 else _INK
                axes.text(column, row, str(count), ha="center", va="center", color=ink)
    bar = figure.colorbar(image, ax=axes, shrink=0.7, format=PercentFormatter(1.0, decimals=0))
    bar.set_label("share of the true class", color=_INK)
    bar.ax.tick_params(colors=_INK, length=0)
    bar.outline.set_visible(False)
    write_figure(figure, png_path)


def plot_average_precisions(per_class: Sequence[dict], png_path: str | os.PathLike) -> None:
    """Draws the average precision of each class, the best first.

    Args:
        per_class: of `MultiLabelReport`; classes without an average precision are left out.
        png_path: the picture to write.
    """
    _plot_class_scores(
        per_class, "average_precision", "mAP {mean:.1%} over {classes} classes", png_path
    )


def plot_class_accuracies(per_class: Sequence[dict], png_path: str | os.PathLike) -> None:
    """Draws the accuracy of each class, the best first.

    Args:
        per_class: of `EvaluationReport`; classes without a decoded video are left out.
        png_path: the picture to write.
    """
    title = "mean of {classes} classes {mean:.1%}"
    _plot_class_scores(per_class, "accuracy", title, png_path)


def _plot_class_scores(per_class, key, title, png_path):
    scored = [entry for entry in per_class if entry[key] is not None]
    scored.sort(key=lambda entry: -entry[key])
    names = [cut(f"{entry['name']} ({entry['decoded']:,})", _LONGEST_NAME) for entry in scored]
    names, fonts = drawable(*names)
    values = [entry[key] for entry in scored]
    height = np.clip(1.2 + 0.25 * len(scored), 2.5, 40)
    font_size = min(9, 60 * height / len(scored))
    figure = Figure(figsize=(4.5 + 0.08 * max(map(len, names)), height), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(values)), values, color=_TRAINING, height=0.7)
    style = {"fontsize": font_size, "fontfamily": fonts, "parse_math": False}
    axes.set_yticks(range(len(names)), names, **style)
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.set_xlim(0.0, 1.0)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel(f"{key.replace('_', ' ')} (in brackets: videos of the class)", color=_INK)
    axes.set_title(
        title.format(mean=np.mean(values), classes=len(values)),
        color=_INK, fontsize=12, fontweight="bold", loc="left",
    )  # fmt: skip
    axes.grid(axis="x", color=_FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    axes.tick_params(colors=_INK, length=0)
    write_figure(figure, png_path)


def plot_clips(
    clips: Sequence[np.ndarray | None],
    labels: Sequence[str],
    png_path: str | os.PathLike,
    num_frames: int = 8,
    stride: int = 1,
) -> None:
    """Draws clips as the rows of a contact sheet.

    Args:
        clips: N of uint8 (T, H, W, 3), RGB, of one shape; `None` for one that is missing.
        labels: the N texts beside them, of one line or more. Where no installed font has a
            character of theirs, its number stands for it.
        png_path: the picture to write.
        num_frames: of each clip at most so many frames, evenly from the first to the last.
        stride: between two frames of a clip, in frames of the numbers above them.
    """
    there = next((clip for clip in clips if clip is not None), np.empty((num_frames, 1, 1, 3)))
    length, height, width = there.shape[:3]
    shown = np.linspace(0, length - 1, min(num_frames, length)).round().astype(int)
    labels, fonts = drawable(*labels)
    labels = [[cut(line, _LONGEST_NAME) for line in label.split("\n")] for label in labels]
    room = 0.3 + 0.08 * max(len(line) for lines in labels for line in lines)
    size = (room + _FRAME_INCHES * len(shown), 0.3 + _FRAME_INCHES * height / width * len(clips))
    figure = Figure(figsize=size, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
    grid = figure.subplots(len(clips), len(shown), squeeze=False)
    for clip, lines, row in zip(clips, labels, grid, strict=True):
        for frame, axes in zip(shown, row, strict=True):
            axes.imshow(_missing(height, width) if clip is None else clip[frame])
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        if clip is None:
            row[0].text(0.5, 0.5, "missing", transform=row[0].transAxes, ha="center", color=_INK)
        row[0].set_ylabel(
            "\n".join(lines), rotation=0, ha="right", va="center", color=_INK, fontsize=9,
            fontfamily=fonts, parse_math=False,
        )  # fmt: skip
    for frame, axes in zip(shown, grid[0], strict=True):
        axes.set_title(f"frame {stride * frame}", color=_INK, fontsize=8)
    write_figure(figure, png_path)


def _missing(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 0xD9, np.uint8)


def _read_log(path: str | os.PathLike) -> dict[str, np.ndarray]:
    path = as_path(path)
    if not path.is_file():
        raise UserError(f"no training log at {path}")
    with io.StringIO(path.read_text(encoding="utf-8")) as file:
        rows = {row["epoch"]: row for row in csv.DictReader(file)}
    if not rows:
        raise UserError(f"the training log {path} holds no epoch yet")
    names = next(iter(rows.values()))
    return {name: np.array([_number(row[name]) for row in rows.values()]) for name in names}


def _number(text: str | None) -> float:
    # CSVLogger writes NA for a metric that an epoch lacked.
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def _logged(names: Sequence[str], columns: dict[str, np.ndarray]) -> list[str]:
    """Those of the names that the log has a number for."""
    return [name for name in names if name in columns and np.isfinite(columns[name]).any()]


def _draw_curve(axes: Axes, name: str, epochs: np.ndarray, values: np.ndarray) -> None:
    seen = np.isfinite(values)
    validation = name.startswith("val_")
    axes.plot(
        epochs[seen],
        values[seen],
        label="validation" if validation else "training",
        color=_VALIDATION if validation else _TRAINING,
        linewidth=2,
        marker="o" if seen.sum() == 1 or validation else None,
        markersize=4,
    )


def write_figure(figure: Figure, path: str | os.PathLike) -> None:
    """Writes a figure as a PNG file."""
    FigureCanvasAgg(figure)
    path = as_path(path)

    def save(file):
        figure.savefig(file, format="png", dpi=_DOTS_PER_INCH, facecolor="white")

    if isinstance(path, RemotePath):
        write_atomically(path, save)
    else:
        save(path)
