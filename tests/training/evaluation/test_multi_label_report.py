"""Average precision and the report of multi-label sets."""

import json

import numpy as np
import pytest

from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.errors import UserError
from mvit_tf.training.evaluation.multi_label_report import (
    average_precisions,
    make_multi_label_report,
)


def test_average_precision_is_that_of_scikit_learn():
    """Of 1.9.1, on scores with many ties; no video has class 3."""
    rng = np.random.default_rng(3)
    truth = rng.random((40, 5)) < [0.5, 0.1, 0.3, 0, 0.05]
    scores = np.round(rng.random((40, 5)), 1)
    found = average_precisions(truth, scores)
    expected = [0.640193484801328, 0.15263157894736842, 0.3044823232323232, np.nan, 0.025]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_average_precision_by_hand():
    """Right, wrong, right, wrong: half the recall at precision 1, half at 2/3."""
    scores = np.array([[0.9], [0.8], [0.7], [0.1]])
    truth = np.array([[True], [False], [True], [False]])
    assert average_precisions(truth, scores)[0] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert average_precisions(truth, np.zeros((4, 1)))[0] == 0.5


def test_a_report_leaves_out_classes_without_videos_and_counts_what_failed(tmp_path):
    paths = ("a.mp4", "b.mp4", "c.mp4", "bad.mp4")
    videos = VideoList(paths, ((0, 1), (0,), (), (1,)), ("x", "y", "nobody"))
    probabilities = np.array([[0.9, 0.8, 0.9], [0.6, 0.3, 0.1], [0.7, 0.2, 0.1], [0.99] * 3])
    failures = {"bad.mp4": ("decode_error", "a damaged frame")}
    report = make_multi_label_report(probabilities, np.array([2, 2, 2, 0]), videos, failures)
    assert (report.num_videos, report.num_decoded) == (4, 3)
    of_x = 0.5 + 0.5 * 2 / 3
    assert report.score == pytest.approx((of_x + 1) / 2)
    # Of the two videos of y one is at the top, and the failed one after all others.
    assert report.mean_average_precision_of_all == pytest.approx((of_x + 0.5 + 0.5 * 2 / 4) / 2)
    of_truth = [0.9, 0.8, 0.1, 0.6, 0.7, 0.9, 0.3, 0.8, 0.9]
    assert report.loss == pytest.approx(-np.log(of_truth).mean())
    report.write(tmp_path / "report.json", epoch=3)
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["epoch"] == 3
    assert written["per_class"][1:] == [
        {"name": "y", "videos": 2, "decoded": 1, "average_precision": 1.0},
        {"name": "nobody", "videos": 0, "decoded": 0, "average_precision": None},
    ]
    assert written["missing"] == [{"path": "bad.mp4", "reason": "decode_error: a damaged frame"}]


def test_nothing_to_find_is_refused():
    videos = VideoList(("a.mp4", "b.mp4"), ((), (0,)), ("x",))
    with pytest.raises(UserError, match="no video to evaluate on has a label"):
        make_multi_label_report(np.zeros((2, 1)), np.array([1, 0]), videos, {})
