"""Tiny models that know their frames and classes, and which formats can be had here."""

import importlib.util

import keras
import pytest

from mvit_tf.models import MViT, get_config
from tests.export.tiny import CLASS_NAMES, PREPROCESSING, SAMPLING

TINY = {"input_shape": (4, 32, 32, 3), "depths": (1, 1), "embed_dim": 16, "num_classes": 3}


def needs(format):
    packages = {"litert": ["ai_edge_litert"], "openvino": ["openvino"]}
    packages["onnx"] = ["onnx", "onnxruntime", "tf2onnx"]
    missing = [name for name in packages[format] if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed")


def tiny(name, **fields):
    """A tiny model that knows its frames and classes, its logits far apart."""
    keras.utils.set_random_seed(3)
    model = MViT(
        get_config(name).replace(**{**TINY, **fields}),
        name=name,
        preprocessing=PREPROCESSING,
        sampling=SAMPLING,
        class_names=CLASS_NAMES,
    )
    head = model.get_layer("head")
    head.kernel.assign(10 * head.kernel)
    return model
