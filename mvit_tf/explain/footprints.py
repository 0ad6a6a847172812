"""Relevance of pooled tokens, spread back over the tokens or pixels that each of them saw.

A pooling is taken as the row-stochastic matrix P (outputs, inputs) of the share that each input
in a window has in the output. Relevance, a row vector over the outputs, goes back as r P. The
matrix is never made: a window has few taps, and each is one addition of shifted slices.
"""

import numpy as np
from keras import ops


def token_footprint(pooling):
    """The taps of a `TokenPooling`, (kt, kh, kw), float64, with sum 1.

    Those of a convolution by the mean magnitude of their weights; of a maximum and a mean all
    alike, as which tap has the maximum differs from channel to channel.
    """
    if pooling.mode == "conv" and not pooling.is_identity:
        taps = np.abs(ops.convert_to_numpy(pooling.conv.kernel)).mean(axis=(-2, -1), dtype=float)
        if taps.any():
            # Above 0 all of them, as at an edge a window may have others outside of the grid only.
            taps += 1e-9 * taps.max()
            return taps / taps.sum()
    return np.full(pooling.kernel_size, 1 / np.prod(pooling.kernel_size))


def triangle_footprint(size):
    """Taps (kt, kh, kw) that fall linearly from the middle of a window to beyond its edges."""
    axes = [1 - np.abs(np.arange(side) - (side - 1) / 2) / ((side + 1) / 2) for side in size]
    return axes[0][:, None, None] * axes[1][:, None] * axes[2]


def spread_tokens(relevance, pooling, weights=None):
    """Relevance of a `TokenPooling`'s outputs as relevance of its inputs.

    Args:
        relevance: float (N',), with the class token first where there is one.
        pooling: TokenPooling.
        weights: float (N,), at least 0, or None. The inputs of a window share in its relevance
            in proportion to these too.

    Returns:
        float (N,) of the same sum; the class token keeps its own.
    """
    if pooling.is_identity:
        return relevance
    first = int(pooling.class_token)
    grid = relevance[first:].reshape(pooling.output_grid)
    padding = [size // 2 for size in pooling.kernel_size]
    if weights is not None:
        weights = weights[first:].reshape(pooling.grid)
    taps = token_footprint(pooling)
    spread = spread_grid(grid, pooling.grid, taps, pooling.strides, padding, weights)
    return np.concatenate([relevance[:first], spread.ravel()])


def spread_grid(relevance, grid, taps, strides, padding, weights=None):
    """Relevance of a window's output as relevance of the positions in the window: r P.

    Args:
        relevance: float (T', H', W'), of the outputs.
        grid: three ints, (T, H, W) of the inputs.
        taps: float (kt, kh, kw), the share of each position in a window. Of a window at the edge,
            the positions inside share what those outside would have.
        strides: three ints.
        padding: three ints, on both sides.
        weights: float (T, H, W), at least 0, or None: a factor of each input's share.

    Returns:
        float (T, H, W), of the same sum.
    """
    # Where all inputs of a window weigh nothing they share alike.
    weights = np.ones(grid) if weights is None else weights + 1e-9 * weights.max() + 1e-300
    totals = np.zeros(relevance.shape)
    for tap, inputs, outputs in _taps(relevance.shape, grid, taps, strides, padding):
        totals[outputs] += tap * weights[inputs]
    relevance = relevance / totals
    spread = np.zeros(grid)
    for tap, inputs, outputs in _taps(relevance.shape, grid, taps, strides, padding):
        spread[inputs] += tap * weights[inputs] * relevance[outputs]
    return spread


def _taps(output_grid, grid, taps, strides, padding):
    """Each tap with the slices of the inputs and of the outputs that it joins."""
    for position in np.ndindex(taps.shape):
        inputs, outputs = [], []
        for offset, pad, stride, size, count in zip(
            position, padding, strides, grid, output_grid, strict=True
        ):
            # Input o * stride + offset - pad of output o, where that lies in the grid.
            shift = offset - pad
            first = max(0, -(shift // stride))
            last = min(count - 1, (size - 1 - shift) // stride)
            if last < first:
                break
            inputs.append(slice(first * stride + shift, last * stride + shift + 1, stride))
            outputs.append(slice(first, last + 1))
        else:
            yield taps[position], tuple(inputs), tuple(outputs)
