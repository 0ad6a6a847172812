"""Named models with weights: the way in for most users."""

import os

from mvit_tf.conversion import load_pytorch_weights
from mvit_tf.conversion.published import find_published_weights, load_published_weights
from mvit_tf.errors import UserError
from mvit_tf.models import build_mvit, get_config

_KERAS_WEIGHTS = ".weights.h5"


def create_model(
    name,
    *,
    num_classes=None,
    input_shape=None,
    weights=None,
    dtype=None,
    remat=False,
    **fields,
):
    """Builds a named model.

    Args:
        name: one of `list_models()`.
        num_classes: classes of the head; the named model's own when None.
        input_shape: (T, H, W, 3), or (H, W, 3) for an image model; the named model's own when
            None.
        weights: the name of a published set, such as "kinetics400" (`mvit weights` lists
            them; downloaded on first use), the path of a `.weights.h5` file or of a PyTorch
            checkpoint, or None for random weights. Published sets and checkpoints fit other
            input shapes too, and leave the head fresh where the classes differ.
        dtype, remat: see `MViT`.
        **fields: other fields of `MViTConfig`, such as `pool_mode="max"`.

    Returns:
        An `MViT`.

    Raises:
        UserError: an unknown name or field, a value out of its range, or weights that cannot
            be had or do not fit.
    """
    config = get_config(name)
    published = None if weights is None else published_set(name, weights)
    if published is not None:
        config = published.config
    if num_classes is not None:
        fields["num_classes"] = num_classes
    if input_shape is not None:
        fields["input_shape"] = _checked_input_shape(config, input_shape)
    model = build_mvit(config.replace(**fields), name=name, dtype=dtype, remat=remat)
    if published is not None:
        load_published_weights(model, published)
    elif weights is not None and os.fspath(weights).endswith(_KERAS_WEIGHTS):
        _load_keras_weights(model, weights)
    elif weights is not None:
        load_pytorch_weights(model, weights)
    return model


def published_set(name, weights):
    """The `PublishedWeights` that are meant by a name, or None where `weights` is a path.

    Raises:
        UserError: neither a path nor a published set of the model.
    """
    if os.path.exists(weights):
        return None
    if os.path.splitext(weights)[1] or os.path.dirname(weights):
        raise UserError(f"weights {os.fspath(weights)!r}: no such file")
    return find_published_weights(name, weights)


def _load_keras_weights(model, path):
    try:
        model.load_weights(path)
    except ValueError as error:
        raise UserError(
            f"{os.fspath(path)} does not hold the weights of this model: it was saved with another "
            "number of classes, input shape or other fields"
        ) from error


def _checked_input_shape(config, shape):
    if len(shape) != len(config.input_shape):
        legal = "(H, W, 3)" if config.image else "(T, H, W, 3)"
        raise UserError(f"input_shape must be {legal} for this model, got {tuple(shape)}")
    return tuple(shape)
