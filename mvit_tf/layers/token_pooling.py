"""Pooling of tokens over their space-time grid: the P(.) of pooling attention."""

import keras
from keras import ops

from mvit_tf.layers.depthwise_conv3d import DepthwiseConv3D
from mvit_tf.layers.initializers import bias_initializer, kernel_initializer
from mvit_tf.layers.tokens import (
    check_length,
    grid_length,
    join_class_token,
    split_class_token,
)

POOL_MODES = ("conv", "max", "avg")
NORM_EPSILON = 1e-6


def pooled_grid(grid, kernel_size, strides):
    """The (T, H, W) grid after pooling with symmetric padding `kernel // 2`."""
    return tuple(
        (size + 2 * (kernel // 2) - kernel) // stride + 1
        for size, kernel, stride in zip(grid, kernel_size, strides, strict=True)
    )


@keras.saving.register_keras_serializable(package="mvit_tf")
class TokenPooling(keras.layers.Layer):
    """Pools tokens over (T, H, W); the class token passes by the pooling, not the norm.

    MViT, section 3.1 and appendix B: `conv` pooling is a depthwise convolution whose kernel
    of `head_dim` channels is shared by all heads, followed by a LayerNorm over `head_dim`
    on all tokens, the class token too. `max` and `avg` have neither weights nor norm.
    Padding is `kernel // 2` on both sides: zeros for `conv` and `avg` (counted in the
    average), minus infinity for `max`. With kernel and stride all 1 the layer is the
    identity, without norm; a kernel above 1 at stride 1 does pool.

    Args:
        grid: three ints, (T, H, W) of the input tokens.
        kernel_size: three ints.
        strides: three ints.
        mode: `"conv"`, `"max"` or `"avg"`.
        num_heads: int, heads that share the kernel and the norm.
        class_token: bool, whether the first token is a class token.

    Input shape: (B, [1 +] T*H*W, C). Output shape: (B, [1 +] T'*H'*W', C), `output_grid`
    holding (T', H', W').

    Raises:
        ValueError: an unknown mode, or tokens that do not fill the grid.
    """

    def __init__(
        self,
        *,
        grid,
        kernel_size,
        strides,
        mode="conv",
        num_heads=1,
        class_token=True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if mode not in POOL_MODES:
            raise ValueError(f"mode must be one of {POOL_MODES}, got {mode!r}")
        self.grid = tuple(grid)
        self.kernel_size = tuple(kernel_size)
        self.strides = tuple(strides)
        self.mode = mode
        self.num_heads = num_heads
        self.class_token = class_token
        self.is_identity = set(self.kernel_size) == set(self.strides) == {1}
        self.output_grid = pooled_grid(self.grid, self.kernel_size, self.strides)
        self.padding = tuple(size // 2 for size in self.kernel_size)
        if mode == "conv" and not self.is_identity:
            self.conv = DepthwiseConv3D(
                kernel_size=self.kernel_size,
                strides=self.strides,
                padding=self.padding,
                num_heads=num_heads,
                kernel_initializer=kernel_initializer(),
                dtype=self.dtype_policy,
                name="conv",
            )
            self.norm = keras.layers.LayerNormalization(
                epsilon=NORM_EPSILON,
                beta_initializer=bias_initializer(),
                dtype=self.dtype_policy,
                name="norm",
            )

    def build(self, input_shape):
        check_length(self.name, input_shape, self.grid, self.class_token)
        if self.mode == "conv" and not self.is_identity:
            channels = input_shape[-1]
            self.conv.build((input_shape[0], *self.grid, channels))
            self.norm.build((input_shape[0], None, self.num_heads, channels // self.num_heads))

    def call(self, tokens):
        if self.is_identity:
            return tokens
        channels = tokens.shape[-1]
        first, rest = split_class_token(tokens, self.class_token)
        pooled = self._pool(ops.reshape(rest, (-1, *self.grid, channels)))
        rest = ops.reshape(pooled, (-1, grid_length(self.output_grid, False), channels))
        tokens = join_class_token(first, rest)
        if self.mode != "conv":
            return tokens
        heads = (-1, tokens.shape[1], self.num_heads, channels // self.num_heads)
        return ops.reshape(self.norm(ops.reshape(tokens, heads)), (-1, *tokens.shape[1:]))

    def _pool(self, x):
        if self.mode == "conv":
            return self.conv(x)
        fill = -float("inf") if self.mode == "max" else 0.0
        if any(self.padding):
            sides = [(0, 0), *((pad, pad) for pad in self.padding), (0, 0)]
            x = ops.pad(x, sides, constant_values=fill)
        if self.mode == "max":
            return _max_pool(x, self.kernel_size, self.strides)
        return ops.average_pool(x, self.kernel_size, self.strides, padding="valid")

    def compute_output_shape(self, input_shape):
        return (
            input_shape[0],
            grid_length(self.output_grid, self.class_token),
            input_shape[-1],
        )

    def get_config(self):
        return {
            **super().get_config(),
            "grid": self.grid,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "mode": self.mode,
            "num_heads": self.num_heads,
            "class_token": self.class_token,
        }


def _max_pool(x, kernel_size, strides):
    """Max pooling over space, then over time, of (B, T, H, W, C), without padding.

    On CPU, the gradient of TensorFlow's 3-D max pooling gives every value within 1e-5 of a
    window's largest the whole gradient; that of its 2-D pooling gives it to one.
    """
    frames, height, width, channels = x.shape[1:]
    x = ops.reshape(x, (-1, height, width, channels))
    x = ops.max_pool(x, kernel_size[1:], strides[1:], padding="valid")
    height, width = x.shape[1:3]
    x = ops.reshape(x, (-1, frames, height * width, channels))
    if kernel_size[0] > 1 or strides[0] > 1:
        x = ops.max_pool(x, (kernel_size[0], 1), (strides[0], 1), padding="valid")
    return ops.reshape(x, (-1, x.shape[1], height, width, channels))
