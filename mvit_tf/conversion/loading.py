"""PyTorch weights into a Keras model and back, every tensor and variable accounted for."""

import dataclasses
import os
import types

import numpy as np
from keras import ops

from mvit_tf.conversion import slowfast
from mvit_tf.conversion.checkpoint_files import read_checkpoint
from mvit_tf.conversion.fitting import fit_tensors
from mvit_tf.conversion.layouts import WRITTEN, find_model
from mvit_tf.conversion.report import ConversionReport
from mvit_tf.conversion.resize import INFLATIONS
from mvit_tf.conversion.tensors import as_tensor
from mvit_tf.conversion.variant import likely_cause, variant_of_shapes
from mvit_tf.errors import UserError
from mvit_tf.models.mvit import MViT
from mvit_tf.pretraining.maskfeat import MaskFeat

HEADS = ("auto", "load", "fresh")
_HEAD = ("head/kernel", "head/bias")
_NORM = ("norm/gamma", "norm/beta")
# What only a MaskFeat has.
_PREDICTION = (
    "mask_token/token",
    *("pred_norm/gamma", "pred_norm/beta"),
    *("pred_head/kernel", "pred_head/bias"),
)
_SHOWN = 4


def load_pytorch_weights(
    model, source, *, head="auto", inflation="center", source_grid=None, prefix=None
):
    """Sets every variable of a model from PyTorch weights.

    Knows the names of SlowFast, torchvision, PyTorchVideo, timm and facebookresearch/mvit, told
    apart by the names themselves; a prefix that all names of the model share is found, and what
    lies beside the model is left out. Positions of another input size are interpolated (bicubic in
    space, linear in time and for relative tables); weights of an image model are inflated to a
    video model: kernels as `inflation` says, the temporal relative tables zero, and the class
    token left fresh where the image model has none. Of a pre-training (MaskFeat) an MViT takes the
    encoder: its last norm and its head stay as they are.

    Args:
        model: MViT or MaskFeat; unchanged if this raises.
        source: path of a `.pth`, `.pyth`, `.pt` or `.safetensors` file, or a state dict of
            numpy arrays or PyTorch tensors.
        head: "auto" loads the head where the numbers of classes agree and else leaves it
            fresh; "load" insists; "fresh" leaves it in any case.
        inflation: "center" (MViTv2, section 4.3) or "mean".
        source_grid: (T, H, W) in tokens of the source's position tables, which are otherwise
            taken for square.
        prefix: what the names of the model begin with ("teacher."), where a source holds several.

    Returns:
        ConversionReport: what went where, what was interpolated, what is fresh.

    Raises:
        UserError: the source cannot be read, has tensors that the model has no place for, lacks
            some, has values that are not finite, or is of a model that computes something else;
            with the likely cause.
    """
    if head not in HEADS:
        raise UserError(f"head must be one of {HEADS}, got {head!r}")
    if inflation not in INFLATIONS:
        raise UserError(f"inflation must be one of {INFLATIONS}, got {inflation!r}")
    variables = _variables(model)
    weights = read_weights(source, prefix)
    _check_skip(weights.label, weights.layout, model.config)
    _check_residual_pooling(weights.label, weights.layout, model.config)
    return _place(model, variables, weights, head, inflation, source_grid)


def load_encoder(model, pretrained, label):
    """Sets the encoder of a model from a pre-training of Keras.

    Args:
        model: MViT; unchanged if this raises. Its last norm and its head stay as they are.
        pretrained: MaskFeat.
        label: where that is from, for the report.

    Returns:
        ConversionReport.

    Raises:
        UserError: the two are of different models, with the likely cause.
    """
    tensors = {
        path: as_tensor(path, ops.convert_to_numpy(variable))
        for path, variable in _variables(pretrained).items()
    }
    weights = Weights(label, None, tensors, (), ())
    return _place(model, _variables(model), weights, "fresh", INFLATIONS[0], None)


def _place(model, variables, weights, head, inflation, source_grid):
    shapes = {path: tuple(variable.shape) for path, variable in variables.items()}
    label, tensors = weights.label, weights.tensors
    replaced = _replaced(tensors, model, head)
    fresh = tuple(path for path in replaced if path in shapes)
    left_out = [name for path in replaced if path in tensors for name in tensors[path].names]
    left_out = (*left_out, *weights.constants)
    tensors = {path: tensor for path, tensor in tensors.items() if path not in replaced}
    fit = fit_tensors(
        tensors,
        shapes,
        model.config.patch_grid,
        fresh=fresh,
        inflation=inflation,
        source_grid=source_grid,
    )
    unknown = [name for name in weights.unknown if name not in left_out]
    _check_fit(label, fit, unknown, tensors, shapes)
    # All are read before one is assigned: reading may fail in the middle of a file.
    values = {p.path: _read(label, p, tensor) for p, tensor in fit.assignments if tensor}
    for path, array in values.items():
        variables[path].assign(array)
    return ConversionReport(
        source=label,
        layout="keras" if weights.layout is None else weights.layout.NAME,
        placements=tuple(placement for placement, _ in fit.assignments),
        unused=left_out,
        beside=weights.beside,
    )


@dataclasses.dataclass(frozen=True)
class Weights:
    """Names and shapes of weights, converted; the values unread.

    Attributes:
        label: the source, for messages.
        layout: the module of this package that reads it; None for weights of Keras.
        tensors: variable path -> Tensor.
        unknown: names of the model's tensors for which the layout has no variable.
        beside: names of tensors beside the model.
        constants: names of tensors of the model that nobody trains.
    """

    label: str
    layout: types.ModuleType | None
    tensors: dict
    unknown: tuple[str, ...]
    beside: tuple[str, ...]
    constants: tuple[str, ...] = ()


def read_weights(source, prefix=None):
    """Reads and converts names and shapes of PyTorch weights.

    Args:
        source, prefix: as of `load_pytorch_weights`.

    Returns:
        Weights.

    Raises:
        UserError: see `load_pytorch_weights`.
    """
    if isinstance(source, str | os.PathLike):
        label, state_dict = os.fspath(source), read_checkpoint(source)
    else:
        label = "state dict"
        state_dict = {name: as_tensor(name, values) for name, values in source.items()}
    try:
        layout, inside, beside = find_model(state_dict, prefix)
    except UserError as error:
        raise UserError(f"{label}: {error}") from None
    tensors = layout.to_keras(inside)
    known = {name for tensor in tensors.values() for name in tensor.names}
    names = [name for tensor in inside.values() for name in tensor.names]
    constants = tuple(name for name in names if name in slowfast.FILTERS)
    unknown = tuple(name for name in names if name not in known.union(constants))
    return Weights(label, layout, tensors, unknown, tuple(beside), constants)


def to_pytorch_state_dict(model, layout="slowfast"):
    """The weights of a model under the names and in the shapes of a PyTorch implementation.

    Args:
        model: MViT or, for "slowfast" alone, MaskFeat.
        layout: "slowfast", "torchvision", "pytorchvideo" or "timm".

    Returns:
        dict of name -> numpy array, float32; `torch.from_numpy` makes them tensors.

    Raises:
        UserError: an unknown layout, or one whose implementation has no such model.
    """
    if layout not in WRITTEN:
        raise UserError(f"layout must be one of {', '.join(WRITTEN)}, got {layout!r}")
    variables = _variables(model)
    if isinstance(model, MaskFeat) and layout != slowfast.NAME:
        raise UserError(f"{layout} has no MaskFeat; this model can be written as {slowfast.NAME}")
    reasons = WRITTEN[layout].unsupported(model.config)
    if reasons:
        able = [name for name, other in WRITTEN.items() if not other.unsupported(model.config)]
        raise UserError(
            f"{layout} has no {', no '.join(reasons)}; this model can be written as "
            f"{', '.join(able)}"
        )
    _check_skip("the model", WRITTEN[layout], model.config)
    _check_residual_pooling("the model", WRITTEN[layout], model.config)
    values = {path: variable.numpy().astype("float32") for path, variable in variables.items()}
    return WRITTEN[layout].to_pytorch(values, image=model.config.image)


def _variables(model):
    """path -> variable."""
    if not isinstance(model, MViT | MaskFeat):
        raise UserError(
            f"{model.name!r} is not a model of mvit_tf.create_model or mvit_tf.build_mvit, whose "
            "layers the weights are mapped to; convert into such a model and take its layers"
        )
    return {variable.path: variable for variable in model.weights}


def _read(label, placement, tensor):
    values = tensor.read()
    if not np.isfinite(values).all():
        names = " and ".join(tensor.names)
        raise UserError(
            f"{label} holds values that are not finite, in {names} ({placement.path} of the "
            "model): its training had diverged, or the file is damaged"
        )
    return values


def _replaced(tensors, model, head):
    """Paths of variables that keep their values, and of tensors to leave out."""
    if isinstance(model, MaskFeat):
        return ()
    if _is_pretraining(tensors) and head != "load":
        return (*_HEAD, *_NORM, *_PREDICTION)
    kernel, classes = tensors.get("head/kernel"), model.config.num_classes
    other = head == "auto" and kernel is not None and kernel.shape[-1] != classes
    return _HEAD if other or head == "fresh" or not classes else ()


def _is_pretraining(tensors):
    return _PREDICTION[0] in tensors


def _check_skip(label, layout, config):
    """Names cannot tell what the skip paths project, and no layout knows the input itself."""
    if not config.normalized_skip:
        raise UserError(
            f"{label}: {layout.NAME} projects the normed tokens where channels change, and this "
            "model has normalized_skip=False: the same weights would give other numbers; build "
            "the model with normalized_skip=True"
        )


def _check_residual_pooling(label, layout, config):
    """Names cannot tell how residual pooling treats the class token; the layout does."""
    mode = config.residual_pooling
    if config.class_token and mode not in layout.RESIDUAL_POOLING:
        does = "adds" if "all" in layout.RESIDUAL_POOLING else "does not add"
        cure = next(other for other in layout.RESIDUAL_POOLING if other != "none")
        raise UserError(
            f"{label}: {layout.NAME} {does} the pooled queries at the class token, and this "
            f"model has residual_pooling={mode!r}: the same weights would give other numbers; "
            f"build the model with residual_pooling={cure!r}"
        )


def _check_fit(label, fit, unknown, tensors, shapes):
    unplaced = unknown + [name for path in fit.unplaced for name in tensors[path].names]
    if not (fit.missing or fit.mismatched or unplaced):
        return
    parts = []
    if fit.missing:
        parts.append(
            f"it lacks {len(fit.missing)} of the model's {len(shapes)} variables "
            f"({_shorten(fit.missing)})"
        )
    if unplaced:
        parts.append(
            f"the model has no place for {len(unplaced)} of its tensors ({_shorten(unplaced)})"
        )
    if fit.mismatched:
        differing = [
            f"{path}: {source} in the file, {target} in the model"
            for path, source, target in fit.mismatched
        ]
        parts.append(f"{len(differing)} have another shape ({_shorten(differing)})")
    source = variant_of_shapes({path: tensor.shape for path, tensor in tensors.items()})
    cause = likely_cause(source, variant_of_shapes(shapes))
    if not cause and fit.mismatched and {path for path, _, _ in fit.mismatched} <= set(_HEAD):
        cause = (
            f"the file has {source.num_classes} classes; build the model with "
            f'num_classes={source.num_classes}, or load with head="fresh" for a new head'
        )
    if not cause and _is_pretraining(tensors) and _PREDICTION[0] not in shapes:
        cause = (
            "the file is of a pre-training, which has no head: head='fresh' loads its encoder "
            "and leaves the model's last norm and head as they are"
        )
    if not cause and tuple(fit.missing) == _HEAD:
        cause = (
            "the file has no head; load_pytorch_weights(model, source, head='fresh') loads the "
            "rest and leaves the model's head as it is"
        )
    message = f"{label} does not fit the model: {'; '.join(parts)}"
    raise UserError(f"{message}. Likely cause: {cause}" if cause else message)


def _shorten(names):
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown}, and {len(names) - _SHOWN} more"
