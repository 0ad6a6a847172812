"""A study as a picture: the score of every run, and the paper's numbers beside."""

import os
import textwrap
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mvit_tf.analysis.fonts import drawable
from mvit_tf.analysis.plots import write_figure

_INK = "#1f2933"
_FAINT = "#d9dee4"
_COLOURS = {"accuracy": "#2a6fbb", "shuffled": "#e07b39"}
_LABELS = {"accuracy": "frames in order", "shuffled": "frames shuffled"}
# Of the rows' distance: runs with shuffled frames lie below those in order.
_BELOW = 0.22


def plot_study(report: Mapping, png_path: str | os.PathLike) -> None:
    """Draws the runs of each variant as points and their mean as a line; right, the paper.

    Args:
        report: of `mvit_tf.studies.report.make_report`.
        png_path: the picture to write.
    """
    rows = report["variants"]
    scores = [name for name in _COLOURS if any(name in row for row in rows)]
    papers = [name for name in _COLOURS if any(row["published"][name] for row in rows)]
    titles = [textwrap.fill(f"{report['title']}: runs and means", 64)]
    if papers:
        titles.append(textwrap.fill(f"published: {report['paper']}", 44))
    names = [textwrap.fill(row["variant"], 24) for row in rows]
    texts, fonts = drawable(*titles, *names)
    titles, names = texts[: len(titles)], texts[len(titles) :]
    style = {"fontfamily": fonts, "parse_math": False}
    figure = Figure(figsize=(10, 1.6 + 0.5 * len(rows)), layout="constrained")
    panels = figure.subplots(
        1, len(titles), sharey=True, width_ratios=(3, 2)[: len(titles)], squeeze=False
    )[0]
    here, paper = panels[0], panels[-1]
    for number, row in enumerate(rows):
        for name in scores:
            if name not in row:
                continue
            height = number + _BELOW * (len(scores) > 1) * (1 if name == "shuffled" else -1)
            runs = 100 * np.array(row[name]["runs"])
            here.plot(runs, [height] * len(runs), "o", color=_COLOURS[name], alpha=0.6)
            mean = 100 * row[name]["mean"]
            here.plot([mean, mean], [height - 0.2, height + 0.2], color=_COLOURS[name], linewidth=2)
        for name in papers:
            if row["published"][name] is not None:
                paper.plot(row["published"][name], number, "D", color=_COLOURS[name])
    for name in scores if len(scores) > 1 else ():
        here.plot([], [], "o", color=_COLOURS[name], label=_LABELS[name])
    guessing = 100 * report["guessing"]
    here.axvline(guessing, color=_INK, linestyle=":", linewidth=1, label="guessing")
    here.legend(frameon=False, labelcolor=_INK, loc="best")
    here.set_yticks(range(len(rows)), names, **style)
    here.set_ylim(len(rows) - 0.4, -0.6)
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, color=_INK, fontsize=9, loc="left", **style)
        axes.set_xlabel("accuracy, %", color=_INK)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(color=_FAINT, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(_FAINT)
        axes.tick_params(colors=_INK, length=0)
    write_figure(figure, png_path)
