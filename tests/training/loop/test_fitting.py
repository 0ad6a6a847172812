"""Which epochs one call of `fit` trains."""

import errno

import keras
import numpy as np
import pytest
import tensorflow as tf

from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.errors import UserError
from mvit_tf.interruption import StopRequest
from mvit_tf.training.loop.callbacks import EpochCheckpoints, StepCheckpoints
from mvit_tf.training.loop.fitting import Segment, fit, full_disk_told, next_segment
from mvit_tf.training.loop.training_state import TrainingState
from mvit_tf.training.storage.checkpoints import CheckpointStore


def segments(start_step, epochs, steps_per_epoch, skipped=(), steps_per_execution=1):
    found, epoch = [], start_step // steps_per_epoch
    while epoch < epochs:
        segment = next_segment(
            start_step,
            epoch=epoch,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
            skipped=skipped,
            steps_per_execution=steps_per_execution,
        )
        found.append((segment.epoch, segment.end, segment.start_step, segment.steps))
        epoch, start_step = segment.end, segment.end * steps_per_epoch
    return found


def test_whole_epochs_are_one_segment():
    assert segments(0, 5, 3) == [(0, 5, 0, 3)]
    assert segments(6, 5, 3) == [(2, 5, 6, 3)]


def test_a_begun_epoch_and_those_with_skipped_steps_have_one_each():
    assert segments(4, 5, 3) == [(1, 2, 4, 2), (2, 5, 6, 3)]
    assert segments(0, 5, 3, skipped=(7,)) == [(0, 2, 0, 3), (2, 3, 6, 2), (3, 5, 9, 3)]
    assert segments(4, 3, 3, skipped=(5, 1)) == [(1, 2, 4, 1), (2, 3, 6, 3)]
    assert segments(5, 3, 3, skipped=(5,)) == [(1, 2, 5, 0), (2, 3, 6, 3)]
    # All its steps are done, and it is still to be validated.
    assert next_segment(3, epoch=0, epochs=2, steps_per_epoch=3) == Segment(0, 1, 3, 0)


def test_steps_executed_at_once_do_not_run_into_the_next_epoch():
    assert segments(0, 4, 6, steps_per_execution=3) == [(0, 4, 0, 6)]
    assert segments(0, 2, 5, steps_per_execution=3) == [(0, 1, 0, 5), (1, 2, 5, 5)]


@pytest.mark.parametrize("steps_per_execution", [1, 2])
def test_every_step_is_trained_once_and_in_order(tmp_path, steps_per_execution):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile("sgd", loss="mse", steps_per_execution=steps_per_execution)
    state = TrainingState(
        model, CheckpointStore(tmp_path), OutcomeLedger(), steps_per_epoch=3, clips_per_step=1
    )
    seen = []

    def clips(start_step, skipped, number):
        steps = [step for step in range(start_step, 9) if step not in skipped][:number]

        def batches():
            for step in steps:
                seen.append(step)
                yield np.full((1, 1), step, "float32"), np.zeros((1, 1), "float32")

        spec = tf.TensorSpec((1, 1))
        made = tf.data.Dataset.from_generator(batches, output_signature=(spec, spec))
        return made.apply(tf.data.experimental.assert_cardinality(len(steps)))

    state.progress = type(state.progress)(epoch_step=1, step=1, skipped_steps=(4,))
    stop = StopRequest()
    around = [StepCheckpoints(state, stop), EpochCheckpoints(state, stop)]
    fit(state, clips, epochs=3, callbacks=around, steps_per_execution=steps_per_execution)
    assert sorted(set(seen)) == [1, 2, 3, 5, 6, 7, 8]
    assert int(model.optimizer.iterations) == 7
    assert (state.progress.epoch, state.progress.epoch_step, state.progress.step) == (3, 0, 9)
    assert state.store.newest() == (state.store.step_path(9), state.progress)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        tf.errors.ResourceExhaustedError(None, None, "log; No space left on device"),
    ],
)
def test_a_full_disk_is_told_in_one_line(error):
    words = "no space in /runs/mine: .*; free some and run the same"
    with pytest.raises(UserError, match=words), full_disk_told("/runs/mine"):
        raise error


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "broken"), tf.errors.ResourceExhaustedError(None, None, "OOM")]
)
def test_other_errors_pass(error):
    with pytest.raises(type(error)), full_disk_told("/runs/mine"):
        raise error
