"""The learning rate against SlowFast's own formula, step by step."""

import math

import keras
import pytest

from mvit_tf.training.schedule import warmup_cosine


def slowfast_learning_rate(epoch, *, base, end, max_epoch, warmup_epochs, warmup_start):
    """`get_lr_at_epoch` of slowfast/utils/lr_policy.py, with COSINE_AFTER_WARMUP: True."""

    def cosine(at):
        share = (at - warmup_epochs) / (max_epoch - warmup_epochs)
        return end + (base - end) * (math.cos(math.pi * share) + 1.0) * 0.5

    if epoch < warmup_epochs:
        alpha = (cosine(warmup_epochs) - warmup_start) / warmup_epochs
        return epoch * alpha + warmup_start
    return cosine(epoch)


@pytest.mark.parametrize("warmup_epochs", [0, 2.5, 30])
def test_equals_slowfast_at_every_step(warmup_epochs):
    steps, epochs = 10, 200
    schedule = warmup_cosine(
        learning_rate=1.6e-3,
        steps_per_epoch=steps,
        epochs=epochs,
        warmup_epochs=warmup_epochs,
        warmup_start_learning_rate=1.6e-5,
        end_learning_rate=1.6e-5,
    )
    for step in range(epochs * steps + 1):
        expected = slowfast_learning_rate(
            step / steps,
            base=1.6e-3,
            end=1.6e-5,
            max_epoch=epochs,
            warmup_epochs=warmup_epochs,
            warmup_start=1.6e-5,
        )
        assert float(schedule(step)) == pytest.approx(expected, rel=2e-5), step


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
