"""The learning rate against SlowFast's own formula, step by step."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from mvit_tf.training.optimization.schedule import warmup_cosine


def slowfast_learning_rate(epoch, *, base, end, max_epoch, warmup_epochs, warmup_start):
    """`get_lr_at_epoch` of slowfast/utils/lr_policy.py, with COSINE_AFTER_WARMUP: True."""

    def cosine(at):
        share = (at - warmup_epochs) / (max_epoch - warmup_epochs)
        return end + (base - end) * (math.cos(math.pi * share) + 1.0) * 0.5

    if epoch < warmup_epochs:
        alpha = (cosine(warmup_epochs) - warmup_start) / warmup_epochs
        return epoch * alpha + warmup_start
    return cosine(epoch)


# Of the papers and of SlowFast's files; the last one's steps do not divide evenly.
_RECIPES = {
    "kinetics": {"base": 1.6e-3, "start": 1.6e-5, "end": 1.6e-5, "epochs": 200, "warmup": 30},
    "slowfast_file": {"base": 1e-4, "start": 1e-6, "end": 1e-6, "epochs": 200, "warmup": 30},
    "fine_tuning": {"base": 4.8e-4, "start": 4.8e-6, "end": 4.8e-6, "epochs": 100, "warmup": 2.5},
    "something_sgd": {"base": 0.02, "start": 0.0, "end": 0.0, "epochs": 100, "warmup": 0},
    "ava_sgd": {"base": 0.6, "start": 1e-3, "end": 6e-3, "epochs": 30, "warmup": 5},
    "thirds": {"base": 1e-3, "start": 1e-5, "end": 1e-6, "epochs": 9, "warmup": 7 / 3},
}


@pytest.mark.parametrize("name", _RECIPES)
def test_equals_slowfast_at_every_step(name):
    """To 4e-7 of the peak, which is float32's rounding and the cosine's."""
    recipe = _RECIPES[name]
    steps = 30 if name == "thirds" else 10
    schedule = warmup_cosine(
        learning_rate=recipe["base"],
        steps_per_epoch=steps,
        epochs=recipe["epochs"],
        warmup_epochs=recipe["warmup"],
        warmup_start_learning_rate=recipe["start"],
        end_learning_rate=recipe["end"],
    )
    numbers = range(recipe["epochs"] * steps + 1)
    expected = [
        slowfast_learning_rate(
            step / steps,
            base=recipe["base"],
            end=recipe["end"],
            max_epoch=recipe["epochs"],
            warmup_epochs=recipe["warmup"],
            warmup_start=recipe["start"],
        )
        for step in numbers
    ]
    found = tf.vectorized_map(schedule, tf.constant(numbers)).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=4e-7 * recipe["base"])


def test_ends_at_the_end_rate_and_survives_serialisation():
    schedule = warmup_cosine(
        learning_rate=1e-3, steps_per_epoch=7, epochs=5, warmup_epochs=1, end_learning_rate=1e-5
    )
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert float(schedule(0)) == 0.0
    assert float(schedule(7)) == pytest.approx(1e-3)
    assert float(schedule(35)) == pytest.approx(1e-5, rel=1e-4)
    assert [float(again(step)) for step in range(36)] == [
        float(schedule(step)) for step in range(36)
    ]


def test_a_warm_up_that_rounds_to_all_steps_leaves_one_to_the_cosine():
    schedule = warmup_cosine(learning_rate=1.0, steps_per_epoch=3, epochs=2, warmup_epochs=1.9)
    assert [float(schedule(step)) for step in (0, 5, 6)] == pytest.approx([0.0, 1.0, 0.0])
