"""Multiscale Vision Transformers (MViT, MViTv2) for video and images in Keras 3.

    import mvit_tf
    model = mvit_tf.create_model("mvit_b_16x4", num_classes=12)

The names are those of `__init__.pyi`, each loaded at its first use: configs and costs answer
without Keras, and the command line can quiet TensorFlow before it is imported.
"""

import importlib

import lazy_loader
import wrapt

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# `keras.models.load_model` finds registered classes only: these are as soon as both packages are
# imported, in either order. Without a hook, importing this package would have to import Keras.
wrapt.register_post_import_hook(lambda _: importlib.import_module("mvit_tf.models.mvit"), "keras")
