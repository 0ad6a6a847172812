"""What is said of a claim, on made-up scores."""

import pytest

from mvit_tf.studies.study import Claim
from mvit_tf.studies.verdict import judge, summarise

CLAIM = Claim(says="A beats B", greater="a", less="b")


def verdict(a, b, published=(0.772, 0.758)):
    return judge(CLAIM, {"a": a, "b": b}, dict(zip("ab", published, strict=True)))


def test_mean_and_sample_deviation():
    summary = summarise([0.6, 0.7, 0.8])
    assert (summary.mean, summary.deviation, summary.runs) == (
        pytest.approx(0.7),
        pytest.approx(0.1),
        3,
    )
    assert summarise([0.5]).deviation is None


@pytest.mark.parametrize(
    ("a", "b", "answer"),
    [
        # Deviations of 0.1 and 0: the spread is 0.1.
        ([0.6, 0.7, 0.8], [0.55, 0.55, 0.55], "shows"),
        ([0.6, 0.7, 0.8], [0.65, 0.65, 0.65], "does not show"),
        ([0.6, 0.7, 0.8], [0.75, 0.75, 0.75], "does not show"),
        ([0.6, 0.7, 0.8], [0.85, 0.85, 0.85], "the other way round"),
        # 0.15 apart, but the spread is 0.1 * sqrt(2) * 2 = 0.28.
        ([0.5, 0.7, 0.9], [0.35, 0.55, 0.75], "does not show"),
        ([0.7, 0.7], [0.7, 0.7], "does not show"),
        ([0.9], [0.1, 0.1], "open"),
        ([], [0.1, 0.1], "open"),
    ],
)
def test_a_claim_shows_by_more_than_the_spread_or_not(a, b, answer):
    assert verdict(a, b).answer == answer


def test_a_verdict_is_one_line_with_its_numbers():
    line = verdict([0.6, 0.7, 0.8], [0.55, 0.55, 0.55]).in_words()
    assert line == (
        "A beats B: shows; +15.0 points of accuracy, more than the spread of 10.0 (published: +1.4)"
    )
    line = verdict([0.6, 0.7, 0.8], [0.65, 0.65, 0.65], (None, 0.7)).in_words()
    assert line == "A beats B: does not show; +5.0 points of accuracy, within the spread of 10.0"
    line = verdict([0.72, 0.71, 0.72], [0.66, 0.64, 0.35]).in_words()
    assert line == (
        "A beats B: does not show; +16.7 points of accuracy, within the spread of 17.4, but every "
        "run of a above all of b (published: +1.4)"
    )
    line = verdict([0.5], [0.4]).in_words()
    assert line == "A beats B: open; it takes two runs or more of each"
