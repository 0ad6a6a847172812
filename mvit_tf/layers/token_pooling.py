"""Pooling of token sequences over time and space, the P(.) of pooling attention."""

import keras
from keras import ops

from mvit_tf.geometry import POOL_MODES, pooled_grid, sequence_length
from mvit_tf.layers import kernels
from mvit_tf.layers.depthwise_conv3d import DepthwiseConv3D
from mvit_tf.layers.initializers import kernel_initializer
from mvit_tf.layers.normalization import LayerNormalization
from mvit_tf.layers.pooling_windows import PoolingWindows
from mvit_tf.layers.tokens import check_length, join_class_token, split_class_token


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
        self.windows = PoolingWindows.of(
            self.grid, self.kernel_size, self.strides, class_token
        )
        if mode == "conv" and not self.is_identity:
            self.conv = DepthwiseConv3D(
                kernel_size=self.kernel_size,
                strides=self.windows.strides,
                padding=self.windows.padding,
                num_heads=num_heads,
                kernel_initializer=kernel_initializer(),
                dtype=self.dtype_policy,
                name="conv",
            )
            self.norm = LayerNormalization(dtype=self.dtype_policy, name="norm")

    def build(self, input_shape):
        check_length(self.name, input_shape, self.grid, self.class_token)
        if self.mode == "conv" and not self.is_identity:
            channels = input_shape[-1]
            self.conv.build((input_shape[0], *self.windows.size, channels))
            self.norm.build((input_shape[0], None, self.num_heads, channels // self.num_heads))

    def call(self, tokens, in_windows=False):
        """Pools.

        Args:
            tokens: (B, [1 +] T*H*W, C).
            in_windows: bool. The tokens are those of `windows` alone.
        """
        if self.is_identity:
            return tokens
        if not (in_windows or self.windows.cover_grid):
            tokens = kernels.take_tokens(tokens, self.windows.tokens)
        class_token, rest = split_class_token(tokens, self.class_token)
        grid = ops.reshape(rest, (-1, *self.windows.size, rest.shape[-1]))
        length = sequence_length(self.output_grid, False)
        rest = ops.reshape(self._pool(grid), (-1, length, rest.shape[-1]))
        tokens = join_class_token(class_token, rest)
        return self._norm_heads(tokens) if self.mode == "conv" else tokens

    def _pool(self, grid):
        if self.mode == "conv":
            return self.conv(grid)
        padding = self.windows.padding
        if any(map(any, padding)):
            fill = -float("inf") if self.mode == "max" else 0.0
            grid = ops.pad(grid, [(0, 0), *padding, (0, 0)], constant_values=fill)
        pool = _max_pool if self.mode == "max" else _average_pool
        return pool(grid, self.kernel_size, self.windows.strides)

    def _norm_heads(self, tokens):
        length, channels = tokens.shape[1:]
        heads = ops.reshape(tokens, (-1, length, self.num_heads, channels // self.num_heads))
        return ops.reshape(self.norm(heads), (-1, length, channels))

    def compute_output_shape(self, input_shape):
        length = sequence_length(self.output_grid, self.class_token)
        return (input_shape[0], length, input_shape[-1])

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


def _average_pool(x, kernel_size, strides):
    return ops.average_pool(x, kernel_size, strides, "valid", data_format="channels_last")


def _max_pool(x, kernel_size, strides):
    """Max pooling over space, then over time, of (B, T, H, W, C), without padding.

    On CPU, the gradient of TensorFlow's 3-D max pooling gives every value within 1e-5 of a
    window's largest the whole gradient; that of its 2-D pooling gives it to one.
    """
    frames, height, width, channels = x.shape[1:]
    x = ops.reshape(x, (-1, height, width, channels))
    x = ops.max_pool(x, kernel_size[1:], strides[1:], "valid", data_format="channels_last")
    height, width = x.shape[1:3]
    x = ops.reshape(x, (-1, frames, height * width, channels))
    if kernel_size[0] > 1 or strides[0] > 1:
        x = ops.max_pool(
            x, (kernel_size[0], 1), (strides[0], 1), "valid", data_format="channels_last"
        )
    return ops.reshape(x, (-1, x.shape[1], height, width, channels))
