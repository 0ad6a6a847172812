"""Positions and kernels of another input size: interpolation, and images made into video."""

import math

import numpy as np

from mvit_tf.errors import UserError
from mvit_tf.layers.relative_position import linear_interpolation

INFLATIONS = ("center", "mean")
# Keys' cubic convolution with PyTorch's coefficient; Keras' and TensorFlow's is -0.5.
_CUBIC = -0.75


def bicubic_interpolation(source, target):
    """The matrix (target, source) that resizes an axis by cubic convolution, float32.

    Half-pixel centres, edges repeated, no antialiasing (PyTorch's `interpolate` in mode
    "bicubic" with `align_corners=False`).
    """
    positions = (np.arange(target) + 0.5) * source / target - 0.5
    low = np.floor(positions).astype(int)
    matrix = np.zeros((target, source), np.float64)
    for tap in range(-1, 3):
        columns = np.clip(low + tap, 0, source - 1)
        np.add.at(matrix, (np.arange(target), columns), _cubic(positions - low - tap))
    return matrix.astype(np.float32)


def _cubic(distance):
    x = np.abs(distance)
    near = (_CUBIC + 2) * x**3 - (_CUBIC + 3) * x**2 + 1
    far = _CUBIC * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def resize_rows(table, length):
    """A table (rows, C) with `length` rows, linear: times and relative positions."""
    return linear_interpolation(table.shape[0], length) @ table


def resize_space(table, grid, target):
    """A table (H*W, C) of a (H, W) grid for a target grid (H', W'), bicubic."""
    height = bicubic_interpolation(grid[0], target[0])
    width = bicubic_interpolation(grid[1], target[1])
    positions = table.reshape(*grid, -1)
    resized = np.einsum("yh,xw,hwc->yxc", height, width, positions, optimize=True)
    return resized.reshape(target[0] * target[1], -1).astype(np.float32)


def resize_joint(table, grid, target, class_token):
    """A table ([1 +] T*H*W, C) for another (T, H, W): bicubic in space, linear in time."""
    first, positions = table[: int(class_token)], table[int(class_token) :]
    frames = positions.reshape(grid[0], grid[1] * grid[2], -1)
    if grid[1:] != target[1:]:
        frames = np.stack([resize_space(frame, grid[1:], target[1:]) for frame in frames])
    if grid[0] != target[0]:
        frames = resize_rows(frames.reshape(grid[0], -1), target[0])
    return np.concatenate([first, frames.reshape(math.prod(target), -1)])


def source_grid_of(path, positions, target, given):
    """The (T, H, W) grid of a stored position table.

    Args:
        path: path of the table, for the message.
        positions: number of positions it holds (of space alone for `positions/spatial`).
        target: (T, H, W) grid of the model; its T where the table is of space and time.
        given: the caller's (T, H, W), or None to take square frames of the model's T or of one.

    Raises:
        UserError: the grid given does not have that many positions, or none is square.
    """
    joint = path == "positions/joint"
    if given is not None:
        given = tuple(given)
        if math.prod(given if joint else given[1:]) != positions:
            raise UserError(
                f"source_grid={given} does not fit {path}, which holds {positions} positions"
            )
        return given
    for frames in (target[0], 1) if joint else (1,):
        side = math.isqrt(positions // frames)
        if frames * side * side == positions:
            return (frames, side, side)
    raise UserError(
        f"{path} holds {positions} positions, which are no square; give source_grid=(T, H, W) in "
        "tokens"
    )


def inflate_kernel(kernel, frames, mode):
    """A kernel (1, H, W, I, O) stretched over `frames`: (frames, H, W, I, O).

    `center` puts it on the middle frame and zeros on the others (MViTv2, section 4.3); `mean`
    spreads it evenly, so that a still video gives the same response.
    """
    if mode == "mean":
        return np.repeat(kernel / frames, frames, axis=0)
    inflated = np.zeros((frames, *kernel.shape[1:]), kernel.dtype)
    inflated[frames // 2] = kernel[0]
    return inflated
