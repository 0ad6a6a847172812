"""Sizes of token grids and what pooling makes of them: plain arithmetic, no Keras."""

import math

POOL_MODES = ("conv", "max", "avg")
RESIDUAL_POOLING_MODES = ("none", "patches", "all")
CHANNELS = 3


def convolved_size(size, kernel, stride, padding):
    """Length of an axis after a convolution or pooling with `padding` on both sides."""
    return (size + 2 * padding - kernel) // stride + 1


def pooled_grid(grid, kernel_size, strides):
    """The (T, H, W) grid after pooling with symmetric padding `kernel // 2`."""
    return tuple(
        convolved_size(size, kernel, stride, kernel // 2)
        for size, kernel, stride in zip(grid, kernel_size, strides, strict=True)
    )


def skip_kernel(strides):
    """Kernel of the skip path's max pooling: stride + 1 where it strides, else 1."""
    return tuple(stride + 1 if stride > 1 else 1 for stride in strides)


def sequence_length(grid, class_token):
    """Number of tokens of a (T, H, W) grid, the class token included."""
    return math.prod(grid) + int(class_token)
