"""A model directory: what lies where in it, and which experiment it belongs to.

experiment.yaml           the resolved experiment
labels.txt                class names, one a line, in index order; none of a pre-training
split.csv                 which videos are trained on, and which were held out
checkpoints/              step-00001234.weights.h5, the newest; best.weights.h5
train_log.csv             one row an epoch
tensorboard/              the same for TensorBoard
outcomes.jsonl            what became of each training video asked for
non_finite/               the batches of steps that were skipped
evaluation.json           the multi-view evaluation
evaluation_views.npz      what the model said to each view of it
plots/                    training curves; of the evaluation, scores of each class and mistakes;
                          of a pre-training, predicted gradients
export/<version>/         SavedModels
features/                 of a linear probe: what its head is trained on; may be deleted
probe.json                likewise: how strongly the head is held small, and how that was chosen
"""

import contextlib
import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path

from absl import logging

from mvit_tf.data.lists.class_names import load_class_names, save_class_names
from mvit_tf.data.lists.saved_split import SavedSplit, save_split
from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.data.preprocessing import Augmentation, Preprocessing
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.errors import UserError
from mvit_tf.files import held_file, printable
from mvit_tf.remote_path import RemotePath, as_path
from mvit_tf.training.experiments.experiment import (
    Experiment,
    flat_items,
    load_experiment,
    save_experiment,
)
from mvit_tf.training.experiments.sections import keys_of
from mvit_tf.training.storage.checkpoints import CheckpointStore
from mvit_tf.training.storage.remote_lock import held_remotely

_LOCK = ".training"


def _data_keys(*classes: type) -> tuple[str, ...]:
    return tuple(f"data.{key}" for cls in classes for key in keys_of(cls))


# Keys that say what the model is and what it is shown: no mode may change them.
_MODEL_KEYS = (
    "model.name",
    "model.input_shape",
    "model.overrides",
    "data.multi_label",
    "pretraining.method",
    *_data_keys(ClipSampling, Preprocessing),
)
# Keys that decide which videos are held out for validation, where the experiment names none.
_SPLIT_KEYS = (
    "data.train",
    "data.tfds_name",
    "data.tfds_data_dir",
    "data.train_split",
    "data.validation_fraction",
    "data.group_by",
    "data.nested",
    "data.root",
    "data.separator",
    "data.seed",
)
# Keys that training must find unchanged too, to go on with the same videos in the same order.
_TRAINING_KEYS = (
    "model.initial_weights",
    "model.reset_head",
    "data.validation",
    "data.validation_split",
    "data.repeated_augmentation",
    "data.balanced_sampling",
    "data.tolerated_damage",
    *_data_keys(Augmentation),
    "train.batch_size",
    "train.dtype",
    "train.optimizer",
    "train.ema_decay",
    "train.seed",
    "train.freeze_blocks",
    "train.lora_rank",
    "train.probe",
    "pretraining.mask_ratio",
    "pretraining.mask_window",
)


class ModelDirectory:
    """Paths and identity of one model directory.

    Args:
        path: of the directory; made by `locked` or `claim`.

    Raises:
        UserError: `path` is a URL on which nothing can be kept here, or not UTF-8.
    """

    def __init__(self, path: str | os.PathLike):
        if not str(path):
            raise UserError("--model_dir is empty; give a folder, '.' for this one")
        if re.match(r"[A-Za-z][\w+.-]+:/(?!/)", str(path)):
            raise UserError(
                f"--model_dir={path}: a URL has two slashes, gs://bucket/runs/mine; with one it "
                "would be a folder of this machine"
            )
        if printable(str(path)) != str(path):
            raise UserError(
                f"--model_dir={path} is not UTF-8, and TensorFlow cannot write there; choose "
                "another name"
            )
        self.path = as_path(path)
        self._lock = None
        self.experiment_file = self.path / "experiment.yaml"
        self.labels_file = self.path / "labels.txt"
        self.split_file = self.path / "split.csv"
        self.log_file = self.path / "train_log.csv"
        self.outcomes_file = self.path / "outcomes.jsonl"
        self.views_file = self.path / "evaluation_views.npz"
        self.tensorboard = self.path / "tensorboard"
        self.non_finite = self.path / "non_finite"
        self.plots = self.path / "plots"
        self.export = self.path / "export"
        self.checkpoints = CheckpointStore(self.path / "checkpoints")

    def evaluation_file(self, *, shuffled: bool) -> Path | RemotePath:
        """Where an evaluation's scores go, with the frames in order or shuffled."""
        return self.path / ("evaluation_shuffled_frames.json" if shuffled else "evaluation.json")

    def check(self, experiment: Experiment, class_names: Sequence[str]) -> list[str]:
        """Finds out whether training may begin or go on here; writes nothing.

        Until the first checkpoint is there the directory is anybody's.

        Returns:
            A line for each key whose value differs from the directory's and may.

        Raises:
            UserError: the directory belongs to another experiment; every differing key is named.
        """
        if self.checkpoints.is_empty():
            return []
        self._check_same(experiment, _MODEL_KEYS + _SPLIT_KEYS + _TRAINING_KEYS)
        self._check_classes(class_names)
        return [
            f"{key}: {before!r} -> {now!r}"
            for key, before, now in self._differences(experiment, tuple(flat_items(experiment)))
        ]

    @contextlib.contextmanager
    def locked(self):
        """Makes the directory and keeps every other training out of it meanwhile.

        Raises:
            UserError: another process trains here, or nothing can be written here.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"--model_dir={self.path} is a file")
        with contextlib.ExitStack() as stack:
            try:
                if isinstance(self.path, RemotePath):
                    self._lock = stack.enter_context(held_remotely(self.path / _LOCK))
                    unlocked = None
                else:
                    if not self.path.exists():
                        self.path.mkdir(parents=True, exist_ok=True)
                        stack.callback(self._remove_empty)
                    unlocked = stack.enter_context(held_file(self.path / _LOCK))
            except BlockingIOError as error:
                holder = f" ({error.strerror})" if isinstance(self.path, RemotePath) else ""
                raise UserError(
                    f"another training is running in {self.path}{holder}; wait for it, or choose "
                    "another --model_dir"
                ) from error
            except OSError as error:
                raise UserError(
                    f"--model_dir={self.path} cannot be written: {error.strerror}"
                ) from error
            if unlocked is not None:
                logging.warning(
                    f"{self.path} cannot be locked ({unlocked}); see to it yourself that no other "
                    "training runs in it"
                )
            yield

    def check_lock(self):
        """Finds out whether the directory is still this training's own.

        A lock of this machine always is; on an object store two may have been taken at once.

        Raises:
            UserError: another training has taken it.
        """
        if self._lock is not None and self._lock.is_lost():
            raise UserError(
                f"another training has started in {self.path}, and goes on; this one ends, as both "
                "would overwrite each other's checkpoints"
            )

    def claim(self, experiment: Experiment, class_names: Sequence[str]):
        """Writes down whose the directory is; `check` comes first."""
        self.path.mkdir(parents=True, exist_ok=True)
        if class_names:
            save_class_names(self.labels_file, class_names)
        # Allowed once, for this start: the next one is to refuse again.
        data = dataclasses.replace(experiment.data, allow_changed=False)
        save_experiment(dataclasses.replace(experiment, data=data), self.experiment_file)

    def keep_split(self, train: VideoList, validation: VideoList | None):
        """Writes down which videos are trained on and which are held out, before training."""
        save_split(self.split_file, train, validation)

    def saved_split(self) -> SavedSplit | None:
        """What `keep_split` wrote; `None` in directories of version 0.1, which lack it.

        Raises:
            UserError: the file is damaged.
        """
        if not self.split_file.is_file():
            return None
        return SavedSplit(self.split_file, self.class_names())

    def check_same_model(self, experiment: Experiment):
        """Refuses an experiment with another model or other input than the directory's.

        Raises:
            UserError: they differ, or nothing was trained here yet.
        """
        self._check_same(experiment, _MODEL_KEYS)

    def check_same_split(self, experiment: Experiment):
        """Refuses an experiment that would hold out other videos than training did.

        Raises:
            UserError: it would evaluate on videos that were trained on.
        """
        self._check_same(experiment, _SPLIT_KEYS)

    def saved_experiment(self) -> Path | RemotePath:
        """The file of the experiment that was trained here.

        Raises:
            UserError: nothing was trained here yet.
        """
        if not self.experiment_file.is_file():
            raise UserError(
                f"{self.path} holds no {self.experiment_file.name}: nothing was trained there; to "
                "train, name an experiment with --config_file"
            )
        return self.experiment_file

    def class_names(self) -> tuple[str, ...]:
        """The classes of the trained model, in index order; none of a pre-training."""
        if load_experiment(self.saved_experiment()).pretraining.method is not None:
            return ()
        return tuple(load_class_names(self.labels_file))

    def _remove_empty(self):
        with contextlib.suppress(OSError):  # It holds something, or is gone.
            self.path.rmdir()

    def _check_same(self, experiment: Experiment, keys: Sequence[str]):
        differences = self._differences(experiment, keys)
        if differences:
            named = ", ".join(
                f"{key} ({before!r} there, {now!r} now)" for key, before, now in differences
            )
            raise UserError(
                f"{self.path} holds another experiment: {named}; choose another --model_dir or "
                "take back the change"
            )

    def _differences(self, experiment: Experiment, keys: Sequence[str]) -> list[tuple]:
        before = flat_items(load_experiment(self.saved_experiment()), full_paths=True)
        now = flat_items(experiment, full_paths=True)
        differing = [(key, before[key], now[key]) for key in keys if before[key] != now[key]]
        return [part for difference in differing for part in _parts(*difference)]

    def _check_classes(self, class_names: Sequence[str]):
        known = self.class_names()
        if tuple(class_names) == known:
            return
        if len(class_names) != len(known):
            difference = f"{len(known)} classes there, {len(class_names)} in data.train now"
        else:
            index, before, now = next(
                (index, before, now)
                for index, (before, now) in enumerate(zip(known, class_names, strict=True))
                if before != now
            )
            difference = f"class {index} is {before!r} there, {now!r} in data.train now"
        raise UserError(
            f"{self.path} holds another experiment: {difference}; choose another --model_dir"
        )


def _parts(key: str, before, now) -> list[tuple]:
    """A difference of two mappings as those of their keys."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return [(key, before, now)]
    return [
        (f"{key}.{name}", before.get(name), now.get(name))
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
