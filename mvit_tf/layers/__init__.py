"""MViT's building blocks: Keras layers, registered under the package `mvit_tf`."""

# Before the layers: once Keras is imported, the model is (see `mvit_tf`), which imports them.
import keras  # noqa: F401

from mvit_tf.layers.attention import MultiHeadPoolingAttention
from mvit_tf.layers.dense import Dense, QKVDense
from mvit_tf.layers.depthwise_conv3d import DepthwiseConv3D
from mvit_tf.layers.embeddings import ClassToken, MaskToken, PatchEmbedding, PositionEmbedding
from mvit_tf.layers.kernels import enable_compiled_kernels
from mvit_tf.layers.mlp import MLP
from mvit_tf.layers.multiscale_block import MultiscaleBlock
from mvit_tf.layers.normalization import LayerNormalization
from mvit_tf.layers.readout import GridTokens, Readout
from mvit_tf.layers.relative_position import RelativePositions
from mvit_tf.layers.stochastic_depth import StochasticDepth
from mvit_tf.layers.token_pooling import TokenPooling
from mvit_tf.layers.video_converter import VideoConverter

__all__ = [
    "MLP",
    "ClassToken",
    "Dense",
    "DepthwiseConv3D",
    "GridTokens",
    "LayerNormalization",
    "MaskToken",
    "MultiHeadPoolingAttention",
    "MultiscaleBlock",
    "PatchEmbedding",
    "PositionEmbedding",
    "QKVDense",
    "Readout",
    "RelativePositions",
    "StochasticDepth",
    "TokenPooling",
    "VideoConverter",
    "enable_compiled_kernels",
]
