"""Pictures of histograms of gradients: in each cell the edges that its bins stand for."""

import numpy as np

from mvit_tf.pretraining.geometry import CELL_SIZE, NUM_BINS

# Pixels of the picture for one of a frame, so that a cell has room for its strokes.
SCALE = 3


def draw_histograms(values, predicted):
    """Draws what is, or is to be, predicted of the tokens of a clip.

    Args:
        values: float array (N, D), as of `hog_targets`.
        predicted: PredictionGrid.

    Returns:
        uint8 array (T, 3 H, 3 W, 3): a stroke along the edge of each bin, the mean over colours,
        as bright as the bin is full. What is below 0 counts as 0.
    """
    frames, height, width = predicted.grid
    high, wide = predicted.cells
    cells = np.asarray(values).reshape(frames, height, width, 3, NUM_BINS, high, wide).mean(axis=3)
    cells = np.maximum(cells, 0).transpose(0, 1, 4, 2, 5, 3)
    cells = cells.reshape(frames, height * high, width * wide, NUM_BINS)
    light = np.einsum("thwk,kyx->thywx", cells, _strokes(), optimize=True)
    side = CELL_SIZE * SCALE
    light = light.reshape(frames, height * high * side, width * wide * side)
    pixels = np.clip(255 * light, 0, 255).astype(np.uint8)
    return np.repeat(pixels[..., None], 3, axis=-1)


def _strokes():
    """(9, side, side) in [0, 1]: a line through the middle of a cell for each bin."""
    side = CELL_SIZE * SCALE
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    # The gradient's angle counts from the axis of rows; the edge is across it.
    angles = (np.arange(NUM_BINS) + 0.5) * np.pi / NUM_BINS
    across = np.sin(angles)[:, None, None] * columns + np.cos(angles)[:, None, None] * rows
    near = np.clip(1.5 - np.abs(across), 0, 1)
    return near * (rows**2 + columns**2 < (side / 2 - 1) ** 2)
