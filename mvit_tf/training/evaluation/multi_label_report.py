"""The scores of a model on videos that may have any number of labels."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.errors import UserError
from mvit_tf.training.evaluation.evaluation import missing_videos, partial_videos, write_report

_LEAST = np.finfo(np.float32).tiny


@dataclasses.dataclass(frozen=True)
class MultiLabelReport:
    """Scores of a model on a multi-label list of videos.

    A video that could not be decoded has no score. It is missing from the mean average precision
    "of decoded", and comes after all others in that "of all". Classes without a video that has
    them are left out of both.

    Attributes:
        num_videos: videos asked for.
        num_decoded: videos with at least one view.
        loss: mean binary cross-entropy over the decoded and the classes.
        mean_average_precision_of_decoded, mean_average_precision_of_all: in [0, 1].
        per_class: for each class its name, videos, decoded, and average precision on the decoded
            (`None` if it has none).
        missing: path and reason of each video that has no score.
        partial: path, damaged share of the frames asked for, and reason, of each video that was
            decoded but for some frames.
    """

    metric = "mean_average_precision"

    num_videos: int
    num_decoded: int
    loss: float
    mean_average_precision_of_decoded: float
    mean_average_precision_of_all: float
    per_class: list[dict]
    missing: list[dict]
    partial: list[dict] = dataclasses.field(default_factory=list)

    @property
    def score(self) -> float:
        """What the best epoch is told by."""
        return self.mean_average_precision_of_decoded

    def write(self, path: str | Path, **context):
        """Writes the report as JSON, after `context` (what was evaluated and how)."""
        write_report(self, path, context)


def make_multi_label_report(
    probabilities: np.ndarray,
    num_views: np.ndarray,
    videos: VideoList,
    failures: Mapping[str, tuple[str, str]],
    partial: Mapping[str, tuple[float, str]] | None = None,
) -> MultiLabelReport:
    """Scores the probabilities of videos against all of their labels.

    Args:
        probabilities: (videos, classes), rows of videos without views are ignored.
        num_views: (videos,), 0 for a video that could not be decoded.
        videos: paths, labels and class names.
        failures: outcome and detail of each video that failed, by its name, from the ledger.
        partial: damaged share and detail of each that lacks some frames, the same way.

    Raises:
        UserError: no video that could be decoded has a label.
    """
    truth, decoded = videos.label_matrix(), num_views > 0
    if not truth[decoded].any():
        raise UserError(
            "no video to evaluate on has a label, so there is no average precision: add some"
        )
    of_class = average_precisions(truth[decoded], probabilities[decoded])
    of_all = average_precisions(truth, np.where(decoded[:, None], probabilities, -1.0))
    scores = probabilities[decoded]
    of_truth = np.where(truth[decoded], scores, 1 - scores)
    return MultiLabelReport(
        num_videos=len(videos),
        num_decoded=int(decoded.sum()),
        loss=float(-np.log(np.maximum(of_truth, _LEAST)).mean()),
        mean_average_precision_of_decoded=float(np.nanmean(of_class)),
        mean_average_precision_of_all=float(np.nanmean(of_all)),
        per_class=[
            {
                "name": name,
                "videos": int(truth[:, index].sum()),
                "decoded": int(truth[decoded, index].sum()),
                "average_precision": None if np.isnan(precision) else float(precision),
            }
            for index, (name, precision) in enumerate(
                zip(videos.class_names, of_class, strict=True)
            )
        ],
        missing=missing_videos(videos, decoded, failures),
        partial=partial_videos(partial),
    )


def average_precisions(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Average precision of each class, as scikit-learn's `average_precision_score` defines it.

    The precision at each threshold, weighted by the recall that it adds over the threshold before:
    no interpolation, and equal scores are one threshold.

    Args:
        truth: bool (videos, classes).
        scores: (videos, classes).

    Returns:
        float64 (classes,), NaN for a class that no video has.
    """
    found = np.full(truth.shape[1], np.nan)
    for index in np.flatnonzero(truth.any(axis=0)):
        order = np.argsort(-scores[:, index], kind="stable")
        ranked, right = scores[order, index], np.cumsum(truth[order, index])
        last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
        recall_added = np.diff(right[last], prepend=0) / right[-1]
        found[index] = recall_added @ (right[last] / (last + 1))
    return found
