"""Copies of a model that compute, or keep their weights, in another dtype."""

import warnings

import keras

from mvit_tf.errors import UserError
from mvit_tf.models import MViT

_QUANTISED = ("int8", "int4")


def in_dtype(model: keras.Model, dtype: str) -> keras.Model:
    """A model in another dtype, the given one being as it was.

    Args:
        model: an `MViT`.
        dtype: "float32"; "float16" or "bfloat16", in which weights are kept and computed with; or
            "int8" or "int4", in which Keras keeps the matrices of dense layers.

    Returns:
        The model itself where it has that dtype already.

    Raises:
        UserError: it is no `MViT`, or quantised already.
    """
    quantised = {getattr(layer, "quantization_mode", None) for layer in _leaves(model)} - {None}
    if quantised:
        raise UserError(
            f"{model.name} is quantised already ({', '.join(sorted(quantised))}): export the model "
            "that it was made from"
        )
    policies = {layer.dtype_policy.name for layer in model.layers}
    if dtype == "float32" and policies == {"float32"}:
        return model
    if not isinstance(model, MViT):
        raise UserError(f"{model.name} is no MViT, of which alone copies in {dtype} can be made")
    floating = "float32" if dtype in _QUANTISED else dtype
    copy = MViT.from_config({**model.get_config(), "dtype": floating, "remat": False})
    copy.set_weights(_plain_weights(model))
    if dtype in _QUANTISED:
        with warnings.catch_warnings():
            # Of layers that Keras cannot quantise and leaves as they are.
            warnings.filterwarnings("ignore", message="Layer .* does not have a `quantize` method")
            copy.quantize(dtype)
    return copy


def _leaves(model):
    return (layer for layer in model._flatten_layers() if not isinstance(layer, keras.Model))


def _plain_weights(model):
    """The weights as a copy without LoRA has them."""
    if not any(getattr(layer, "lora_enabled", False) for layer in _leaves(model)):
        return model.get_weights()
    raise UserError(
        f"{model.name} has LoRA: save it to .keras or .weights.h5, which adds the factors up, and "
        "export that"
    )
