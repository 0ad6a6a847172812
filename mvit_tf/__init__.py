"""Multiscale Vision Transformers (MViT, MViTv2) for video and images in Keras 3.

    import mvit_tf
    model = mvit_tf.create_model("mvit_b_16x4", num_classes=12)

The names below are loaded at their first use, so that the command line can answer, and quiet
TensorFlow, before TensorFlow is imported. Layers are registered as soon as both this package
and Keras are imported, in either order, so that saved models load.
"""

import importlib

import wrapt

__version__ = "0.1.0"

_HOMES = {
    "BlockSpec": "models",
    "UserError": "errors",
    "MViTConfig": "models",
    "build_mvit": "models",
    "complexity": "analysis.complexity",
    "create_model": "factory",
    "get_config": "models",
    "list_models": "models",
    "load_pytorch_weights": "conversion",
    "to_pytorch_state_dict": "conversion",
}
__all__ = [*_HOMES, "layers"]


def __getattr__(name):
    if name == "layers":
        return importlib.import_module("mvit_tf.layers")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"mvit_tf.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted([*globals(), *__all__])


wrapt.register_post_import_hook(lambda _: importlib.import_module("mvit_tf.layers"), "keras")
