"""Relevance goes back to the tokens that a pooled token saw, and to no others."""

import keras
import numpy as np
import pytest

from mvit_tf.explain.footprints import spread_grid, spread_tokens, triangle_footprint
from mvit_tf.layers import TokenPooling

# (grid, kernel, strides): overlapping, strided apart as MViT's keys are, odd, one frame.
POOLINGS = [
    ((2, 5, 4), (3, 3, 3), (1, 2, 2)),
    ((4, 9, 9), (3, 3, 3), (1, 8, 8)),
    ((3, 7, 6), (1, 3, 3), (1, 2, 2)),
    ((1, 6, 6), (3, 3, 3), (1, 1, 1)),
    ((4, 4, 4), (2, 5, 5), (2, 4, 4)),
]


def windows(grid, kernel, strides):
    """bool (T'*H'*W', T*H*W), which inputs lie in the window of each output, by going over all."""
    output_grid = [
        (size + 2 * (side // 2) - side) // stride + 1
        for size, side, stride in zip(grid, kernel, strides, strict=True)
    ]
    inside = np.zeros((np.prod(output_grid), np.prod(grid)), bool)
    for row, output in enumerate(np.ndindex(*output_grid)):
        for column, place in enumerate(np.ndindex(*grid)):
            offsets = [
                at - (to * stride - side // 2)
                for at, to, stride, side in zip(place, output, strides, kernel, strict=True)
            ]
            inside[row, column] = all(
                0 <= offset < side for offset, side in zip(offsets, kernel, strict=True)
            )
    return inside


@pytest.mark.parametrize("mode", ["conv", "max", "avg"])
@pytest.mark.parametrize(("grid", "kernel", "strides"), POOLINGS)
def test_a_pooled_token_gives_its_relevance_to_its_window(mode, grid, kernel, strides):
    pooling = TokenPooling(grid=grid, kernel_size=kernel, strides=strides, mode=mode)
    pooling.build((None, 1 + np.prod(grid), 4))
    inside = windows(grid, kernel, strides)
    matrix = np.stack([spread_tokens(row, pooling) for row in np.eye(1 + len(inside))])
    assert matrix.sum(axis=1) == pytest.approx(1.0)
    assert matrix[0, 0] == 1 and (matrix[1:, 0] == 0).all()
    np.testing.assert_array_equal(matrix[1:, 1:] > 0, inside)
    if mode != "conv":
        np.testing.assert_allclose(matrix[1:, 1:], inside / inside.sum(axis=1, keepdims=True))


def test_the_window_is_what_the_layer_sees():
    """Of a token that changes, the layer's outputs change that have it in their window."""
    grid, kernel, strides = (4, 9, 9), (3, 3, 3), (1, 4, 4)
    pooling = TokenPooling(
        grid=grid, kernel_size=kernel, strides=strides, mode="avg", class_token=False
    )
    tokens = np.broadcast_to(np.eye(np.prod(grid), dtype=np.float32)[None], (1, 324, 324))
    weights = keras.ops.convert_to_numpy(pooling(tokens))[0]
    spread = np.stack([spread_tokens(row, pooling) for row in np.eye(len(weights))])
    np.testing.assert_array_equal(weights > 0, spread > 0)


def test_weights_share_out_a_window():
    grid, taps = (1, 1, 4), np.ones((1, 1, 2))
    spread = spread_grid(
        np.array([[[1.0, 2.0]]]), grid, taps, (1, 1, 2), (0, 0, 0), np.array([[[1, 3, 0, 0]]])
    )
    # The second window's weigh nothing, so they share alike.
    np.testing.assert_allclose(spread, [[[0.25, 0.75, 1, 1]]], atol=1e-6)


def test_cubes_of_mvit_interpolate_linearly():
    """Kernel 7, stride 4, padding 3: between the middles of two cubes heat changes evenly."""
    window = ((1, 1, 16), triangle_footprint((1, 1, 7)), (1, 1, 4), (0, 0, 3))
    heat = spread_grid(np.array([[[0, 0, 1.0, 0]]]), *window)
    heat /= spread_grid(np.ones((1, 1, 4)), *window)
    np.testing.assert_allclose(heat[0, 0, 4:13], [0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25, 0])
