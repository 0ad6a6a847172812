"""Which positions of a token grid a pooling looks at."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class PoolingWindows:
    """The positions of a grid that lie in some window of a pooling, as a smaller grid.

    Where the stride is longer than the kernel, tokens between the windows change nothing: at
    stride 8 and kernel 3 the pooling sees 14 % of them. The others need not be projected.

    Attributes:
        grid: three ints, the size of the whole grid.
        axes: three lists, the positions in use on each axis.
        strides: three ints, the strides on the smaller grid.
        padding: three pairs of ints, before and after.
        class_token: bool, whether a class token precedes the grid's tokens.
        size: three ints, the size of the smaller grid.
        cover_grid: whether these are all positions.
        tokens: numbers of the tokens at these positions, T-major, and of the class token.
    """

    grid: tuple[int, int, int]
    axes: tuple[list[int], list[int], list[int]]
    strides: tuple[int, int, int]
    padding: tuple[tuple[int, int], ...]
    class_token: bool

    @classmethod
    def of(cls, grid, kernel_size, strides, class_token):
        axes, steps, padding = zip(*map(_axis, grid, kernel_size, strides), strict=True)
        return cls(tuple(grid), axes, steps, padding, class_token)

    @property
    def size(self):
        return tuple(map(len, self.axes))

    @property
    def cover_grid(self):
        return self.size == self.grid

    @property
    def tokens(self):
        numbers = np.arange(np.prod(self.grid)).reshape(self.grid)
        first = int(self.class_token)
        return np.concatenate([np.arange(first), numbers[np.ix_(*self.axes)].ravel() + first])


def _axis(size, kernel, stride):
    pad = kernel // 2
    if stride <= kernel:
        return list(range(size)), stride, (pad, pad)
    outputs = (size + 2 * pad - kernel) // stride + 1
    wanted = [
        first + tap for first in range(-pad, outputs * stride - pad, stride) for tap in range(kernel)
    ]
    inside = [position for position in wanted if 0 <= position < size]
    before = sum(position < 0 for position in wanted)
    return inside, kernel, (before, len(wanted) - len(inside) - before)
