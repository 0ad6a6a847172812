"""Checkpoints: one HDF5 file that holds everything training needs to go on, best and last.

A file `best.weights.h5` or `last.weights.h5` is an ordinary Keras weights file (`load_weights`
reads it) with the optimizer's slots, the state of every random generator of the model, and the
progress in it. One file cannot be half of a pair: it is written under another name, flushed to
disk and renamed.
"""

import dataclasses
import json
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import h5py
import keras
import numpy as np

from mvit_tf.conversion import load_pytorch_weights
from mvit_tf.conversion.published import PublishedWeights, load_published_weights
from mvit_tf.errors import UserError
from mvit_tf.files import remove_unfinished, write_atomically

BEST = "best"
LAST = "last"
_SUFFIX = ".weights.h5"
# Keras reads its own groups of the file by name and passes over this one.
_GROUP = "mvit_tf"
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
        best_accuracy: its validation top-1 in [0, 1]; `None` without validation.
        best_loss: its validation loss, which decides between equal accuracies.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_accuracy: float | None = None
    best_loss: float | None = None

    def after_epoch(self, accuracy: float | None, loss: float | None) -> "Progress":
        """The progress one epoch on; that epoch is the best if its validation says so.

        Args:
            accuracy: validation top-1 of the epoch; `None` if it was not validated. Without any
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


class CheckpointStore:
    """The checkpoints of one model directory.

    Args:
        directory: created with the first checkpoint.
    """

    def __init__(self, directory: str | Path):
        self.directory = Path(directory)
        self._warned = set()

    def path(self, kind: str) -> Path:
        """Where the `"best"` or `"last"` checkpoint lies."""
        return self.directory / f"{kind}{_SUFFIX}"

    def save(self, model: keras.Model, progress: Progress):
        """Writes `last`, and before it `best` if the epoch is the best.

        In that order a kill in between leaves a complete `best` that is newer than `last`, and
        training resumes from there.
        """
        kinds = (BEST, LAST) if progress.is_best else (LAST,)
        self.directory.mkdir(parents=True, exist_ok=True)
        for kind in kinds:
            self._require_space(model)
            write_atomically(self.path(kind), lambda path: _write(path, model, progress))

    def _require_space(self, model: keras.Model):
        """Refuses to begin a file that the disk cannot take: HDF5 crashes on a full one."""
        optimizer = getattr(model, "optimizer", None)  # none before `compile`
        variables = [*model.weights, *(optimizer.variables if optimizer else ())]
        needed = sum(keras.ops.size(v) * v.value.dtype.size for v in variables)
        needed = int(needed) + _FILE_OVERHEAD
        free = shutil.disk_usage(self.directory).free
        if free < needed:
            raise UserError(
                f"no space for a checkpoint in {self.directory}: it takes "
                f"{needed / 2**20:.0f} MiB, {free / 2**20:.0f} MiB are free; free some and run "
                "the same command to resume"
            )

    def newest(self) -> tuple[Path, Progress] | None:
        """The readable checkpoint with the most epochs and its progress; `None` if none exists.

        Raises:
            UserError: there are checkpoints, and none can be read.
        """
        if self.directory.is_dir():
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
            print(f"warning: {message}; the other checkpoint is used", file=sys.stderr)
        self._warned.update(unreadable)
        return max(found, key=lambda entry: entry[1].epoch, default=None)

    def best(self) -> tuple[Path, Progress]:
        """The best checkpoint and its progress.

        Raises:
            UserError: there is none, or it cannot be read.
        """
        path = self.path(BEST)
        if not path.exists():
            raise UserError(
                f"{self.directory} holds no checkpoint {path.name}; train first (--mode=train)"
            )
        try:
            return path, read_progress(path)
        except UserError as error:
            last = self.path(LAST)
            cure = f"; copy {last.name} over it to use the last epoch" if last.exists() else ""
            raise UserError(f"{error}{cure}") from error


def read_progress(path: Path) -> Progress:
    """The progress stored in a checkpoint.

    Raises:
        UserError: the file is damaged or not a checkpoint of this project.
    """
    with _open(path) as file:
        if _GROUP not in file:
            raise UserError(f"{path} is a weights file, not a training checkpoint")
        return Progress(**json.loads(file[_GROUP].attrs[_PROGRESS]))


def restore(model: keras.Model, path: Path):
    """Loads weights, optimizer and random generators, so that training goes on as if unbroken.

    Args:
        model: compiled, its optimizer built.
        path: a checkpoint of this project.

    Raises:
        UserError: the checkpoint does not fit the model.
    """
    load_weights(model, path)
    with _open(path) as file:
        states = file[_GROUP][_SEEDS][()]
    generators = _seed_variables(model)
    if len(states) != len(generators):
        raise UserError(
            f"{path} holds {len(states)} random generators, the model has {len(generators)}; "
            "was it trained with other dropout or stochastic depth?"
        )
    for variable, state in zip(generators, states, strict=True):
        variable.assign(state)


def load_weights(model: keras.Model, path: Path):
    """`model.load_weights`, strict, with an answer a person can act on.

    Args:
        model: built; if it is compiled, the optimizer's slots are loaded too.
        path: a Keras weights file.

    Raises:
        UserError: the file is missing or damaged, or holds other classes, other shapes, fewer
            or more arrays than the model.
    """
    classes, expected = num_classes_in(path), model.output_shape[-1]
    if classes is not None and classes != expected:
        raise UserError(
            f"{path} was trained on {classes} classes, the model has {expected}; to fine-tune "
            "from it on other classes set model.initial_weights to it and model.reset_head=true"
        )
    held = len(_array_shapes(path))
    if held > len(model.weights):  # Keras would leave the rest unread
        raise UserError(
            f"{path} holds {held} weight arrays, the model has {len(model.weights)}: "
            "it belongs to another model"
        )
    with warnings.catch_warnings(record=True) as skipped:
        warnings.simplefilter("always")
        try:
            model.load_weights(path)
        except ValueError as error:
            difference = _first_difference(model, path)
            raise UserError(f"{path} does not fit the model: {difference}") from error
    for weight in model.weights:
        if not keras.ops.all(keras.ops.isfinite(weight)):
            raise UserError(f"{path} holds values that are not finite, in {weight.path}")
    if skipped:  # Keras warns of layers that it leaves as they were
        raise UserError(f"{path} does not fit the model: {skipped[0].message}")


def load_initial_weights(model: keras.Model, source: str | Path, *, reset_head: bool, twin):
    """Starts a model from trained weights.

    Args:
        model: built.
        source: a `.weights.h5` file; a model directory, whose best checkpoint is taken; a
            PyTorch checkpoint; or `PublishedWeights`.
        reset_head: leave the model's `head` as it is and load the rest.
        twin: makes the same model with another number of classes: `twin(num_classes)`. The
            whole file is loaded into it, strictly, before all but the head is taken over.

    Raises:
        UserError: no such file, or it does not fit the model.
    """
    head = "fresh" if reset_head else "load"
    if isinstance(source, PublishedWeights):
        load_published_weights(model, source, head=head)
        return
    if Path(source).is_file() and not str(source).endswith(_SUFFIX):
        load_pytorch_weights(model, source, head=head)
        return
    path = weights_path(source)
    if not reset_head:
        load_weights(model, path)
        return
    classes = num_classes_in(path)
    if classes is None:
        raise UserError(f"{path} has no layer 'head', so there is nothing for reset_head to reset")
    whole = twin(classes)
    load_weights(whole, path)
    for layer, loaded in zip(model.layers, whole.layers, strict=True):
        if layer.name != "head":
            layer.set_weights(loaded.get_weights())


def weights_path(source: str | Path) -> Path:
    """The weights file meant by a file or a model directory.

    Raises:
        UserError: there is no such file or directory, or no checkpoint in it.
    """
    source = Path(source)
    if source.is_dir():
        inner = source / "checkpoints"
        return CheckpointStore(inner if inner.is_dir() else source).best()[0]
    if not source.is_file():
        raise UserError(f"model.initial_weights: {source} does not exist")
    return source


def num_classes_in(path: Path) -> int | None:
    """Classes of the layer `head` in a weights file; `None` if it has no such layer."""
    for name, shape in _array_shapes(path).items():
        if name.startswith("head/"):
            return shape[-1]
    return None


def _write(path: Path, model: keras.Model, progress: Progress):
    model.save_weights(path)
    states = [keras.ops.convert_to_numpy(variable) for variable in _seed_variables(model)]
    with h5py.File(path, "a") as file:
        group = file.create_group(_GROUP)
        group.create_dataset(_SEEDS, data=np.array(states, dtype="int64").reshape(-1, 2))
        group.attrs[_PROGRESS] = json.dumps(dataclasses.asdict(progress))


def _seed_variables(model: keras.Model) -> list:
    """States of the model's random generators; Keras saves all variables but these."""
    return [v for v in model.variables if v.name == "seed_generator_state"]


def _open(path: Path) -> h5py.File:
    if not Path(path).is_file():
        raise UserError(f"{path} does not exist")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path} cannot be read, it is damaged or no HDF5 file") from error


def _array_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shape of each of the model's arrays in a weights file, by readable name."""
    with _open(path) as file:
        if "layers" not in file:
            return {}
        shapes = {}

        def visit(name, node):
            if isinstance(node, h5py.Dataset):
                shapes[_readable(file["layers"], name)] = node.shape

        file["layers"].visititems(visit)
    return shapes


def _readable(layers: h5py.Group, name: str) -> str:
    """`head/0` from `dense_1/vars/0`: Keras files layers by class, and keeps names beside."""
    parts = name.split("/")[:-2]
    names = []
    for depth, part in enumerate(parts, start=1):
        variables = layers["/".join(parts[:depth])].get("vars")
        names.append(part if variables is None else variables.attrs.get("name", part))
    return "/".join([*names, name.split("/")[-1]])


def _first_difference(model: keras.Model, path: Path) -> str:
    """Names the first array that differs, by writing the model's own file for comparison."""
    with tempfile.TemporaryDirectory() as directory:
        own_path = Path(directory) / f"model{_SUFFIX}"
        model.save_weights(own_path)
        own = _array_shapes(own_path)
    held = _array_shapes(path)
    differing = [
        f"{name} has shape {held[name]} in the file and {shape} in the model"
        for name, shape in own.items()
        if name in held and held[name] != shape
    ]
    missing = [
        f"{name} {shape} is not in the file" for name, shape in own.items() if name not in held
    ]
    differences = differing or missing
    if not differences:
        return "the optimizer's state differs; was it trained with another train section?"
    more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
    return differences[0] + more
