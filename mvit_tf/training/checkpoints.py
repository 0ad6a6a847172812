"""Checkpoints: one HDF5 file that holds everything training needs to go on, best and last.

A file `best.weights.h5` or `last.weights.h5` is a weights file (see `mvit_tf.weights_file`) with
the optimizer's slots, the state of every random generator of the model, and the progress in it.
One file cannot be half of a pair: it is written under another name, flushed to disk and renamed;
and it is opened once, so that progress and weights belong together though training goes on beside.
"""

import contextlib
import dataclasses
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
from absl import logging

from mvit_tf.errors import UserError
from mvit_tf.files import remove_unfinished
from mvit_tf.lora_weights import lora_weights
from mvit_tf.remote_path import RemotePath, as_path
from mvit_tf.weights_file import SUFFIX, WeightsFile, open_weights_file, save_weights_file

BEST = "best"
LAST = "last"
_SEEDS = "random_generator_states"
_PROGRESS = "progress"
# Room for the groups and names around the arrays, in bytes.
_FILE_OVERHEAD = 4 * 2**20


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far training has come, as a checkpoint stores it.

    Attributes:
        epoch: epochs completed.
        best_epoch: the epoch (counted from 1) of the best checkpoint.
        best_accuracy: its validation top-1 in [0, 1], of a multi-label set the mean average
            precision; `None` without validation.
        best_loss: its validation loss, which decides between equal accuracies.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_accuracy: float | None = None
    best_loss: float | None = None

    def after_epoch(self, accuracy: float | None, loss: float | None) -> "Progress":
        """The progress one epoch on; that epoch is the best if its validation says so.

        Args:
            accuracy: validation score of the epoch; `None` if it was not validated. Without any
                validation so far each epoch counts as the best, so that "best" is the newest.
            loss: validation loss of the epoch.
        """
        epoch = self.epoch + 1
        if accuracy is None:
            if self.best_accuracy is None:
                return dataclasses.replace(self, epoch=epoch, best_epoch=epoch)
            return dataclasses.replace(self, epoch=epoch)
        better = self.best_accuracy is None or (accuracy, -loss) > (
            self.best_accuracy,
            -self.best_loss,
        )
        if better:
            return Progress(epoch, epoch, accuracy, loss)
        return dataclasses.replace(self, epoch=epoch)

    @property
    def is_best(self) -> bool:
        """Whether the last completed epoch is the best one."""
        return self.best_epoch == self.epoch


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint, see `open_checkpoint`.

    Attributes:
        file: its weights.
        progress: of training when they were saved.
    """

    file: WeightsFile
    progress: Progress

    def restore(self, model: keras.Model):
        """Loads weights, optimizer and random generators: training goes on as if unbroken.

        Args:
            model: compiled, its optimizer built; unchanged if this raises.

        Raises:
            UserError: the checkpoint does not fit the model.
        """
        states, generators = self.file.attributes[_SEEDS], _seed_variables(model)
        if len(states) != len(generators):
            raise UserError(
                f"{self.file.path} holds {len(states)} random generators, the model has "
                f"{len(generators)}; was it trained with other dropout or stochastic depth?"
            )
        self.file.load(model, require_optimizer=True)
        for variable, state in zip(generators, states, strict=True):
            variable.assign(state)


@contextlib.contextmanager
def open_checkpoint(path: Path | RemotePath) -> Iterator[Checkpoint]:
    """Opens a checkpoint, once: its progress is that of its weights.

    Raises:
        UserError: the file is missing, damaged or not a checkpoint of this project.
    """
    with open_weights_file(path) as file:
        if _PROGRESS not in file.attributes:
            raise UserError(f"{path} is a weights file, not a training checkpoint")
        yield Checkpoint(file, Progress(**json.loads(file.attributes[_PROGRESS])))


def read_progress(path: Path | RemotePath) -> Progress:
    """The progress stored in a checkpoint; raises as `open_checkpoint`."""
    with open_checkpoint(path) as checkpoint:
        return checkpoint.progress


class CheckpointStore:
    """The checkpoints of one model directory.

    Args:
        directory: created with the first checkpoint.
    """

    def __init__(self, directory: str | Path):
        self.directory = as_path(directory)
        self._warned = set()

    def path(self, kind: str) -> Path | RemotePath:
        """Where the `"best"` or `"last"` checkpoint lies."""
        return self.directory / f"{kind}{SUFFIX}"

    def save(self, model: keras.Model, progress: Progress):
        """Writes `last`, and before it `best` if the epoch is the best.

        In that order a kill in between leaves a complete `best` that is newer than `last`, and
        training resumes from there.

        Raises:
            UserError: a weight is not finite, or the disk is full; what was there stays.
        """
        kinds = (BEST, LAST) if progress.is_best else (LAST,)
        states = [keras.ops.convert_to_numpy(variable) for variable in _seed_variables(model)]
        content = {
            _PROGRESS: json.dumps(dataclasses.asdict(progress)),
            _SEEDS: np.array(states, dtype="int64").reshape(-1, 2),
        }
        self.directory.mkdir(parents=True, exist_ok=True)
        for kind in kinds:
            self._require_space(model)
            save_weights_file(model, self.path(kind), **content)

    def _require_space(self, model: keras.Model):
        """Refuses to begin a file that the disk cannot take: HDF5 crashes on a full one."""
        optimizer = getattr(model, "optimizer", None)  # none before `compile`
        variables = [*model.weights, *(optimizer.variables if optimizer else ())]
        variables += lora_weights(model).values()
        needed = sum(keras.ops.size(v) * v.value.dtype.size for v in variables)
        needed = int(needed) + _FILE_OVERHEAD
        remote = isinstance(self.directory, RemotePath)
        # A file for a remote directory is first written here.
        folder = tempfile.gettempdir() if remote else self.directory
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise UserError(
                f"no space for a checkpoint in {folder}: it takes "
                f"{needed / 2**20:.0f} MiB, {free / 2**20:.0f} MiB are free; free some and run "
                "the same command to resume"
            )

    def newest(self) -> tuple[Path | RemotePath, Progress] | None:
        """The readable checkpoint with the most epochs and its progress; `None` if none exists.

        Raises:
            UserError: there are checkpoints, and none can be read.
        """
        if not isinstance(self.directory, RemotePath) and self.directory.is_dir():
            remove_unfinished(self.directory)
        found, unreadable = [], []
        for kind in (LAST, BEST):
            path = self.path(kind)
            if not path.exists():
                continue
            try:
                found.append((path, read_progress(path)))
            except UserError as error:
                unreadable.append(str(error))
        if unreadable and not found:
            raise UserError("; ".join(unreadable))
        for message in set(unreadable) - self._warned:
            logging.warning(f"{message}; the other checkpoint is used")
        self._warned.update(unreadable)
        return max(found, key=lambda entry: entry[1].epoch, default=None)

    @contextlib.contextmanager
    def best(self) -> Iterator[Checkpoint]:
        """Opens the best checkpoint.

        Raises:
            UserError: there is none, or it cannot be read.
        """
        path = self.path(BEST)
        if not path.exists():
            raise UserError(
                f"{self.directory} holds no checkpoint {path.name}; train first (--mode=train)"
            )
        with contextlib.ExitStack() as stack:
            try:
                checkpoint = stack.enter_context(open_checkpoint(path))
            except UserError as error:
                raise UserError(f"{error}{self._last_instead()}") from error
            yield checkpoint

    def _last_instead(self) -> str:
        last = self.path(LAST)
        try:
            read_progress(last)
        except UserError:
            return ""
        return f"; copy {last.name} over it to use the last epoch"


def restore(model: keras.Model, path: Path | RemotePath):
    """Restores a model from the checkpoint at `path`, see `Checkpoint.restore`."""
    with open_checkpoint(path) as checkpoint:
        checkpoint.restore(model)


def _seed_variables(model: keras.Model) -> list:
    """States of the model's random generators; Keras saves all variables but these."""
    return [v for v in model.variables if v.name == "seed_generator_state"]
