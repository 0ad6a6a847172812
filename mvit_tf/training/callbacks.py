"""What happens around the epochs and is not in Keras: validation, log, checkpoints, ends."""

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import keras

from mvit_tf.errors import UserError
from mvit_tf.files import write_json_lines, write_text_atomically
from mvit_tf.training.checkpoints import CheckpointStore, Progress
from mvit_tf.training.evaluation import EvaluationReport
from mvit_tf.training.multi_label_report import MultiLabelReport
from mvit_tf.weights_file import first_not_finite

_CURE = (
    "no checkpoint of this epoch was written. Lower train.learning_rate, lengthen "
    "train.warmup_epochs or lower train.clip_norm"
)


class NonFiniteLossStop(keras.callbacks.Callback):
    """Ends training at the first step whose loss is not finite, before it is checkpointed.

    The loss is that of before the step: after an epoch the weights are looked at too, which its
    last step may have spoilt. Keras' `TerminateOnNaN` ends the epoch instead, whose last
    callbacks would save the weights.

    Args:
        steps_per_epoch: training steps in an epoch.
    """

    def __init__(self, *, steps_per_epoch: int):
        super().__init__()
        self._steps_per_epoch = steps_per_epoch
        self._epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        loss = logs["loss"]
        if math.isfinite(loss):
            return
        step = self._epoch * self._steps_per_epoch + batch + 1
        raise UserError(
            f"the loss is {loss} at step {step} (epoch {self._epoch + 1}, step {batch + 1} of "
            f"{self._steps_per_epoch}); {_CURE}"
        )

    def on_epoch_end(self, epoch, logs=None):
        variable = first_not_finite(self.model)
        if variable:
            raise UserError(f"{variable} is not finite after epoch {epoch + 1}; {_CURE}")


class EpochMetrics(keras.callbacks.Callback):
    """Adds learning rate and validation to the epoch's logs, for every callback after it.

    Args:
        validate: returns the validation of the current weights; `None` without validation data.
        epochs: epochs in all; the last is always validated.
        validate_every: epochs between validations.
    """

    def __init__(
        self,
        *,
        validate: Callable[[], EvaluationReport | MultiLabelReport] | None,
        epochs: int,
        validate_every: int = 1,
    ):
        super().__init__()
        self._validate = validate
        self._epochs = epochs
        self._validate_every = validate_every

    def on_epoch_end(self, epoch, logs=None):
        learning_rate = self.model.optimizer.learning_rate
        logs["learning_rate"] = float(keras.ops.convert_to_numpy(learning_rate))
        if self._validate is None:
            return
        done = epoch + 1
        if done % self._validate_every == 0 or done == self._epochs:
            report = self._validate()
            if not math.isfinite(report.loss):
                raise UserError(
                    f"the validation loss is {report.loss} after epoch {done}: the weights have "
                    f"run away; {_CURE}"
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
            failed or was. Epochs before a resume stay.
    """

    def __init__(self, *, training, validation, max_failure_share: float, path: Path):
        super().__init__()
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
        if "val_loss" in (logs or {}):
            named = {**self._validation.failures, **self._validation.partial}
            entries += [
                {"epoch": epoch, "set": "validation", **entry}
                for entry in self._validation.entries()
                if entry["path"] in named
            ]
        write_json_lines(self._path, entries)
        for ledger in (self._training, self._validation):
            ledger.check(self._max_failure_share)


class Checkpoints(keras.callbacks.Callback):
    """Saves the last and the best state after each epoch.

    Args:
        store: where to.
        progress: of the checkpoint that training resumed from, or a fresh one.
        metric: name in the logs of what tells the best epoch.
    """

    def __init__(self, *, store: CheckpointStore, progress: Progress, metric: str = "val_accuracy"):
        super().__init__()
        self._store = store
        self._metric = metric
        self.progress = progress

    def on_epoch_end(self, epoch, logs=None):
        self.progress = self.progress.after_epoch(logs.get(self._metric), logs.get("val_loss"))
        self._store.save(self.model, self.progress)
