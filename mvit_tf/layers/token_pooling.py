"""Pooling of tokens over their space-time grid: the P(.) of pooling attention."""

import dataclasses

import keras
import numpy as np
from keras import ops

from mvit_tf.layers import kernels
from mvit_tf.layers.depthwise_conv3d import DepthwiseConv3D
from mvit_tf.layers.initializers import bias_initializer, kernel_initializer
from mvit_tf.layers.tokens import (
    as_tensor,
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
        self.samples = SampledGrid.of(self.grid, self.kernel_size, self.strides)
        if mode == "conv" and not self.is_identity:
            self.conv = DepthwiseConv3D(
                kernel_size=self.kernel_size,
                strides=self.strides,
                padding=tuple(size // 2 for size in self.kernel_size),
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
        return pool_together([self], self.take_samples(tokens))

    def take_samples(self, tokens):
        """The tokens that the pooling looks at: all, or the class token and `samples`."""
        if self.samples.complete:
            return tokens
        places = self.samples.places
        if self.class_token:
            places = np.concatenate([[0], 1 + places])
        return kernels.take_tokens(tokens, places)

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


@dataclasses.dataclass(frozen=True)
class SampledGrid:
    """The places of a grid that lie in some window of a pooling, as a smaller grid.

    Where the stride is longer than the kernel, tokens between the windows change nothing: at
    stride 8 and kernel 3 the pooling sees 14 % of them. The others need not be projected.

    Attributes:
        grid: three ints, the size of the whole grid.
        axes: three lists, the places in use on each axis.
        strides: three ints, the strides on the smaller grid.
        padding: three pairs of ints, before and after.
        size: three ints, the size of the smaller grid.
        complete: whether these are all places.
        places: numbers of the places in the whole grid, T-major.
    """

    grid: tuple[int, int, int]
    axes: tuple[list[int], list[int], list[int]]
    strides: tuple[int, int, int]
    padding: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, grid, kernel_size, strides):
        axes, steps, padding = zip(*map(_sample_axis, grid, kernel_size, strides), strict=True)
        return cls(grid=tuple(grid), axes=axes, strides=steps, padding=padding)

    @property
    def size(self):
        return tuple(map(len, self.axes))

    @property
    def complete(self):
        return self.size == self.grid

    @property
    def places(self):
        numbers = np.arange(np.prod(self.grid)).reshape(self.grid)
        return numbers[np.ix_(*self.axes)].ravel()


def _sample_axis(size, kernel, stride):
    pad = kernel // 2
    if stride <= kernel:
        return list(range(size)), stride, (pad, pad)
    outputs = (size + 2 * pad - kernel) // stride + 1
    wanted = [first + tap for first in range(-pad, outputs * stride - pad, stride)
              for tap in range(kernel)]  # fmt: skip
    inside = [place for place in wanted if 0 <= place < size]
    before = sum(place < 0 for place in wanted)
    return inside, kernel, (before, len(wanted) - len(inside) - before)


def pool_together(pools, tokens):
    """Pools the channels of tokens, a share for each of several layers alike, in one go.

    Args:
        pools: TokenPooling layers that differ in nothing but their weights.
        tokens: (B, [1 +] N, len(pools) * C), the tokens that `take_samples` leaves.

    Returns:
        (B, [1 +] T'*H'*W', len(pools) * C).
    """
    one = pools[0]
    channels = tokens.shape[-1]
    first, rest = split_class_token(tokens, one.class_token)
    x = ops.reshape(rest, (-1, *one.samples.size, channels))
    strides, padding = one.samples.strides, one.samples.padding
    if one.mode == "conv":
        kernel = ops.concatenate([pool.conv.tiled_kernel() for pool in pools], axis=-1)
        x = kernels.depthwise_conv3d(x, kernel, strides, padding)
    else:
        fill = -float("inf") if one.mode == "max" else 0.0
        if any(map(any, padding)):
            x = ops.pad(x, [(0, 0), *padding, (0, 0)], constant_values=fill)
        pool = _max_pool if one.mode == "max" else _average_pool
        x = pool(x, one.kernel_size, strides)
    rest = ops.reshape(x, (-1, grid_length(one.output_grid, False), channels))
    tokens = join_class_token(first, rest)
    if one.mode != "conv":
        return tokens
    # One gain and one offset for all heads of a layer.
    shape = (len(pools), one.num_heads, channels // (len(pools) * one.num_heads))
    normed = ops.reshape(tokens, (-1, tokens.shape[1], *shape))
    normed = kernels.normalize(normed, NORM_EPSILON)
    gain, offset = (
        ops.reshape(ops.concatenate(rows), (shape[0], 1, shape[2]))
        for rows in (
            [as_tensor(pool.norm.gamma, tokens.dtype) for pool in pools],
            [as_tensor(pool.norm.beta, tokens.dtype) for pool in pools],
        )
    )
    return ops.reshape(normed * gain + offset, (-1, *tokens.shape[1:]))


def _average_pool(x, kernel_size, strides):
    return ops.average_pool(x, kernel_size, strides, padding="valid")


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
