"""From the probabilities of overlapping windows to spans of time with a label."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_TOUCHING = 1e-6  # seconds


@dataclass(frozen=True)
class Span:
    """A part of a video that shows one label.

    Attributes:
        start, end: seconds after the video's first frame.
        label: name of the class.
        score: mean of the label's probabilities in the windows of the span.
    """

    start: float
    end: float
    label: str
    score: float


def window_parts(times: np.ndarray) -> np.ndarray:
    """The part of the video that each window speaks for: where its centre is the nearest.

    Args:
        times: float64 (N, 2), start and end of each window, in ascending order.

    Returns:
        float64 (N, 2). Where windows overlap or touch, the part of one ends where that of the
        next begins, midway between their centres; where they leave a gap, it belongs to none.
    """
    parts = np.array(times, np.float64)
    centres = parts.mean(axis=1)
    borders = (centres[:-1] + centres[1:]) / 2
    joined = times[1:, 0] <= times[:-1, 1] + _TOUCHING
    parts[:-1, 1] = np.where(joined, borders, times[:-1, 1])
    parts[1:, 0] = np.where(joined, borders, times[1:, 0])
    return parts


def find_spans(
    times: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    *,
    threshold: float = 0.5,
    multi_label: bool = False,
) -> list[Span]:
    """Joins windows that show the same label.

    A window shows the most probable class if its probability is at least the threshold; by a
    multi-label model every such class. It speaks for its part of the video (`window_parts`), so
    that a moment which several windows see counts for one. Parts that touch and show the same
    label are one span, whose score is the mean of the label's probabilities. Spans of one label
    never overlap, and of a model that is not a multi-label one no two spans do.

    Args:
        times: float64 (N, 2), start and end of each window in seconds, in ascending order.
        probabilities: float32 (N, K).
        class_names: the K classes.
        threshold: probability in [0, 1].
        multi_label: whether each class has a probability of its own.

    Returns:
        The spans by start, then by score, the highest first.
    """
    shown = probabilities >= threshold
    if not multi_label:
        shown &= np.arange(probabilities.shape[1]) == probabilities.argmax(axis=1)[:, None]
    parts = window_parts(times)
    new = np.concatenate([[True], parts[1:, 0] > parts[:-1, 1] + _TOUCHING])[: len(parts)]
    spans = []
    for label in np.flatnonzero(shown.any(axis=0)):
        windows = np.flatnonzero(shown[:, label])
        starts = np.flatnonzero((np.diff(windows, prepend=-2) > 1) | new[windows])
        for run in np.split(windows, starts[1:]):
            score = float(probabilities[run, label].mean())
            start, end = float(parts[run[0], 0]), float(parts[run[-1], 1])
            spans.append(Span(start, end, class_names[label], score))
    return sorted(spans, key=lambda span: (span.start, -span.score))
