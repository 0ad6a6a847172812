"""Named models with weights: the way in for most users."""

import dataclasses
import os

from mvit_tf.conversion import load_pytorch_weights
from mvit_tf.conversion.published import (
    find_published_file,
    find_published_weights,
    load_published_weights,
    published_weights,
)
from mvit_tf.data.preprocessing import Preprocessing
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.errors import UserError
from mvit_tf.models import build_mvit, get_config
from mvit_tf.weights_file import SUFFIX, load_weights_file


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
            input shapes too, and leave the head fresh where the classes differ. Published
            weights bring `preprocessing`, `sampling` and `class_names` of the model.
        dtype, remat: see `MViT`.
        **fields: other fields of `MViTConfig`, such as `pool_mode="max"`.

    Returns:
        An `MViT`; its `conversion_report` says what went where, None without PyTorch weights.

    Raises:
        UserError: an unknown name or field, a value out of its range, or weights that cannot
            be had or do not fit.
    """
    published, path = (None, None) if weights is None else _resolve(name, weights)
    config = get_config(name) if published is None else published.config
    if num_classes is not None:
        fields["num_classes"] = num_classes
    if input_shape is not None:
        fields["input_shape"] = _checked_input_shape(config, input_shape)
    model = build_mvit(config.replace(**fields), name=name, dtype=dtype, remat=remat)
    if path is not None and path.endswith(SUFFIX):
        load_weights_file(model, path)
    elif path is not None:
        model.conversion_report = load_pytorch_weights(model, path)
    elif published is not None:
        model.conversion_report = load_published_weights(model, published)
    if published is not None:
        _describe_input(model, published)
    return model


def _resolve(name, weights):
    """(PublishedWeights or None, path or None) of `weights`; both for a set's own file."""
    published = published_set(name, weights)
    if published is not None:
        return published, None
    return find_published_file(name, weights), os.fspath(weights)


def published_set(name, weights):
    """The `PublishedWeights` that are meant by a name, or None where `weights` is a path.

    A name without separator and suffix means the set, though a folder be called so.

    Raises:
        UserError: neither a path nor a published set of the model.
    """
    weights = os.fspath(weights)
    is_set = any(entry.set == weights for entry in published_weights())
    if os.path.isfile(weights) or (os.path.isdir(weights) and not is_set):
        return None
    if os.path.splitext(weights)[1] or os.path.dirname(weights):
        raise UserError(f"weights {weights!r}: no such file")
    return find_published_weights(name, weights)


def _describe_input(model, published):
    """Tells a model the frames and classes its weights were trained on, as far as it kept them."""
    preprocessing = Preprocessing.from_dict(published.preprocessing)
    height, width = model.config.input_size[1:]
    # Another input size is cut from a frame as much larger than it.
    short_side = round(preprocessing.short_side * min(height, width) / min(preprocessing.size))
    model.preprocessing = dataclasses.replace(
        preprocessing, size=(height, width), short_side=max(short_side, min(height, width))
    )
    if not model.config.image:
        sampling = ClipSampling.from_dict(published.sampling)
        model.sampling = dataclasses.replace(sampling, num_frames=model.config.input_size[0])
    if "head/kernel" not in model.conversion_report.fresh and model.config.num_classes:
        model.class_names = published.class_names


def _checked_input_shape(config, shape):
    if len(shape) != len(config.input_shape):
        legal = "(H, W, 3)" if config.image else "(T, H, W, 3)"
        raise UserError(f"input_shape must be {legal} for this model, got {tuple(shape)}")
    return tuple(shape)
