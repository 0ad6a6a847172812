"""Weights files: Keras' `.weights.h5` with a table of contents, loaded whole or not at all.

Keras looks for the arrays of each layer in a file and passes over all others, so that it loads a
deeper model into a shallower one, and what it assigned before a failure stays. Here a file tells
in a group of its own, which Keras passes over, what variables it holds. They are compared with
the model's before one of them is assigned, and a model is as it was when loading fails.

Files without that group, of plain Keras or older versions, are told by the shapes they hold.
"""

import collections
import contextlib
import dataclasses
import functools
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import h5py
import keras
import numpy as np

from mvit_tf.errors import UserError
from mvit_tf.file_checksum import append_checksum, checksum_holds
from mvit_tf.files import local_copy, write_atomically
from mvit_tf.lora_weights import GROUP as LORA_GROUP
from mvit_tf.lora_weights import lora_weights, merged_weights, read_lora, write_lora
from mvit_tf.models.config import MViTConfig
from mvit_tf.remote_path import RemotePath, as_path

SUFFIX = ".weights.h5"
HEADS = ("load", "auto", "fresh")
_GROUP = "mvit_tf"
_CONTENTS = "contents"
_OPTIMIZER = "optimizer"  # what Keras calls a compiled model's, and its group of a file
_HEAD = "head"
_MASK_TOKEN = "mask_token/token"  # which a pre-training alone has
_SHOWN = 3
_COPIED_AT_ONCE = 16 * 2**20
_UNREADABLE = (OSError, KeyError, RuntimeError, ValueError)  # what h5py makes of damaged files


def save_weights_file(
    model: keras.Model, path: str | os.PathLike, *, optimizer: bool = True, **attributes
):
    """Writes a model's weights, and its optimizer's state if it is compiled; a checksum ends it.

    Args:
        model: built.
        path: ends in `.weights.h5`; a file there is replaced once the new one is whole.
        optimizer: `False` leaves out the optimizer's state, and what LoRA keeps apart.
        **attributes: texts and arrays to keep in the same file, see `WeightsFile.attributes`.

    Raises:
        UserError: a weight is not finite; the file at `path` stays.
    """
    variable = first_not_finite(model)
    if variable:
        raise UserError(f"{os.fspath(path)} was not written: {variable} is not finite")
    contents = {
        "variables": {
            variable.path: {"shape": list(variable.shape), "dtype": str(variable.dtype)}
            for variable in merged_weights(model)
        },
        "config": _config_of(model),
    }

    left_out = [] if optimizer or getattr(model, "optimizer", None) is None else [model.optimizer]

    def write(temporary):
        keras.saving.save_weights(model, temporary, objects_to_skip=left_out)
        # A process that another thread forked meanwhile, such as a decoder's, has HDF5's lock on
        # what Keras closed until it executes its program; nobody else knows the file.
        with h5py.File(temporary, "a", locking=False) as file:
            if optimizer:  # what training goes on from
                write_lora(model, file)
            group = file.create_group(_GROUP)
            # Not an attribute, of which HDF5 bears 64 KiB.
            group[_CONTENTS] = json.dumps(contents)
            for name, value in attributes.items():
                if isinstance(value, str):
                    group.attrs[name] = value
                else:
                    group[name] = value
        append_checksum(temporary)

    write_atomically(as_path(path), write)


def load_weights_file(model: keras.Model, path: str | os.PathLike, **options):
    """Loads all weights of a model from a file that holds just these.

    Args:
        model: built; unchanged if this raises.
        path: a `.weights.h5` file of `save_weights_file` or of Keras.
        **options: of `WeightsFile.load`.

    Returns:
        what `WeightsFile.load` does.

    Raises:
        UserError: the file is missing or damaged, or does not fit the model.
    """
    with open_weights_file(path) as file:
        return file.load(model, **options)


@contextlib.contextmanager
def open_weights_file(path: str | os.PathLike) -> Iterator["WeightsFile"]:
    """Opens a weights file, once: all that is read from it in this context belongs together.

    A training that runs meanwhile may put another file in its place.

    Raises:
        UserError: the file is missing or damaged.
        OSError: it is remote and cannot be reached, which says nothing of it.
    """
    path = as_path(path)
    with contextlib.ExitStack() as stack:
        try:
            local = stack.enter_context(local_copy(path))
        except FileNotFoundError as error:
            raise UserError(f"{path} does not exist") from error
        try:
            stream = stack.enter_context(open(local, "rb"))
            contents = _read(stream)
        except FileNotFoundError as error:
            raise UserError(f"{path} does not exist") from error
        except _UNREADABLE as error:
            raise UserError(f"{path} cannot be read, it is damaged or no HDF5 file") from error
        yield WeightsFile(path=path, stream=stream, **contents)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """An opened weights file, see `open_weights_file`.

    Attributes:
        path: where it was found.
        stream: its bytes.
        attributes: what `save_weights_file` was told to keep with the weights.
        variables: shape by path of each variable; `None` in files without a table of contents.
        shapes: shapes of the arrays of weights.
        optimizer_shapes: shapes of the arrays of the optimizer's state.
        config: fields of the model's `MViTConfig`; `None` if unknown.
    """

    path: Path | RemotePath
    stream: BinaryIO
    attributes: Mapping[str, str | np.ndarray]
    variables: Mapping[str, tuple[int, ...]] | None
    shapes: tuple[tuple[int, ...], ...]
    optimizer_shapes: tuple[tuple[int, ...], ...]
    config: Mapping | None

    def check(self):
        """Reads the file to its end, once, and compares it with its checksum, if it has one.

        Raises:
            UserError: it is damaged.
        """
        if not self._is_whole:
            raise UserError(f"{self.path} is damaged: it is not what its checksum says")

    @functools.cached_property
    def _is_whole(self) -> bool:
        return checksum_holds(self.stream) is not False

    def load(self, model: keras.Model, *, head: str = "load", require_optimizer: bool = False):
        """Sets all weights of a model.

        Args:
            model: built; unchanged if this raises. The state of its optimizer is loaded where
                the file holds one that fits.
            head: "load"; "fresh" leaves the model's head as it is; "auto" does so where the
                numbers of classes differ. Of a pre-training (MaskFeat) both take the encoder, and
                leave the model's last norm as it is too.
            require_optimizer: refuse a file without a fitting optimizer's state.

        Returns:
            ConversionReport of an encoder that was taken; otherwise None.

        Raises:
            UserError: the file lacks weights of the model, has others, or values that are not
                finite, or cannot be read to its end.
        """
        if head not in HEADS:
            raise UserError(f"head must be one of {HEADS}, got {head!r}")
        self.check()
        wanted = {variable.path: tuple(variable.shape) for variable in merged_weights(model)}
        held = self.variables or _named_by_shape(self.shapes, wanted)
        if head != "load" and _MASK_TOKEN in held and _MASK_TOKEN not in wanted:
            return self._load_encoder(model)
        fresh = head == "fresh" or (head == "auto" and _head(held) != _head(wanted))
        if fresh:
            held, wanted = _without_head(held), _without_head(wanted)
        if held != wanted:
            raise UserError(self._misfit(model, held, wanted))

        skipped = [layer for layer in model.layers if fresh and layer.name == _HEAD]
        optimizer = getattr(model, "optimizer", None)
        slots = [] if optimizer is None else optimizer.variables
        shapes = collections.Counter(tuple(variable.shape) for variable in slots)
        if fresh or shapes != collections.Counter(self.optimizer_shapes):
            if require_optimizer:
                raise UserError(
                    f"{self.path} does not fit the model: the optimizer's state differs; was it "
                    "trained with another train section?"
                )
            skipped += [] if optimizer is None else [optimizer]
        with _restored_on_failure([*model.weights, *slots]):
            self._assign(model, skipped)
            if lora_weights(model):
                self._assign_lora(model, required=require_optimizer)
        return None

    def _load_encoder(self, model):
        """Sets the encoder of a model from a pre-training."""
        from mvit_tf.conversion.loading import load_encoder
        from mvit_tf.pretraining.geometry import prediction_grid
        from mvit_tf.pretraining.maskfeat import MaskFeat

        config = MViTConfig(**self.config)
        # No weight depends on the window of the masks.
        pretrained = MaskFeat(config, window=prediction_grid(config).grid, dtype="float32")
        self.load(pretrained)
        return load_encoder(model, pretrained, str(self.path))

    def _assign(self, model, skipped):
        try:
            with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
                # Keras takes a path, and another file may lie at this one's by now.
                copy = Path(folder, f"copy{SUFFIX}")
                with open(copy, "wb") as file:
                    self.stream.seek(0)
                    shutil.copyfileobj(self.stream, file, _COPIED_AT_ONCE)
                # Keras warns of what it leaves as it was.
                warnings.simplefilter("error", UserWarning)
                keras.saving.load_weights(model, copy, objects_to_skip=skipped)
        except (UserWarning, *_UNREADABLE) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"{self.path} cannot be loaded, it is damaged or was not written by this "
                f"version's kind of layers: {reason}"
            ) from error
        variable = first_not_finite(model)
        if variable:
            raise UserError(f"{self.path} holds values that are not finite, in {variable}")

    def _assign_lora(self, model, *, required):
        self.stream.seek(0)
        with h5py.File(self.stream, "r") as file:
            if not read_lora(model, file) and required:
                raise UserError(
                    f"{self.path} holds no LoRA weights of this rank; was it trained with another "
                    "train.lora_rank?"
                )

    def _misfit(self, model, held, wanted) -> str:
        classes, expected = (
            shapes.get(f"{_HEAD}/kernel", (None,))[-1] for shapes in (held, wanted)
        )
        if _without_head(held) == _without_head(wanted) and None not in (classes, expected):
            return (
                f"{self.path} was trained on {classes} classes, the model has {expected}; build "
                f'the model with num_classes={classes}, or keep its new head: head="fresh", in '
                "an experiment model.reset_head=true"
            )
        if _MASK_TOKEN in held and _MASK_TOKEN not in wanted:
            return (
                f"{self.path} is of a pre-training, which has no head: take its encoder and keep "
                'the new head: head="fresh", in an experiment model.reset_head=true'
            )
        if _MASK_TOKEN in wanted and _MASK_TOKEN not in held:
            return (
                f"{self.path} is of a classifier, and no pre-training starts from one: start from "
                "random weights (in an experiment model.initial_weights=null) or from another "
                "pre-training"
            )
        parts = []
        if self.config and _config_of(model):
            parts += _config_differences(self.config, _config_of(model))
        if len(held) != len(wanted):
            parts.append(f"it holds {len(held)} weight arrays, the model has {len(wanted)}")
        differences = _differences(held, wanted)
        parts += differences[:_SHOWN]
        if len(differences) > _SHOWN:
            parts.append(f"and {len(differences) - _SHOWN} more")
        if not self.variables:
            parts.append("(told by shapes, as the file names no variables)")
        return (
            f"{self.path} does not fit the model: {'; '.join(parts)}; build the model as the "
            "file's was"
        )


def first_not_finite(model: keras.Model) -> str | None:
    """The path of a model's first weight with a value that is not finite; `None` without one."""
    for variable in model.weights:
        if not keras.ops.all(keras.ops.isfinite(variable)):
            return variable.path
    return None


@contextlib.contextmanager
def _restored_on_failure(variables) -> Iterator[None]:
    before = [keras.ops.convert_to_numpy(variable).copy() for variable in variables]
    try:
        yield
    except BaseException:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
        raise


def _read(stream: BinaryIO) -> dict:
    """What `WeightsFile` says of a file, but for the values of its arrays."""
    shapes = {_OPTIMIZER: [], _GROUP: [], LORA_GROUP: []}
    weights = []

    def visit(name, node):
        if isinstance(node, h5py.Dataset):
            shapes.get(name.split("/")[0], weights).append(node.shape)

    with h5py.File(stream, "r") as file:
        file.visititems(visit)
        group = file.get(_GROUP)
        attributes = {} if group is None else {**group.attrs}
        if group is not None:
            attributes.update({name: node[()] for name, node in group.items()})
    contents = json.loads(attributes.pop(_CONTENTS, "{}"))
    variables = contents.get("variables")
    return {
        "attributes": attributes,
        "variables": variables
        and {path: tuple(facts["shape"]) for path, facts in variables.items()},
        "shapes": tuple(weights),
        "optimizer_shapes": tuple(shapes[_OPTIMIZER]),
        "config": contents.get("config"),
    }


def _config_of(model: keras.Model) -> dict | None:
    config = getattr(model, "config", None)
    return json.loads(json.dumps(config.to_dict())) if isinstance(config, MViTConfig) else None


def _named_by_shape(shapes, wanted) -> dict[str, tuple[int, ...]]:
    """Gives arrays without names those of the variables that they may be.

    First to variables of the same shape, then of the same rank; what is left gets a number.
    """
    left = sorted(shapes)
    named = {}
    for alike in (tuple, len):
        for path, shape in wanted.items():
            found = [other for other in left if alike(other) == alike(shape)]
            if path not in named and found:
                named[path] = found[0]
                left.remove(found[0])
    return named | {f"array {number}": shape for number, shape in enumerate(left, start=1)}


def _head(shapes) -> dict[str, tuple[int, ...]]:
    return {path: shape for path, shape in shapes.items() if path.startswith(f"{_HEAD}/")}


def _without_head(shapes) -> dict[str, tuple[int, ...]]:
    return {path: shape for path, shape in shapes.items() if path not in _head(shapes)}


def _differences(held, wanted) -> list[str]:
    misshaped = [
        f"{path} has shape {held[path]} in the file and {shape} in the model"
        for path, shape in wanted.items()
        if held.get(path, shape) != shape
    ]
    missing = [
        f"{path} {shape} is not in the file" for path, shape in wanted.items() if path not in held
    ]
    unknown = [
        f"{path} {shape} is not in the model" for path, shape in held.items() if path not in wanted
    ]
    return misshaped + missing + unknown


def _config_differences(held, wanted) -> list[str]:
    return [
        f"{name} is {held[name]} in the file and {wanted[name]} in the model"
        for name in wanted
        if name in held and held[name] != wanted[name]
    ]
