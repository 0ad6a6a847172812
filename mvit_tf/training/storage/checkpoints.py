"""Checkpoints: HDF5 files that hold everything training needs to go on, and the best weights.

`step-00001234.weights.h5` is a weights file (see `mvit_tf.weights_file`) of after 1234 steps with
the optimizer's slots, the state of every random generator of the model, the progress, and what
the running epoch has come to in it. The newest few stay. `best.weights.h5` holds the weights of
the best epoch, their moving average if there is one, and nothing to go on from.

One file cannot be half of a pair: it is written under another name, flushed to disk and renamed,
and a checksum ends it; and it is opened once, so that progress and weights belong together though
training goes on beside.
"""

import contextlib
import dataclasses
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import logging

from mvit_tf.errors import UserError
from mvit_tf.files import is_disk_full, remove_unfinished
from mvit_tf.lora_weights import lora_weights
from mvit_tf.remote_path import RemotePath, as_path
from mvit_tf.weights_file import SUFFIX, WeightsFile, open_weights_file, save_weights_file

BEST = "best"
_LAST = "last"  # what versions before resume from, beside their best
_STEP = re.compile(rf"step-(\d+){re.escape(SUFFIX)}")
_SEEDS = "random_generator_states"
_PROGRESS = "progress"
_EPOCH = "running_epoch"
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
        epoch_step: steps done of the epoch that is running. All of them where it still has to be
            validated and logged.
        step: steps done since training began; `None` in checkpoints of versions that counted
            epochs alone.
        skipped_steps: the steps, counted from 0, that training leaves out.
        rollbacks: how often it went back to a checkpoint for the sake of them.
        scored_epoch: the last epoch (counted from 1) that was validated.
        steps_per_epoch: steps in an epoch, by which steps are numbered; `None` if unknown.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_accuracy: float | None = None
    best_loss: float | None = None
    epoch_step: int = 0
    step: int | None = 0
    skipped_steps: tuple[int, ...] = ()
    rollbacks: int = 0
    scored_epoch: int = 0
    steps_per_epoch: int | None = None

    @classmethod
    def from_json(cls, text: str) -> "Progress":
        """What `to_json` wrote, now or in an older version."""
        fields = {"step": None, **json.loads(text)}
        return cls(**{**fields, "skipped_steps": tuple(fields.get("skipped_steps", ()))})

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    def after_epoch(self, accuracy: float | None, loss: float | None) -> "Progress":
        """The progress one epoch on; that epoch is the best if its validation says so.

        Args:
            accuracy: validation score of the epoch; `None` if it was not validated. Without any
                validation so far each epoch counts as the best, so that "best" is the newest.
            loss: validation loss of the epoch.
        """
        epoch = self.epoch + 1
        after = dataclasses.replace(self, epoch=epoch, epoch_step=0)
        if accuracy is None:
            if self.best_accuracy is None:
                return dataclasses.replace(after, best_epoch=epoch)
            return after
        after = dataclasses.replace(after, scored_epoch=epoch)
        better = self.best_accuracy is None or (accuracy, -loss) > (
            self.best_accuracy,
            -self.best_loss,
        )
        if better:
            return dataclasses.replace(
                after, best_epoch=epoch, best_accuracy=accuracy, best_loss=loss
            )
        return after

    @property
    def is_best(self) -> bool:
        """Whether the last completed epoch is the best one, and none has begun since."""
        return self.best_epoch == self.epoch and not self.epoch_step

    @property
    def epochs_since_best(self) -> int:
        """Epochs from the best to the last that was validated."""
        return max(self.scored_epoch - self.best_epoch, 0)


@dataclasses.dataclass(frozen=True)
class RunningEpoch:
    """What the epoch that is running has come to so far, in plain values.

    Attributes:
        logs: its metrics.
        metrics: the values of the variables that they are computed from.
        clips: the account of its clips, see `OutcomeLedger.epoch_state`.
    """

    logs: Mapping[str, float] = dataclasses.field(default_factory=dict)
    metrics: Sequence[Any] = ()
    clips: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint, see `open_checkpoint`.

    Attributes:
        file: its weights.
        progress: of training when they were saved.
        running_epoch: what was done of the epoch that was running.
    """

    file: WeightsFile
    progress: Progress
    running_epoch: RunningEpoch = RunningEpoch()

    def restore(self, model: keras.Model):
        """Loads weights, optimizer and random generators: training goes on as if unbroken.

        Args:
            model: compiled, its optimizer built; unchanged if this raises.

        Raises:
            UserError: the checkpoint does not fit the model.
        """
        if _SEEDS not in self.file.attributes:
            raise UserError(f"{self.file.path} holds weights alone: training cannot go on from it")
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
        file.check()
        running = file.attributes.get(_EPOCH)
        yield Checkpoint(
            file,
            Progress.from_json(file.attributes[_PROGRESS]),
            RunningEpoch() if running is None else RunningEpoch(**json.loads(running.tobytes())),
        )


def read_progress(path: Path | RemotePath) -> Progress:
    """The progress stored in a checkpoint; raises as `open_checkpoint`."""
    with open_checkpoint(path) as checkpoint:
        return checkpoint.progress


class CheckpointStore:
    """The checkpoints of one model directory.

    Args:
        directory: created with the first checkpoint.
        keep: how many to go on from stay.
    """

    def __init__(self, directory: str | Path, *, keep: int = 2):
        self.directory = as_path(directory)
        self.keep = keep
        self._warned = set()

    @property
    def best_path(self) -> Path | RemotePath:
        """Where the best weights lie."""
        return self.directory / f"{BEST}{SUFFIX}"

    def step_path(self, step: int) -> Path | RemotePath:
        """Where the checkpoint after so many steps lies."""
        return self.directory / f"step-{step:08d}{SUFFIX}"

    def save(
        self, model: keras.Model, progress: Progress, running_epoch: RunningEpoch | None = None
    ):
        """Writes a checkpoint, and then `best` if an epoch that is the best has ended.

        A kill in between leaves a checkpoint of which `complete_best` makes up for it.

        Args:
            model: its weights are averaged for `best`, where it has an average of them.
            progress: of training.
            running_epoch: what is done of the epoch that is running; none of it by default.

        Raises:
            UserError: a weight is not finite, or the disk is full; what was there stays.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        states = [keras.ops.convert_to_numpy(variable) for variable in _seed_variables(model)]
        running = json.dumps(dataclasses.asdict(running_epoch or RunningEpoch()))
        content = {
            _SEEDS: np.array(states, dtype="int64").reshape(-1, 2),
            _EPOCH: np.frombuffer(running.encode(), "uint8"),
        }
        self._write(model, self.step_path(progress.step), progress, **content)
        self._remove_all_but(progress.step)
        if progress.is_best:
            self._save_best(model, progress)

    def discard(self, step: int):
        """Removes the checkpoint after so many steps, if it is there."""
        self.step_path(step).unlink(missing_ok=True)

    def complete_best(self, model: keras.Model, progress: Progress):
        """Writes `best` if a kill came between a checkpoint and it.

        Args:
            model: as the checkpoint has it.
            progress: of the checkpoint.
        """
        if not progress.is_best or not progress.epoch:
            return
        with contextlib.suppress(UserError):
            if read_progress(self.best_path).epoch == progress.epoch:
                return
        self._save_best(model, progress)

    def _save_best(self, model, progress):
        averaged = getattr(model, "averaged_weights", contextlib.nullcontext)
        with averaged():
            self._write(model, self.best_path, progress, optimizer=False)

    def _write(self, model, path, progress, *, optimizer=True, **content):
        self._require_space(model, optimizer)
        content[_PROGRESS] = progress.to_json()
        try:
            save_weights_file(model, path, optimizer=optimizer, **content)
        except (OSError, RuntimeError) as error:
            if is_disk_full(error):
                raise self._no_space() from error
            raise

    def _require_space(self, model: keras.Model, optimizer: bool):
        """Refuses to begin a file that the disk cannot take: HDF5 can crash on a full one."""
        slots = getattr(model, "optimizer", None) if optimizer else None  # none before `compile`
        variables = [*model.weights, *(slots.variables if slots else ())]
        variables += lora_weights(model).values()
        needed = sum(keras.ops.size(v) * v.value.dtype.size for v in variables)
        needed = int(needed) + _FILE_OVERHEAD
        free = shutil.disk_usage(self._folder).free
        if free < needed:
            raise self._no_space(
                f"it takes {needed / 2**20:.0f} MiB, {free / 2**20:.0f} MiB are free"
            )

    @property
    def _folder(self):
        # A file for a remote directory is first written here.
        remote = isinstance(self.directory, RemotePath)
        return tempfile.gettempdir() if remote else self.directory

    def _no_space(self, numbers: str = "the disk is full") -> UserError:
        return UserError(
            f"no space for a checkpoint in {self._folder}: {numbers}; free some and run the same "
            "command to resume"
        )

    def _steps(self) -> dict[int, Path | RemotePath]:
        """The checkpoints to go on from by their steps, the newest first."""
        if not self.directory.is_dir():
            return {}
        found = ((_STEP.fullmatch(path.name), path) for path in self.directory.iterdir())
        return dict(sorted(((int(m[1]), path) for m, path in found if m), reverse=True))

    def _remove_all_but(self, newest: int):
        """Removes what the checkpoint after `newest` steps leaves without use.

        Those of later steps are damaged, or of steps that training has gone back over.
        """
        steps = self._steps()
        kept = [step for step in steps if step <= newest][: self.keep]
        for step, path in steps.items():
            if step not in kept:
                path.unlink(missing_ok=True)
        if len(kept) == self.keep:
            (self.directory / f"{_LAST}{SUFFIX}").unlink(missing_ok=True)

    def is_empty(self) -> bool:
        """Whether there is no checkpoint, whole or damaged; none is read, which takes a while."""
        others = (self.directory / f"{kind}{SUFFIX}" for kind in (_LAST, BEST))
        return not self._steps() and not any(path.exists() for path in others)

    def newest(self) -> tuple[Path | RemotePath, Progress] | None:
        """The newest checkpoint that is whole and its progress; `None` if there is none.

        Directories of older versions have the last and the best of their epochs.

        Raises:
            UserError: there are checkpoints, and none can be read.
        """
        self._remove_unfinished()
        unreadable = []
        for path in self._steps().values():
            found = _read(path, unreadable)
            if found is not None:
                self._warn(unreadable, path)
                return path, found
        older = {}
        for kind in (_LAST, BEST):
            path = self.directory / f"{kind}{SUFFIX}"
            found = _read(path, unreadable) if path.exists() else None
            if found is not None and found.step is None:
                older[path] = found
        if older:
            path = max(older, key=lambda path: older[path].epoch)
            self._warn(unreadable, path)
            return path, older[path]
        if unreadable:
            raise UserError(f"{'; '.join(unreadable)}{self._weights_alone()}")
        if self.best_path.exists():
            raise UserError(
                f"{self.directory} holds no checkpoint step-*{SUFFIX} to go on from"
                f"{self._weights_alone()}"
            )
        return None

    def _remove_unfinished(self):
        if not isinstance(self.directory, RemotePath) and self.directory.is_dir():
            remove_unfinished(self.directory)

    def _warn(self, unreadable: Iterable[str], used: Path | RemotePath):
        for message in set(unreadable) - self._warned:
            logging.warning(f"{message}; {used.name} is used")
        self._warned.update(unreadable)

    def _weights_alone(self) -> str:
        try:
            read_progress(self.best_path)
        except UserError:
            return "; train anew in another --model_dir"
        return (
            f"; {self.best_path.name} has the weights of the best epoch: train in another "
            f"--model_dir with model.initial_weights={self.best_path}"
        )

    @contextlib.contextmanager
    def best(self) -> Iterator[Checkpoint]:
        """Opens the best checkpoint.

        Raises:
            UserError: there is none, or it cannot be read.
        """
        path = self.best_path
        if not path.exists():
            raise UserError(
                f"{self.directory} holds no checkpoint {path.name}; train first (--mode=train)"
            )
        with contextlib.ExitStack() as stack:
            try:
                checkpoint = stack.enter_context(open_checkpoint(path))
            except UserError as error:
                raise UserError(f"{error}{self._newest_instead()}") from error
            yield checkpoint

    def _newest_instead(self) -> str:
        steps = self._steps()
        for path in (*steps.values(), self.directory / f"{_LAST}{SUFFIX}"):
            try:
                read_progress(path)
            except UserError:
                continue
            return f"; copy {path.name} over it to use the last state"
        return ""


def restore(model: keras.Model, path: Path | RemotePath) -> RunningEpoch:
    """Restores a model, see `Checkpoint.restore`; returns what was done of the running epoch."""
    with open_checkpoint(path) as checkpoint:
        checkpoint.restore(model)
    return checkpoint.running_epoch


def _read(path: Path | RemotePath, unreadable: list[str]) -> Progress | None:
    try:
        return read_progress(path)
    except UserError as error:
        unreadable.append(str(error))
        return None


def _seed_variables(model: keras.Model) -> list:
    """States of the model's random generators; Keras saves all variables but these."""
    return [v for v in model.variables if v.name == "seed_generator_state"]
