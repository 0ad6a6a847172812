"""MViT's building blocks: Keras layers, registered under the package `mvit_tf`."""

from mvit_tf.layers.attention import MultiHeadPoolingAttention
from mvit_tf.layers.depthwise_conv3d import DepthwiseConv3D
from mvit_tf.layers.embeddings import ClassToken, PatchEmbedding, PositionEmbedding
from mvit_tf.layers.mlp import MLP
from mvit_tf.layers.multiscale_block import MultiscaleBlock
from mvit_tf.layers.readout import Readout
from mvit_tf.layers.relative_position import RelativePositions
from mvit_tf.layers.stochastic_depth import StochasticDepth
from mvit_tf.layers.token_pooling import TokenPooling

__all__ = [
    "MLP",
    "ClassToken",
    "DepthwiseConv3D",
    "MultiHeadPoolingAttention",
    "MultiscaleBlock",
    "PatchEmbedding",
    "PositionEmbedding",
    "Readout",
    "RelativePositions",
    "StochasticDepth",
    "TokenPooling",
]
