"""Medians, operation counts and differences on numbers known beforehand."""

import numpy as np
import pytest

import mvit_tf
from mvit_tf.analysis.complexity import complexity
from mvit_tf.benchmark import cells
from mvit_tf.benchmark.model_part import CellResult, Measurement
from mvit_tf.benchmark.report import format_table
from mvit_tf.benchmark.statistics import Summary, relative_difference, summarise, work


def test_summary_of_known_numbers():
    assert summarise([5.0, 1.0, 3.0, 2.0, 4.0]) == Summary(3.0, 2.0, 4.0, 5)
    assert summarise([1.0, 2.0, 3.0, 4.0]) == Summary(2.5, 1.75, 3.25, 4)
    assert summarise([0.25]) == Summary(0.25, 0.25, 0.25, 1)


def test_summary_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no measurements"):
        summarise([])


def test_a_training_step_is_three_forward_passes_of_two_operations_a_multiply_add():
    assert work(10, batch=4, mode="forward") == 80
    assert work(10, batch=4, mode="train") == 240


def test_relative_difference_is_over_the_largest_of_the_reference():
    assert relative_difference([1.0, -3.5], [1.0, -4.0]) == 0.125
    assert relative_difference(2.5, 2.0) == 0.25
    assert np.isnan(relative_difference([np.nan], [1.0]))


def test_share_of_the_ceiling_is_of_the_best_matrix_product():
    config = mvit_tf.get_config("mvit_b_16x4")
    cell = cells.Cell("mvit_b_16x4", config, "train", 2, "float32")
    measurement = Measurement(
        name="ours", framework="tensorflow", seconds=(1.0, 2.0, 9.0), ratio=1.0,
        first_seconds=3.0, build_seconds=4.0, peak_bytes=5, difference=0.0, description={},
    )  # fmt: skip
    flops = 2 * 3 * 2 * complexity(config).macs
    result = CellResult(cell, (measurement,), {"torch": flops / 8, "tensorflow": flops / 1.0}, {})
    assert result.share_of_ceiling(measurement) == pytest.approx(0.5)
    assert result.to_dict()["measurements"][0]["summary"]["median"] == 2.0


def test_tables_line_up():
    assert format_table(("", "b"), [("one", "1.5"), ("three", "10.25")]) == [
        "           b",
        "one      1.5",
        "three  10.25",
    ]
