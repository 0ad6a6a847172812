"""What is said of repeated measurements, and the shares and ratios made of them."""

import dataclasses
from collections.abc import Sequence

import numpy as np

FLOP_PER_MAC = 2
# A training step multiplies every weight three times: once forward, and for the gradients of
# its input and of itself.
FORWARDS_PER_STEP = {"forward": 1, "train": 3}


@dataclasses.dataclass(frozen=True)
class Summary:
    """Median and quartiles of `count` measurements."""

    median: float
    lower_quartile: float
    upper_quartile: float
    count: int


def summarise(values: Sequence[float]) -> Summary:
    """Median and quartiles, interpolated linearly between measurements.

    Raises:
        ValueError: there are none.
    """
    if not len(values):
        raise ValueError("no measurements")
    lower, median, upper = np.percentile(values, [25, 50, 75])
    return Summary(float(median), float(lower), float(upper), len(values))


def work(macs: int, batch: int, mode: str) -> int:
    """Floating point operations of one iteration.

    Args:
        macs: multiply-adds of one clip's forward pass, as `mvit_tf.complexity` counts them.
        batch: clips in an iteration.
        mode: "forward" or "train".
    """
    return FLOP_PER_MAC * FORWARDS_PER_STEP[mode] * batch * macs


def relative_difference(values, reference) -> float:
    """Largest absolute difference over the largest absolute value of the reference."""
    values, reference = np.asarray(values, np.float64), np.asarray(reference, np.float64)
    return float(np.abs(values - reference).max() / np.abs(reference).max())
