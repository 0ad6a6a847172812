"""From frames to tokens: patch embedding, mask token, class token, position embedding."""

import math

import keras
import numpy as np
from keras import ops

from mvit_tf.geometry import convolved_size
from mvit_tf.layers import kernels
from mvit_tf.layers.initializers import convolution_bias_initializer, kernel_initializer
from mvit_tf.layers.tokens import as_tensor, check_length

POSITION_MODES = ("separate", "joint")


@keras.saving.register_keras_serializable(package="mvit_tf")
class PatchEmbedding(keras.layers.Layer):
    """Overlapping space-time cubes, projected to tokens (MViT, section 3.2, `cube1`).

    A `Conv3D` with bias and symmetric zero padding.

    Args:
        embed_dim: int, channels of a token.
        kernel_size: three ints, (T, H, W) of a cube.
        strides: three ints.
        padding: three ints, zeros on both sides of T, H, W.

    Input shape: (B, T, H, W, 3). Output shape: (B, T'*H'*W', embed_dim), T-major.
    """

    def __init__(self, *, embed_dim, kernel_size, strides, padding, **kwargs):
        super().__init__(**kwargs)
        self.embed_dim = embed_dim
        self.kernel_size = tuple(kernel_size)
        self.strides = tuple(strides)
        self.padding = tuple(padding)

    def build(self, input_shape):
        channels = input_shape[-1]
        self.kernel = self.add_weight(
            shape=(*self.kernel_size, channels, self.embed_dim),
            initializer=kernel_initializer(),
            name="kernel",
        )
        self.bias = self.add_weight(
            shape=(self.embed_dim,),
            initializer=convolution_bias_initializer(self.kernel_size, channels),
            name="bias",
        )

    def call(self, frames):
        patches = kernels.conv3d(frames, as_tensor(self.kernel), self.strides, self.padding)
        tokens = ops.reshape(patches, (-1, self._length(frames.shape), self.embed_dim))
        return ops.add(tokens, as_tensor(self.bias))

    def _length(self, shape):
        sizes = zip(shape[1:4], self.kernel_size, self.strides, self.padding, strict=True)
        return math.prod(convolved_size(*axis) for axis in sizes)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self._length(input_shape), self.embed_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "embed_dim": self.embed_dim,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
        }


@keras.saving.register_keras_serializable(package="mvit_tf")
class MaskToken(keras.layers.Layer):
    """Puts one learned token in the place of those that a mask covers (MaskFeat, section 3.1).

    Args:
        grid: three ints, (T, H, W) of the tokens.

    Input: tokens (B, T*H*W, C), and a mask (B, T, H', W') of zeros and ones, 1 where masked,
    which is stretched to the grid by the nearest value. Output shape: (B, T*H*W, C).

    Raises:
        ValueError: tokens that do not fill the grid, or a mask of other T.
    """

    def __init__(self, *, grid, **kwargs):
        super().__init__(**kwargs)
        self.grid = tuple(grid)

    # Not `mask`, an argument that Keras fills by itself.
    def build(self, tokens_shape, masked_shape):
        check_length(self.name, tokens_shape, self.grid, False)
        if masked_shape[1] != self.grid[0]:
            raise ValueError(
                f"{self.name}: the mask has {masked_shape[1]} times, the tokens {self.grid[0]}"
            )
        self.token = self.add_weight(
            shape=(1, 1, tokens_shape[-1]), initializer=kernel_initializer(), name="token"
        )

    def call(self, tokens, masked):
        masked = ops.cast(stretch_mask(masked, self.grid), tokens.dtype)[..., None]
        return tokens * (1 - masked) + ops.cast(self.token, tokens.dtype) * masked

    def compute_output_shape(self, tokens_shape, masked_shape):
        return tokens_shape

    def get_config(self):
        return {**super().get_config(), "grid": self.grid}


def stretch_mask(mask, grid):
    """A mask (B, T, H', W') on the tokens of a grid (T, H, W), (B, T*H*W): the nearest value.

    Args:
        mask: tensor; T, H' and W' known.
        grid: three ints.
    """
    for axis in (2, 3):
        size, target = mask.shape[axis], grid[axis - 1]
        # That of the nearest value by PyTorch's rule, which rounds down.
        mask = ops.take(mask, np.arange(target) * size // target, axis=axis)
    return ops.reshape(mask, (-1, math.prod(grid)))


@keras.saving.register_keras_serializable(package="mvit_tf")
class ClassToken(keras.layers.Layer):
    """Puts a learned token in front. Input (B, N, C), output (B, 1 + N, C)."""

    def build(self, input_shape):
        self.token = self.add_weight(
            shape=(1, 1, input_shape[-1]), initializer=kernel_initializer(), name="token"
        )

    def call(self, tokens):
        shape = (ops.shape(tokens)[0], 1, tokens.shape[-1])
        first = ops.broadcast_to(ops.cast(self.token, tokens.dtype), shape)
        return ops.concatenate([first, tokens], axis=1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[1] + 1, input_shape[2])

    def get_config(self):
        # Keras refuses to derive the config of a layer that was given a dtype policy object.
        return super().get_config()


@keras.saving.register_keras_serializable(package="mvit_tf")
class PositionEmbedding(keras.layers.Layer):
    """Adds learned absolute positions (MViT, section 3.2 and Table 11).

    `separate`: one vector a position in space plus one a time step, and one for the class
    token. `joint`: one vector a token.

    Args:
        grid: three ints, (T, H, W) of the tokens.
        mode: `"separate"` or `"joint"`.
        class_token: bool, whether the first token is a class token.

    Input and output shape: (B, [1 +] T*H*W, C).

    Raises:
        ValueError: an unknown mode, or tokens that do not fill the grid.
    """

    def __init__(self, *, grid, mode="separate", class_token=True, **kwargs):
        super().__init__(**kwargs)
        if mode not in POSITION_MODES:
            raise ValueError(f"mode must be one of {POSITION_MODES}, got {mode!r}")
        self.grid = tuple(grid)
        self.mode = mode
        self.class_token = class_token

    def build(self, input_shape):
        check_length(self.name, input_shape, self.grid, self.class_token)
        channels = input_shape[-1]
        frames, height, width = self.grid

        def table(name, length):
            return self.add_weight(
                shape=(length, channels), initializer=kernel_initializer(), name=name
            )

        if self.mode == "joint":
            self.positions = table("joint", input_shape[1])
            return
        self.spatial = table("spatial", height * width)
        self.temporal = table("temporal", frames)
        if self.class_token:
            self.class_position = table("class", 1)

    def call(self, tokens):
        return ops.add(tokens, ops.cast(self._table(), tokens.dtype))

    def _table(self):
        """Positions of all tokens, ([1 +] T*H*W, C)."""
        if self.mode == "joint":
            return ops.convert_to_tensor(self.positions)
        grid = ops.expand_dims(self.temporal, 1) + ops.expand_dims(self.spatial, 0)
        grid = ops.reshape(grid, (-1, grid.shape[-1]))
        return ops.concatenate([self.class_position, grid], 0) if self.class_token else grid

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "grid": self.grid,
            "mode": self.mode,
            "class_token": self.class_token,
        }
