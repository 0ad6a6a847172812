"""The fastest exact kernel for the backend at hand, chosen here and nowhere else.

Every function has one signature and one meaning on all backends. TensorFlow gets kernels of its
own: its grouped Conv3D runs on no CPU without XLA, and the gradients that it derives keep two to
three times the memory of those written out here. Keras' JAX and PyTorch backends compile, or have
fused kernels, and use `keras.ops`.
"""

import keras

from mvit_tf.layers.kernels import generic_kernels

if keras.backend.backend() == "tensorflow":
    from mvit_tf.layers.kernels.tensorflow_attention import attend
    from mvit_tf.layers.kernels.tensorflow_convolutions import conv3d, depthwise_conv3d
    from mvit_tf.layers.kernels.tensorflow_tokens import (
        dense,
        gelu_dense,
        layer_normalization,
        split,
        take_tokens,
    )
else:
    from mvit_tf.layers.kernels.generic_kernels import (
        attend,
        conv3d,
        dense,
        depthwise_conv3d,
        gelu_dense,
        layer_normalization,
        split,
        take_tokens,
    )

attention_weights = generic_kernels.attention_weights
padding_sides = generic_kernels.padding_sides

__all__ = [
    "attend",
    "attention_weights",
    "conv3d",
    "dense",
    "depthwise_conv3d",
    "gelu_dense",
    "layer_normalization",
    "padding_sides",
    "split",
    "take_tokens",
]
