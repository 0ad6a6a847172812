"""Histograms of oriented gradients (Dalal and Triggs, 2005), as MaskFeat predicts them.

Those of SlowFast's `HOGLayerC` (MaskFeat, section 3.2). The textbook's, which scikit-image
computes, differ: there the gradient is of neighbours in one row or column instead of Sobel's
filter, zero at the border, of the colour where it is strongest; its angle counts from the other
axis, in the other sense; and cells are normalised by blocks of several, with an epsilon.
"""

import math

import numpy as np
import tensorflow as tf

from mvit_tf.pretraining.geometry import CELL_SIZE, NUM_BINS

_LEAST_NORM = 1e-12


def hog(images):
    """The histogram of each cell and colour, of length 1.

    Of each colour by itself: Sobel's gradient, borders reflected; its direction without a sign,
    in one of `NUM_BINS` bins, weighs as its length; the sum over a cell of `CELL_SIZE` x
    `CELL_SIZE` pixels is divided by its norm.

    Args:
        images: float32 tensor (N, H, W, C); H and W known, multiples of `CELL_SIZE`.

    Returns:
        float32 tensor (N, H / 8, W / 8, C, 9). Zeros where there is no gradient.

    Raises:
        ValueError: H or W is no multiple.
    """
    height, width, channels = images.shape[1:]
    if height % CELL_SIZE or width % CELL_SIZE:
        raise ValueError(
            f"images must have sides that are multiples of {CELL_SIZE}, got {height} x {width}"
        )
    padded = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT")
    # Sums before differences, so that equal neighbours cancel exactly: where a gradient is zero,
    # rounding would choose its bin.
    rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    columns = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    gradient_x = rows[:, :, :-2] - rows[:, :, 2:]
    gradient_y = columns[:, :-2] - columns[:, 2:]
    length = tf.sqrt(gradient_x**2 + gradient_y**2)
    angle = tf.atan2(gradient_x, gradient_y) / math.pi * NUM_BINS
    bins = tf.math.floormod(tf.cast(tf.floor(angle), tf.int32), NUM_BINS)
    histograms = _sums_of_bins(bins, length)
    norms = tf.norm(histograms, axis=-1, keepdims=True)
    return histograms / tf.maximum(norms, _LEAST_NORM)


def _sums_of_bins(bins, length):
    """The lengths (N, H, W, C) of the gradients of each bin, summed by cell: (N, h, w, C, 9)."""
    height, width, channels = bins.shape[1:]
    high, wide = height // CELL_SIZE, width // CELL_SIZE
    rows, columns = np.arange(height)[:, None] // CELL_SIZE, np.arange(width) // CELL_SIZE
    cells = (rows * wide + columns)[..., None] * channels + np.arange(channels)
    images = tf.range(tf.shape(bins)[0])[:, None, None, None] * (high * wide * channels)
    # One pass over the pixels; a sum for each bin by itself would be nine.
    sums = tf.math.unsorted_segment_sum(
        tf.reshape(length, [-1]),
        tf.reshape((images + cells.astype(np.int32)) * NUM_BINS + bins, [-1]),
        tf.shape(bins)[0] * (high * wide * channels * NUM_BINS),
    )
    return tf.reshape(sums, (-1, high, wide, channels, NUM_BINS))


def hog_targets(clips, predicted):
    """What MaskFeat is to predict of each token of clips.

    Args:
        clips: float32 tensor (B, T, H, W, C), normalised as the model takes them.
        predicted: PredictionGrid.

    Returns:
        float32 tensor (B, N, D): of each token its frame's histograms (C, 9, cells in H, cells
        in W), flat, in SlowFast's order.
    """
    frames, height, width = predicted.grid
    high, wide = predicted.cells
    channels = clips.shape[-1]
    images = tf.reshape(clips[:, :: predicted.time_stride], (-1, *clips.shape[2:]))
    cells = tf.reshape(hog(images), (-1, height, high, width, wide, channels, NUM_BINS))
    tokens = tf.transpose(cells, (0, 1, 3, 5, 6, 2, 4))
    return tf.reshape(tokens, (-1, frames * height * width, predicted.size))
