"""What happens around steps and epochs and is not in Keras: validation, log, checkpoints, ends."""

import csv
import io
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
from absl import logging

from mvit_tf.errors import UserError
from mvit_tf.files import write_json_lines, write_text_atomically
from mvit_tf.interruption import StopRequest
from mvit_tf.training.evaluation.evaluation import EvaluationReport
from mvit_tf.training.evaluation.multi_label_report import MultiLabelReport
from mvit_tf.training.loop.training_state import NonFiniteStep, TrainingState, steps_of_epoch
from mvit_tf.training.storage.checkpoints import Progress
from mvit_tf.weights_file import first_not_finite

CURE = "lower train.learning_rate, lengthen train.warmup_epochs or lower train.clip_norm"


class NonFiniteCheck(keras.callbacks.Callback):
    """Ends `fit` at the first step whose loss or gradient is not finite, before it is saved.

    The loss is that of before the step: after an epoch the weights are looked at too, which its
    last step may have spoilt. Keras' `TerminateOnNaN` ends the epoch instead, whose last
    callbacks would save the weights.

    Args:
        state: of the training.
        steps_per_execution: steps that Keras executes at once.

    Raises:
        NonFiniteStep: from `fit`.
    """

    METRICS = {"loss": "the loss", "gradient_norm": "the gradient's norm"}

    def __init__(self, state: TrainingState, *, steps_per_execution: int = 1):
        super().__init__()
        self._state = state
        self._steps_per_execution = steps_per_execution

    def on_train_batch_end(self, batch, logs=None):
        for metric, name in self.METRICS.items():
            value = float(logs.get(metric, 0.0))
            if not math.isfinite(value):
                steps = self._state.trained_by(batch, self._steps_per_execution)
                raise NonFiniteStep(steps, f"{name} is {value}", logs)

    def on_epoch_end(self, epoch, logs=None):
        variable = first_not_finite(self.model)
        if variable:
            raise NonFiniteStep(
                (self._state.last_step,), f"{variable} is not finite after epoch {epoch + 1}", logs
            )


class StepCheckpoints(keras.callbacks.Callback):
    """Saves within an epoch, before its validation, and when a signal asks to stop.

    Args:
        state: of the training.
        stop: where signals are noted.
        every_steps: steps between checkpoints; `None` counts none.
        every_minutes: minutes between checkpoints; `None` is no clock.
        within_epochs: whether training can go on within an epoch.
        before_epoch_end: whether the end of the epoch of this index takes a while, so that it is
            worth a checkpoint of its own.

    Raises:
        Interrupted: from `fit`, once what a signal came into is saved.
    """

    def __init__(
        self,
        state: TrainingState,
        stop: StopRequest,
        *,
        every_steps: int | None = None,
        every_minutes: float | None = None,
        within_epochs: bool = True,
        before_epoch_end: Callable[[int], bool] = lambda epoch: False,
    ):
        super().__init__()
        self._state = state
        self._stop = stop
        self._every_steps = every_steps
        self._seconds = math.inf if every_minutes is None else 60 * every_minutes
        self._within_epochs = within_epochs
        self._before_epoch_end = before_epoch_end

    def on_epoch_begin(self, epoch, logs=None):
        self._state.begin_epoch()

    def on_train_batch_end(self, batch, logs=None):
        self._state.after_batch(batch, logs)
        if self._state.epoch_is_trained:
            return  # That is saved after what `fit` does at an epoch's end.
        stop, due = self._stop.agree(self._within_epochs and self._is_due())
        if due:
            self._state.save()
            stop = self._stop.agree()[0]  # A signal may have come meanwhile.
        if stop:
            self._end(self._within_epochs)

    def on_epoch_end(self, epoch, logs=None):
        self._state.end_steps()
        self._state.logs = {name: float(value) for name, value in logs.items()}
        if self._before_epoch_end(epoch) and not self._state.is_saved:
            self._state.save()
        if self._stop.agree()[0]:
            self._end(True)

    def _end(self, may_save):
        if may_save and not self._state.is_saved:
            self._state.save()
        if self._state.is_saved:
            logging.info(f"saved       step {self._state.progress.step}")
            self._stop.agree()  # No worker ends before the chief has written.
        else:
            logging.info("not saved   data.service is resumed at the ends of epochs only")
        self._stop.check()

    def _is_due(self):
        steps = self._state.progress.step - self._state.saved_step
        by_steps = self._every_steps is not None and steps >= self._every_steps
        return by_steps or time.monotonic() - self._state.saved_at >= self._seconds


class EpochMetrics(keras.callbacks.Callback):
    """Adds learning rate and validation to the epoch's logs, for every callback after it.

    Args:
        validate: returns the validation of the current weights; `None` without validation data.
        epochs: epochs in all; the last is always validated.
        validate_every: epochs between validations.
        discard_checkpoint: removes what was saved before a validation whose loss is not finite.
    """

    def __init__(
        self,
        *,
        validate: Callable[[], EvaluationReport | MultiLabelReport] | None,
        epochs: int,
        validate_every: int = 1,
        discard_checkpoint: Callable[[], None] = lambda: None,
    ):
        super().__init__()
        self._discard_checkpoint = discard_checkpoint
        self._validate = validate
        self._epochs = epochs
        self._validate_every = validate_every

    def validates(self, epoch: int) -> bool:
        """Whether the epoch of this index is validated."""
        done = epoch + 1
        due = done % self._validate_every == 0 or done == self._epochs
        return self._validate is not None and due

    def on_epoch_end(self, epoch, logs=None):
        learning_rate = self.model.optimizer.learning_rate
        logs["learning_rate"] = float(keras.ops.convert_to_numpy(learning_rate))
        if self.validates(epoch):
            done = epoch + 1
            report = self._validate()
            if not math.isfinite(report.loss):
                self._discard_checkpoint()  # It would be validated to the same end.
                raise UserError(
                    f"the validation loss is {report.loss} after epoch {done}: the weights have "
                    f"run away; the checkpoint is of before; {CURE}"
                )
            logs["val_loss"], logs[f"val_{report.metric}"] = report.loss, report.score


class EpochLog(keras.callbacks.Callback):
    """Keeps one row an epoch in a CSV file, whatever was logged before a resume.

    Keras' `CSVLogger` takes its columns from the first epoch it sees, which need not have been
    validated, and appends an epoch again that was logged but not checkpointed.

    Args:
        path: the file, with the columns `epoch` (counted from 0) and `columns`; a metric that an
            epoch does not have is left empty.
        columns: names of metrics.
    """

    COLUMNS = ("loss", "accuracy", "learning_rate", "val_loss", "val_accuracy")
    # The average precision of random clips would say little: there is none of training.
    MULTI_LABEL_COLUMNS = ("loss", "learning_rate", "val_loss", "val_mean_average_precision")
    PRETRAINING_COLUMNS = ("loss", "learning_rate")

    def __init__(self, path: Path, columns: Sequence[str] = COLUMNS):
        super().__init__()
        self._path = path
        self._columns = columns

    def on_epoch_end(self, epoch, logs=None):
        rows = []
        if self._path.exists():
            lines = self._path.read_text(encoding="utf-8").splitlines()
            rows = [row for row in csv.DictReader(lines) if int(row["epoch"]) < epoch]
        text = io.StringIO()
        writer = csv.DictWriter(text, ("epoch", *self._columns), extrasaction="ignore")
        writer.writeheader()
        writer.writerows([*rows, {"epoch": epoch, **logs}])
        write_text_atomically(self._path, text.getvalue())


class LedgerCheck(keras.callbacks.Callback):
    """Keeps account of every clip, and ends a run in which too many videos fail to decode.

    Args:
        training, validation: outcomes of the videos of either set.
        max_failure_share: the share of each set that may fail.
        path: JSON lines file. Of each epoch one object with the numbers of clips, one for each
            clip that was replaced or damaged in part, and one for each validation video that
            failed or was, and one for each step that was skipped. Epochs before a resume stay.
        state: of the training.
        num_videos: videos to train on.
    """

    def __init__(
        self,
        *,
        training,
        validation,
        max_failure_share: float,
        path: Path,
        state: TrainingState,
        num_videos: int = 0,
    ):
        super().__init__()
        self._num_videos = num_videos
        self._state = state
        self._training, self._validation = training, validation
        self._max_failure_share = max_failure_share
        self._path = path

    def on_epoch_end(self, epoch, logs=None):
        entries = []
        if self._path.exists():
            # By "\n" alone: a name may hold what else Unicode takes for the end of a line.
            lines = self._path.read_text(encoding="utf-8").split("\n")
            earlier = [json.loads(line) for line in lines if line]
            # Version 0.1.0 wrote no epochs.
            entries = [entry for entry in earlier if entry.get("epoch", epoch) < epoch]
        entries += self._training.epoch_entries(epoch)
        of_epoch = steps_of_epoch(epoch, self._state.steps_per_epoch)
        entries += [
            {"epoch": epoch, "step": step + 1, "outcome": "skipped_step"}
            for step in self._state.progress.skipped_steps
            if step in of_epoch
        ]
        if "val_loss" in (logs or {}):
            named = {**self._validation.failures, **self._validation.partial}
            entries += [
                {"epoch": epoch, "set": "validation", **entry}
                for entry in self._validation.entries()
                if entry["path"] in named
            ]
        write_json_lines(self._path, entries)
        self._training.check(self._max_failure_share, self._num_videos)
        self._validation.check(self._max_failure_share)


class EpochCheckpoints(keras.callbacks.Callback):
    """Saves at the end of each epoch, and ends training early if it gets no better.

    Args:
        state: of the training.
        stop: where signals are noted.
        metric: name in the logs of what tells the best epoch.
        patience: epochs without a better score after which to end; `None` never does.
    """

    def __init__(
        self,
        state: TrainingState,
        stop: StopRequest,
        *,
        metric: str = "val_accuracy",
        patience: int | None = None,
    ):
        super().__init__()
        self._state = state
        self._stop = stop
        self._metric = metric
        self._patience = patience

    def on_epoch_end(self, epoch, logs=None):
        self._state.end_epoch(logs.get(self._metric), logs.get("val_loss"))
        self._state.save()
        if self._stop.agree()[0]:
            logging.info(f"saved       epoch {self._state.progress.epoch}")
            self._stop.check()
        if ends_early(self._state.progress, self._patience):
            self.model.stop_training = True


def ends_early(progress: Progress, patience: int | None) -> bool:
    """Whether so many epochs were no better than the best that training ends."""
    return patience is not None and progress.epochs_since_best >= patience
