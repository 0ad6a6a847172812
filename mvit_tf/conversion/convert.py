"""From a PyTorch file to a Keras weights file."""

import dataclasses
from pathlib import Path

from mvit_tf.conversion.loading import load_pytorch_weights, read_weights
from mvit_tf.conversion.variant import config_of_weights, variant_of_shapes
from mvit_tf.errors import UserError
from mvit_tf.models import build_mvit, get_config
from mvit_tf.weights_file import save_weights_file


def convert_file(source, destination, *, model=None, num_classes=None, prefix=None):
    """Writes the weights of a PyTorch file as a Keras weights file.

    The model has the input size that the file's position tables are for, so that nothing is
    interpolated.

    Args:
        source: path, see `load_pytorch_weights`.
        destination: path of the file to write, ending in `.weights.h5`; whole or not there.
        model: name of the model, or None to tell it from the weights.
        num_classes: None for the file's; another number leaves the head fresh, and so does any
            where the file has none.
        prefix: see `load_pytorch_weights`.

    Returns:
        (ConversionReport, the `create_model` call, as text, that builds the model and loads it).

    Raises:
        UserError: the file cannot be read, is of no named model, or does not fit `model`.
    """
    weights = read_weights(source, prefix)
    variant = variant_of_shapes({path: tensor.shape for path, tensor in weights.tensors.items()})
    if variant.num_classes is None and num_classes is None:
        raise UserError(
            f"{source} has no head; say how many classes a new one is to have (--num-classes)"
        )
    try:
        name, config = config_of_weights(model, variant)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    if config.class_token and config.residual_pooling not in weights.layout.RESIDUAL_POOLING:
        residual_pooling = next(mode for mode in weights.layout.RESIDUAL_POOLING if mode != "none")
        config = config.replace(residual_pooling=residual_pooling)
    if num_classes is not None:
        config = config.replace(num_classes=num_classes)
    keras_model = build_mvit(config, name=name)
    head = "fresh" if variant.num_classes is None else "auto"
    report = load_pytorch_weights(keras_model, source, head=head, prefix=prefix)
    _save_weights(keras_model, Path(destination))
    return report, _call(name, config, destination)


def _save_weights(model, destination):
    try:
        save_weights_file(model, destination)
    except OSError as error:
        raise UserError(f"{destination} cannot be written: {error}") from error


def _call(name, config, destination):
    named = get_config(name)
    changed = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != getattr(named, field.name)
    }
    fields = "".join(f"{field}={value!r}, " for field, value in changed.items())
    return f'create_model("{name}", {fields}weights="{destination}")'
