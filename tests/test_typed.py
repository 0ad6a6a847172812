"""Checked dataclasses: what they take, and what they say of what they do not."""

from typing import Literal

import numpy as np
import pytest

from mvit_tf.errors import UserError
from mvit_tf.typed import Channels, Count, Positive, Size, frozen_dataclass


@frozen_dataclass
class Example:
    count: Count
    rate: Positive = 4.0
    size: Size = (2, 3)
    mean: Channels = (0.0, 0.0, 0.0)
    rule: Literal["even", "odd"] = "even"
    flip: bool = False

    def __post_init__(self):
        if self.count > 100:
            raise UserError(f"{self.count} are too many")


def test_whole_numbers_are_numbers_and_lists_tuples():
    example = Example(3, 2, [4, 5], mean=[1, 2.5, 3])
    assert (example.rate, example.size, example.mean) == (2.0, (4, 5), (1.0, 2.5, 3.0))
    assert isinstance(example.rate, float)
    assert hash(example) == hash(Example(3, 2.0, (4, 5), (1, 2.5, 3)))


def test_numpy_integers_are_integers():
    example = Example(np.int64(3), np.float32(2), (np.int32(4), 5))
    assert (example.count, example.rate, example.size) == (3, 2.0, (4, 5))
    assert type(example.count) is int


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 0}, "count=0 must be at least 1"),
        ({"count": True}, "count=True must be of type int"),
        ({"count": 2.5}, "count=2.5 must be of type int"),
        ({"rate": "4"}, "rate='4' must be of type float"),
        ({"rate": 0}, "rate=0.0 must be greater than 0.0"),
        ({"rate": float("inf")}, "rate=inf must be a finite number"),
        ({"mean": [0, float("nan"), 0]}, "mean[1]=nan must be a finite number"),
        ({"mean": [0, 0]}, "mean=[0, 0] must be a list of 3 float values"),
        ({"size": (1, 2, 3)}, "size=(1, 2, 3) must be a list of 2 int values"),
        ({"size": 4}, "size=4 must be a list of 2 int values"),
        ({"rule": "evn"}, "rule='evn' must be one of even, odd"),
        ({"flip": 1}, "flip=1 must be of type bool"),
        ({"count": 101}, "101 are too many"),
    ],
)
def test_refusals_are_one_line_with_name_value_and_what_is_legal(values, message):
    with pytest.raises(UserError) as refusal:
        Example(**{"count": 1, **values})
    assert str(refusal.value) == message


def test_a_value_by_position_is_named_too():
    with pytest.raises(UserError, match="rate=-1.0 must be greater than 0.0"):
        Example(1, -1)


@pytest.mark.parametrize("arguments", [{}, {"count": 1, "cuont": 2}])
def test_wrong_names_are_type_errors(arguments):
    with pytest.raises(TypeError, match="cuont|count"):
        Example(**arguments)
