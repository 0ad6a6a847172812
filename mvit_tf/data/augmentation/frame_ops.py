"""Changes of colour and geometry of uint8 frames, with Pillow's arithmetic.

Each takes frames (T, H, W, 3), uint8 RGB, of known H and W, and gives frames of the same shape.
The parameters are the same for all frames of a clip; what comes from the pictures themselves
(histograms, mean grey) is each frame's own, as where every frame is an image of its own.

In a graph TensorFlow reorders sums and products with constants, and divides by multiplying: a last
bit then decides where a fraction is cut off. What is written here is written so that it cannot.

The Model Garden's `official.vision.ops.augment` has most of these. Of a clip, its `equalize` and
`autocontrast` take one histogram of all frames together and its `contrast` the mean of each
channel instead of the grey; `posterize` has no 0 bits; rotation and shear blend the border with
black, or need frames without a time axis. Its `invert`, `solarize`, `solarize_add`, `color`,
`brightness` and `sharpness` are those here to one grey level, at up to ten times the time:
`tf.where` on uint8 takes 20 ms a clip of 16x224x224, what stands for it below 2.
"""

import numpy as np
import tensorflow as tf

# Pillow's weights of red, green and blue in grey: whole numbers of 1 / 65536.
_GREY_WEIGHTS = np.array([19595, 38470, 7471], np.float32) / 65536
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32)
_SOLARIZE_ADD_BELOW = 128
# Rows of a matrix that leave x, or y, as it is.
_SAME_X, _SAME_Y = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)
# Four weights whose sum is 1 on paper may come out just below it; the fraction is then cut off.
_ROUNDING_GUARD = 1e-3


def invert(frames):
    """255 less the value."""
    return 255 - frames


def posterize(frames, bits):
    """Keeps the `bits` highest bits (int scalar, 0 to 8) of each value."""
    mask = 256 - tf.bitwise.left_shift(1, 8 - bits)
    return tf.bitwise.bitwise_and(frames, tf.cast(mask, tf.uint8))


def solarize(frames, threshold):
    """Inverts the values from `threshold` (int scalar, 0 to 256) up."""
    # In float32, as 256 is no uint8. Inverting a byte flips all of its bits.
    bright = tf.cast(frames, tf.float32) >= tf.cast(threshold, tf.float32)
    return tf.bitwise.bitwise_xor(frames, 255 * tf.cast(bright, tf.uint8))


def solarize_add(frames, addend):
    """Adds `addend` (int scalar, 0 to 128) to the values below 128."""
    dark = tf.cast(frames < _SOLARIZE_ADD_BELOW, tf.uint8)
    return frames + dark * tf.cast(addend, tf.uint8)


def autocontrast(frames):
    """Stretches each channel of each frame to 0..255."""
    low = tf.cast(tf.reduce_min(frames, [1, 2]), tf.float64)[..., None]
    high = tf.cast(tf.reduce_max(frames, [1, 2]), tf.float64)[..., None]
    values = tf.range(256, dtype=tf.float64)
    # In float64 and in this order, to cut off where Pillow does.
    scale = 255 / tf.maximum(high - low, 1)
    stretched = tf.clip_by_value(values * scale - low * scale, 0, 255)
    return _look_up(frames, tf.where(high > low, stretched, values))


def equalize(frames):
    """Evens out the histogram of each channel of each frame."""
    num_tables = 3 * tf.shape(frames)[0]
    counts = tf.math.bincount(
        tf.reshape(_table_index(frames), [-1]),
        minlength=256 * num_tables,
        maxlength=256 * num_tables,
    )
    counts = tf.reshape(counts, [-1, 3, 256])
    values = tf.range(256)
    brightest = tf.reduce_max(tf.where(counts > 0, values, 0), -1, keepdims=True)
    last = tf.gather(counts, brightest, batch_dims=2)
    step = (tf.reduce_sum(counts, -1, keepdims=True) - last) // 255
    below = tf.cumsum(counts, -1, exclusive=True)
    even = tf.minimum((below + step // 2) // tf.maximum(step, 1), 255)
    return _look_up(frames, tf.where(step > 0, even, values))


def brightness(frames, factor):
    """From black (`factor` 0) over the frames (1) to brighter ones."""
    return _to_uint8(tf.cast(frames, tf.float32) * factor)


def contrast(frames, factor):
    """From the mean grey of each frame (`factor` 0) over the frames (1) to more contrast."""
    grey = tf.round(tf.reduce_mean(_grey(frames, 1), [1, 2, 3], keepdims=True))
    return _blend(grey, frames, factor)


def color(frames, factor):
    """From grey (`factor` 0) over the frames (1) to more saturated ones."""
    return _blend(_grey(frames, 3), frames, factor)


def sharpness(frames, factor):
    """From smoothed (`factor` 0) over the frames (1) to sharpened ones; the border stays."""
    frames = tf.cast(frames, tf.float32)
    kernel = tf.tile((_SMOOTH / 13)[..., None, None], [1, 1, 3, 1])
    smooth = tf.nn.depthwise_conv2d(frames, kernel, [1, 1, 1, 1], "VALID")
    inner = frames[:, 1:-1, 1:-1]
    change = tf.cast(_blend(tf.floor(smooth + 0.5), inner, factor), tf.float32) - inner
    return _to_uint8(frames + tf.pad(change, [[0, 0], [1, 1], [1, 1], [0, 0]]))


def shear_x(frames, factor, fill):
    """Moves each row by `factor` times its number; see `_affine`."""
    return _affine(frames, (1.0, factor, 0.0), _SAME_Y, fill)


def shear_y(frames, factor, fill):
    """Moves each column by `factor` times its number; see `_affine`."""
    return _affine(frames, _SAME_X, (factor, 1.0, 0.0), fill)


def translate_x(frames, share, fill):
    """Moves the frames to the left by a share of their width; see `_affine`."""
    pixels = tf.cast(share, tf.float64) * frames.shape[2]
    return _affine(frames, (1.0, 0.0, pixels), _SAME_Y, fill)


def translate_y(frames, share, fill):
    """Moves the frames up by a share of their height; see `_affine`."""
    pixels = tf.cast(share, tf.float64) * frames.shape[1]
    return _affine(frames, _SAME_X, (0.0, 1.0, pixels), fill)


def rotate(frames, degrees, fill):
    """Turns the frames about their centre, counterclockwise; see `_affine`."""
    angle = tf.cast(degrees, tf.float64) * (np.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    y, x = frames.shape[1] / 2, frames.shape[2] / 2
    x_row = (cos, -sin, x - cos * x + sin * y)
    y_row = (sin, cos, y - sin * x - cos * y)
    return _affine(frames, x_row, y_row, fill)


def replace_box(frames, box, top, left):
    """Puts `box` (..., h, w, C) into `frames` (..., H, W, C) at row `top` and column `left`."""
    bottom, right = top + tf.shape(box)[-3], left + tf.shape(box)[-2]
    rows = frames[..., top:bottom, :, :]
    rows = tf.concat([rows[..., :left, :], box, rows[..., right:, :]], -2)
    result = tf.concat([frames[..., :top, :, :], rows, frames[..., bottom:, :, :]], -3)
    return tf.ensure_shape(result, frames.shape)


def _affine(frames, x_row, y_row, fill):
    """Pixel (x, y) of the result is the frames' at the point that two rows of a matrix give.

    Bilinear, centres of pixels at halves, the edge held for half a pixel; `fill` (int) beyond.
    The corners are gathered for all frames at once: half the time of TensorFlow's
    `ImageProjectiveTransformV3`, which also blends the edge with the fill.

    Args:
        x_row, y_row: (a, b, c) each, the point's ``a * x + b * y + c`` (numbers or scalars).
    """
    height, width = frames.shape[1:3]
    x = tf.range(width, dtype=tf.float64) + 0.5
    y = tf.range(height, dtype=tf.float64)[:, None] + 0.5

    def coordinate(row):
        a, b, c = (tf.cast(value, tf.float64) for value in row)
        return tf.reshape(a * x + b * y + c, [-1])

    def neighbours(point, row, size):
        low = tf.floor(point - 0.5)
        if row is _SAME_X or row is _SAME_Y:
            return [(tf.cast(low, tf.int32), 1.0)]
        share = tf.cast(point - 0.5 - low, tf.float32)
        low = tf.cast(low, tf.int32)
        return [
            (tf.clip_by_value(low, 0, size - 1), 1 - share),
            (tf.clip_by_value(low + 1, 0, size - 1), share),
        ]

    x, y = coordinate(x_row), coordinate(y_row)
    inside = tf.cast((x >= 0) & (x < width) & (y >= 0) & (y < height), tf.float32)
    # (H * W, T * 3): the pixels of one place of all frames side by side.
    pixels = tf.reshape(frames, [-1, height * width, 3])
    pixels = tf.reshape(tf.transpose(pixels, [1, 0, 2]), [height * width, -1])
    corners = [
        tf.cast(tf.gather(pixels, row * width + column), tf.float32)
        * (row_share * column_share * inside)[:, None]
        for row, row_share in neighbours(y, y_row, height)
        for column, column_share in neighbours(x, x_row, width)
    ]
    # By one operation, as the sums of a graph are put in another order.
    mixed = tf.add_n(corners) + ((1 - inside) * fill + _ROUNDING_GUARD)[:, None]
    mixed = tf.reshape(tf.cast(mixed, tf.uint8), [height * width, -1, 3])
    return tf.reshape(tf.transpose(mixed, [1, 0, 2]), tf.shape(frames))


def _table_index(frames):
    """Where a value stands in 256-entry tables of each channel of each frame, one by one."""
    shape = tf.shape(frames)
    # Over rows, as TensorFlow broadcasts along a short last axis slowly.
    tables = tf.reshape(tf.range(3 * shape[0]) * 256, [-1, 1, 3])
    rows = tf.cast(tf.reshape(frames, [shape[0], shape[1], -1]), tf.int32)
    return tf.reshape(rows + tf.tile(tables, [1, 1, shape[2]]), shape)


def _look_up(frames, tables):
    """Replaces values by those of `tables` (T, 3, 256)."""
    return tf.gather(tf.reshape(tf.cast(tables, tf.uint8), [-1]), _table_index(frames))


def _grey(frames, channels):
    """Grey of each pixel, `channels` times over; whole float32 numbers."""
    kernel = np.tile(_GREY_WEIGHTS[:, None], (1, 1, 1, channels))
    return tf.floor(tf.nn.conv2d(tf.cast(frames, tf.float32), kernel, 1, "VALID") + 0.5)


def _blend(start, frames, factor):
    """From `start` (`factor` 0) over the frames (1) to beyond them."""
    return _to_uint8(start + factor * (tf.cast(frames, tf.float32) - start))


def _to_uint8(values):
    """Cuts off fractions, as Pillow does."""
    return tf.cast(tf.clip_by_value(values, 0, 255), tf.uint8)
