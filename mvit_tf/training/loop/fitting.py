"""Training from any step to the end by `keras.Model.fit`.

`fit` knows whole epochs of equally many steps. Where training goes on within an epoch, or leaves
steps out, it is called once for each run of epochs that are alike.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence

import keras
import tensorflow as tf

from mvit_tf.errors import UserError
from mvit_tf.files import is_disk_full
from mvit_tf.training.loop.training_state import TrainingState, steps_of_epoch


@dataclasses.dataclass(frozen=True)
class Segment:
    """Epochs that one call of `fit` trains.

    Attributes:
        epoch: index of the first.
        end: index of the one before which it ends.
        start_step: the first step, counted from the start of training.
        steps: in each of the epochs; 0 where all that is left of one is its end.
    """

    epoch: int
    end: int
    start_step: int
    steps: int


def next_segment(
    start_step: int,
    *,
    epoch: int,
    epochs: int,
    steps_per_epoch: int,
    skipped: Collection[int] = (),
    steps_per_execution: int = 1,
) -> Segment:
    """The longest segment from a step of an epoch on.

    Args:
        start_step: the first step, counted from the start of training; the end of `epoch` where
            all its steps are done.
        epoch: index of the epoch.
        epochs: index of the epoch before which training ends.
        steps_per_epoch: steps in a whole epoch.
        skipped: steps to leave out.
        steps_per_execution: steps that Keras executes at once. It does not stop between them, so
            epochs that are no multiple have a segment, and a dataset, each.
    """
    steps = len(steps_of_epoch(epoch, steps_per_epoch, start_step, skipped))
    end = epoch + 1
    if steps and steps % steps_per_execution == 0:
        left_out = {step // steps_per_epoch for step in skipped}
        while end < epochs and steps == steps_per_epoch and end not in left_out:
            end += 1
    return Segment(epoch, end, start_step, steps)


def fit(
    state: TrainingState,
    clips: Callable[[int, Sequence[int], int], tf.data.Dataset],
    *,
    epochs: int,
    callbacks: Sequence[keras.callbacks.Callback],
    steps_per_execution: int = 1,
):
    """Trains the model of a state, from where it stands.

    Args:
        state: of the training; its callbacks keep it up to date.
        clips: called with the first step, the steps to skip and the number of steps, gives the
            batches.
        epochs: to end after.
        callbacks: for `keras.Model.fit`. One of them may set `model.stop_training`.
        steps_per_execution: of the model.
    """
    model = state.model
    model.stop_training = False
    while state.progress.epoch < epochs and not model.stop_training:
        skipped = state.progress.skipped_steps
        segment = next_segment(
            state.next_step,
            epoch=state.progress.epoch,
            epochs=epochs,
            steps_per_epoch=state.steps_per_epoch,
            skipped=skipped,
            steps_per_execution=steps_per_execution,
        )
        if not segment.steps:
            _end_epoch(model, segment.epoch, state.logs, callbacks)
            continue
        steps = (segment.end - segment.epoch) * segment.steps
        model.fit(
            clips(segment.start_step, skipped, steps),
            epochs=segment.end,
            initial_epoch=segment.epoch,
            steps_per_epoch=segment.steps,
            shuffle=False,
            verbose=0,  # `callbacks` tell.
            callbacks=list(callbacks),
        )


def _end_epoch(model, epoch, logs, callbacks):
    """What `fit` does after the last step of an epoch."""
    around = keras.callbacks.CallbackList(list(callbacks), model=model)
    around.on_train_begin()
    around.on_epoch_begin(epoch)
    around.on_epoch_end(epoch, dict(logs))
    around.on_train_end()


@contextlib.contextmanager
def full_disk_told(folder) -> Iterator[None]:
    """Context in which a disk that is full is a `UserError`: what is saved is not lost.

    Args:
        folder: that is written to.
    """
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        if not is_disk_full(error):
            raise
        raise UserError(
            f"no space in {folder}: {getattr(error, 'strerror', None) or error}; free some and "
            "run the same command: it goes on from what is saved"
        ) from error
