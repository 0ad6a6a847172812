"""Where a training stands between two steps, and what is kept of it."""

import dataclasses
import time
from collections.abc import Callable, Collection, Mapping

import keras
import numpy as np
from absl import logging

from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.errors import UserError
from mvit_tf.training.storage.checkpoints import CheckpointStore, Progress, RunningEpoch, restore
from mvit_tf.weights_file import first_not_finite


class NonFiniteStep(Exception):
    """A training step whose loss, gradient or weights are not finite.

    Args:
        steps: counted from 0. More than one where Keras executes several at once: one of them.
        reason: what is not finite.
        logs: metrics of the step.
    """

    def __init__(self, steps: Collection[int], reason: str, logs: Mapping[str, float]):
        super().__init__(f"{reason} at step {max(steps) + 1}")
        self.steps = tuple(steps)
        self.reason = reason
        self.logs = dict(logs)


def steps_of_epoch(
    epoch: int, steps_per_epoch: int, start: int = 0, skipped: Collection[int] = ()
) -> list[int]:
    """The steps of an epoch from `start` on that are not skipped, counted from training's start."""
    first = epoch * steps_per_epoch
    every = range(max(start, first), first + steps_per_epoch)
    return [step for step in every if step not in skipped]


class TrainingState:
    """The state of a training that is running.

    Args:
        model: compiled.
        store: of its checkpoints.
        ledger: of the clips it is trained on.
        steps_per_epoch: steps in an epoch.
        clips_per_step: clips in a step.
        progress: of the checkpoint in `model`; by default none is.
        running_epoch: what that checkpoint has of an epoch begun.
        before_save: called before each checkpoint; it may raise.
    """

    def __init__(
        self,
        model: keras.Model,
        store: CheckpointStore,
        ledger: OutcomeLedger,
        *,
        steps_per_epoch: int,
        clips_per_step: int,
        progress: Progress | None = None,
        running_epoch: RunningEpoch | None = None,
        before_save: Callable[[], None] = lambda: None,
    ):
        self._before_save = before_save
        self.model = model
        self.store = store
        self.steps_per_epoch = steps_per_epoch
        self.logs = {}
        self._ledger = ledger
        self._clips_per_step = clips_per_step
        # What to go back to before the first checkpoint.
        self._beginning = None if progress else _values(model)
        self._saved = progress
        self._steps = []
        self.epoch_is_trained = False
        self._go_on_from(progress or Progress(), running_epoch or RunningEpoch())

    def _go_on_from(self, progress, running_epoch):
        # Of fewer videos than before an epoch has fewer steps.
        within = min(progress.epoch_step, self.steps_per_epoch)
        skipped = progress.skipped_steps
        if progress.steps_per_epoch not in (None, self.steps_per_epoch):
            skipped = ()  # Their numbers are those of other batches now.
            logging.warning(
                f"an epoch has {self.steps_per_epoch} steps, and had {progress.steps_per_epoch}: "
                "the learning rate goes on by steps, as if it had always been so"
            )
        self.progress = dataclasses.replace(
            progress,
            epoch_step=within,
            skipped_steps=skipped,
            steps_per_epoch=self.steps_per_epoch,
        )
        if progress.step is None:  # of an older version
            self.progress = dataclasses.replace(self.progress, step=self.next_step)
        self.logs = dict(running_epoch.logs)
        self._metrics = list(running_epoch.metrics)
        self._ledger.restore_epoch(progress.epoch, running_epoch.clips)
        self.saved_step, self.saved_at = self.progress.step, time.monotonic()

    @property
    def next_step(self) -> int:
        """The step to train next, counted from 0: the place in the data."""
        return self.progress.epoch * self.steps_per_epoch + self.progress.epoch_step

    @property
    def is_saved(self) -> bool:
        """Whether a checkpoint holds just this state."""
        return self.progress == self._saved

    @property
    def last_step(self) -> int:
        """The last step of the running epoch that is or was to be trained."""
        return self._steps[-1] if self._steps else self.next_step - 1

    def steps_left(self) -> list[int]:
        """The steps of the running epoch that are still to be trained."""
        progress = self.progress
        return steps_of_epoch(
            progress.epoch, self.steps_per_epoch, self.next_step, progress.skipped_steps
        )

    def begin_epoch(self):
        """Puts the metrics of an epoch that goes on to where they were."""
        self._steps = self.steps_left()
        self.epoch_is_trained = not self._steps
        if self._metrics:
            if not self._has_metrics():
                # Keras makes those of `compile` with the first step, unless there is a strategy.
                nothing = np.zeros((1, *self.model.output_shape[1:]), "float32")
                self.model.compute_metrics(None, nothing, nothing)
            variables = self.model.metrics_variables
            if len(self._metrics) == len(variables):
                for variable, value in zip(variables, self._metrics, strict=True):
                    variable.assign(np.asarray(value, variable.dtype))
            else:  # saved by a version with other metrics
                logging.warning(f"the metrics of epoch {self.progress.epoch + 1} begin anew")
        self._metrics = []

    def _has_metrics(self) -> bool:
        try:
            self.model.get_metrics_result()
        except ValueError:  # Some have no variables, by whose number one could tell.
            return False
        return True

    def after_batch(self, batch: int, logs: Mapping[str, float]):
        """Notes that the steps up to the batch of this number in `fit`'s epoch are done."""
        last = min(batch, len(self._steps) - 1)
        self.epoch_is_trained = last == len(self._steps) - 1
        self._set_epoch_step(self._steps[last] + 1)
        self.logs = {name: float(value) for name, value in logs.items()}

    def trained_by(self, batch: int, batches: int) -> tuple[int, ...]:
        """The last steps up to a batch, as many as were executed at once."""
        last = min(batch, len(self._steps) - 1)
        first = last - last % batches
        return tuple(self._steps[first : last + 1])

    def end_steps(self):
        """Notes that all steps of the epoch are done."""
        self._set_epoch_step((self.progress.epoch + 1) * self.steps_per_epoch)

    def _set_epoch_step(self, position):
        moved = position - self.next_step
        self.progress = dataclasses.replace(
            self.progress,
            epoch_step=self.progress.epoch_step + moved,
            step=self.progress.step + moved,
        )

    def end_epoch(self, score: float | None, loss: float | None):
        """Notes that the epoch is done, with its validation; see `Progress.after_epoch`."""
        self.end_steps()
        self.progress = self.progress.after_epoch(score, loss)
        self.logs = {}

    def save(self):
        """Writes a checkpoint.

        Raises:
            NonFiniteStep: the last step has spoilt the weights, which are not written.
            UserError: the disk is full.
        """
        self._before_save()
        variable = first_not_finite(self.model)
        if variable and self.progress.epoch_step:
            done = [step for step in self._steps if step < self.next_step]
            step = done[-1] if done else self.next_step - 1
            raise NonFiniteStep((step,), f"{variable} is not finite", self.logs)
        begun = self.progress.epoch_step > 0
        values = [keras.ops.convert_to_numpy(v) for v in self.model.metrics_variables]
        running = RunningEpoch(
            self.logs if begun else {},
            [value.tolist() for value in values] if begun else [],
            self._ledger.epoch_state(
                self.progress.epoch, self.progress.epoch_step * self._clips_per_step
            ),
        )
        self.store.save(self.model, self.progress, running)
        self._saved = self.progress
        self.saved_step, self.saved_at = self.progress.step, time.monotonic()
        self._beginning = None

    def discard_checkpoint(self):
        """Removes the checkpoint of this very state, which has turned out to be useless."""
        self.store.discard(self.progress.step)

    def go_back(self, skipped: Collection[int]):
        """Takes up the newest checkpoint, or training's beginning, and leaves steps out from now.

        Raises:
            UserError: no checkpoint can be read.
        """
        before = self.progress
        newest = self.store.newest() if self._beginning is None else None
        if newest is None:
            if self._beginning is None:
                raise UserError(
                    f"{self.store.directory} holds no checkpoint any more to go back to"
                )
            progress, running_epoch = Progress(), RunningEpoch()
            for variable, value in zip(_variables(self.model), self._beginning, strict=True):
                variable.assign(value)
        else:
            path, progress = newest
            running_epoch = restore(self.model, path)
        self._go_on_from(
            dataclasses.replace(
                progress,
                skipped_steps=tuple(sorted({*before.skipped_steps, *skipped})),
                rollbacks=before.rollbacks + 1,
            ),
            running_epoch,
        )
        self._saved = None
        logging.warning(
            f"going back to step {self.progress.step}, and on without step "
            + ", ".join(str(step + 1) for step in skipped)
        )


def _variables(model):
    return [*model.variables, *model.optimizer.variables]


def _values(model):
    return [keras.ops.convert_to_numpy(v).copy() for v in _variables(model)]
