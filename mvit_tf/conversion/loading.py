"""PyTorch weights into a Keras model and back, every tensor and variable accounted for."""

import os

from mvit_tf.conversion.checkpoint_files import read_checkpoint
from mvit_tf.conversion.fitting import fit_tensors
from mvit_tf.conversion.layouts import WRITTEN, detect_layout, without_wrapper
from mvit_tf.conversion.model_facts import model_facts
from mvit_tf.conversion.report import ConversionReport
from mvit_tf.conversion.resize import INFLATIONS
from mvit_tf.conversion.tensors import as_tensor
from mvit_tf.conversion.variant import likely_cause, variant_of_shapes
from mvit_tf.errors import UserError

HEADS = ("auto", "load", "fresh")
_HEAD = ("head/kernel", "head/bias")
_SHOWN = 4


def load_pytorch_weights(model, source, *, head="auto", inflation="center", source_grid=None):
    """Sets every variable of a model from PyTorch weights.

    Knows the names of SlowFast, torchvision, PyTorchVideo, timm and facebookresearch/mvit, told
    apart by the names themselves. Positions of another input size are interpolated (bicubic in
    space, linear in time and for relative tables); weights of an image model are inflated to a
    video model: kernels as `inflation` says, the temporal relative tables zero, and the class
    token left fresh where the image model has none.

    Args:
        model: a `keras.Model` of `create_model` or `build_mvit`; unchanged if this raises.
        source: path of a `.pth`, `.pyth`, `.pt` or `.safetensors` file, or a state dict of
            numpy arrays or PyTorch tensors.
        head: "auto" loads the head where the numbers of classes agree and else leaves it
            fresh; "load" insists; "fresh" leaves it in any case.
        inflation: "center" (MViTv2, section 4.3) or "mean".
        source_grid: (T, H, W) in tokens of the source's position tables, which are otherwise
            taken for square.

    Returns:
        ConversionReport: what went where, what was interpolated, what is fresh.

    Raises:
        UserError: the source cannot be read, has tensors that the model has no place for, lacks
            some, or is of a model that computes something else; with the likely cause.
    """
    if head not in HEADS:
        raise UserError(f"head must be one of {HEADS}, got {head!r}")
    if inflation not in INFLATIONS:
        raise UserError(f"inflation must be one of {INFLATIONS}, got {inflation!r}")
    facts = model_facts(model)
    label, state_dict, layout, tensors = read_weights(source)
    _check_residual_pooling(label, layout, facts)

    fresh = _fresh_head(tensors, facts, head)
    left_out = tuple(name for path in fresh if path in tensors for name in tensors[path].names)
    tensors = {path: tensor for path, tensor in tensors.items() if path not in fresh}
    fit = fit_tensors(tensors, facts, fresh=fresh, inflation=inflation, source_grid=source_grid)
    _check_fit(label, fit, state_dict, tensors, left_out, facts)
    for placement, tensor in fit.assignments:
        if tensor is not None:
            facts.variables[placement.path].assign(tensor.read())
    return ConversionReport(
        label, layout.NAME, tuple(placement for placement, _ in fit.assignments), left_out
    )


def read_weights(source):
    """Reads names and shapes of PyTorch weights and converts them, values unread.

    Args:
        source: as of `load_pytorch_weights`.

    Returns:
        (label for messages, names -> Tensor, layout module, variable paths -> Tensor).

    Raises:
        UserError: see `load_pytorch_weights`.
    """
    if isinstance(source, str | os.PathLike):
        label, state_dict = os.fspath(source), read_checkpoint(source)
    else:
        label = "state dict"
        state_dict = {name: as_tensor(name, values) for name, values in source.items()}
    state_dict = without_wrapper(state_dict)
    try:
        layout = detect_layout(state_dict)
    except UserError as error:
        raise UserError(f"{label}: {error}") from None
    return label, state_dict, layout, layout.to_keras(state_dict)


def to_pytorch_state_dict(model, layout="slowfast"):
    """The weights of a model under the names and in the shapes of a PyTorch implementation.

    Args:
        model: a `keras.Model` of `create_model` or `build_mvit`.
        layout: "slowfast", "torchvision", "pytorchvideo" or "timm".

    Returns:
        dict of name -> numpy array, float32; `torch.from_numpy` makes them tensors.

    Raises:
        UserError: an unknown layout, or one whose implementation has no such model.
    """
    if layout not in WRITTEN:
        raise UserError(f"layout must be one of {', '.join(WRITTEN)}, got {layout!r}")
    facts = model_facts(model)
    reasons = WRITTEN[layout].unsupported(facts)
    if reasons:
        able = [name for name, other in WRITTEN.items() if not other.unsupported(facts)]
        raise UserError(
            f"{layout} has no {', no '.join(reasons)}; this model can be written as "
            f"{', '.join(able)}"
        )
    _check_residual_pooling("the model", WRITTEN[layout], facts)
    variables = {
        path: variable.numpy().astype("float32") for path, variable in facts.variables.items()
    }
    return WRITTEN[layout].to_pytorch(variables, image=facts.image)


def _fresh_head(tensors, facts, head):
    if head == "fresh":
        return _HEAD
    kernel = tensors.get("head/kernel")
    classes = facts.shapes["head/kernel"][-1]
    if head == "auto" and kernel is not None and kernel.shape[-1] != classes:
        return _HEAD
    return ()


def _check_residual_pooling(label, layout, facts):
    """Names cannot tell how residual pooling treats the class token; the layout does."""
    mode = facts.residual_pooling
    if facts.class_token and mode not in layout.RESIDUAL_POOLING:
        does = "adds" if "all" in layout.RESIDUAL_POOLING else "does not add"
        cure = next(other for other in layout.RESIDUAL_POOLING if other != "none")
        raise UserError(
            f"{label}: {layout.NAME} {does} the pooled queries at the class token, and this "
            f"model has residual_pooling={mode!r}: the same weights would give other numbers; "
            f"build the model with residual_pooling={cure!r}"
        )


def _check_fit(label, fit, state_dict, tensors, left_out, facts):
    placed = {name for tensor in tensors.values() for name in tensor.names}
    unknown = [
        name
        for tensor in state_dict.values()
        for name in tensor.names
        if name not in placed and name not in left_out
    ]
    unplaced = unknown + [name for path in fit.unplaced for name in tensors[path].names]
    if not (fit.missing or fit.mismatched or unplaced):
        return
    parts = []
    if fit.missing:
        parts.append(
            f"it lacks {len(fit.missing)} of the model's {len(facts.variables)} variables "
            f"({_shorten(fit.missing)})"
        )
    if unplaced:
        parts.append(
            f"the model has no place for {len(unplaced)} of its tensors ({_shorten(unplaced)})"
        )
    if fit.mismatched:
        shapes = [
            f"{path}: {source} in the file, {target} in the model"
            for path, source, target in fit.mismatched
        ]
        parts.append(f"{len(shapes)} have another shape ({_shorten(shapes)})")
    source = variant_of_shapes({path: tensor.shape for path, tensor in tensors.items()})
    cause = likely_cause(source, variant_of_shapes(facts.shapes))
    if not cause and {path for path, _, _ in fit.mismatched} <= set(_HEAD):
        cause = (
            f"the file has {source.num_classes} classes; build the model with "
            f'num_classes={source.num_classes}, or load with head="fresh" for a new head'
        )
    message = f"{label} does not fit the model: {'; '.join(parts)}"
    raise UserError(f"{message}. Likely cause: {cause}" if cause else message)


def _shorten(names):
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown}, and {len(names) - _SHOWN} more"
