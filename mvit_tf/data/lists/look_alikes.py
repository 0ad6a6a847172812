"""Videos that show the same scene: takes of one camera, or one recording encoded twice."""

import numpy as np

_SIDE = 16
# Correlation of two thumbnails above which they are taken for one scene: a choice, strict enough
# that what is named is worth a look.
_ALIKE = 0.95
# Pairs compared at once.
_PAIRS = 2**24


def moments(num_frames):
    """Indices of the frames whose mean stands for a video of so many."""
    return (num_frames // 6, num_frames // 2, 5 * num_frames // 6)


def thumbnail(frame):
    """float32 array (16, 16): the grey of a frame, uint8 (height, width, 3), in 16 x 16 fields."""
    grey = frame.mean(axis=-1)
    for axis in (0, 1):
        size = grey.shape[axis]
        # Frames of less than 16 pixels repeat some.
        starts = np.arange(_SIDE) * size // _SIDE
        ends = np.maximum(np.arange(1, _SIDE + 1) * size // _SIDE, starts + 1)
        sums = np.cumsum(np.insert(grey, 0, 0, axis=axis), axis=axis)
        widths = np.expand_dims(ends - starts, 1 - axis)
        grey = (sums.take(ends, axis=axis) - sums.take(starts, axis=axis)) / widths
    return grey.astype(np.float32)


def look_alikes(one, other):
    """The most alike thumbnail of `one` for each of `other`.

    Args:
        one, other: float arrays (N, 16, 16) and (M, 16, 16), means of `thumbnail`s.

    Returns:
        dict of int, index in `other` -> index in `one`, of those that are alike. A picture of one
        even grey is like no other.
    """
    one, other = _normalised(one), _normalised(other)
    found = {}
    rows = max(_PAIRS // max(len(one), 1), 1)
    for start in range(0, len(other) if len(one) else 0, rows):
        correlation = other[start : start + rows] @ one.T
        best = correlation.argmax(axis=1)
        alike = np.flatnonzero(correlation[np.arange(len(best)), best] > _ALIKE)
        found.update((start + int(row), int(best[row])) for row in alike)
    return found


def _normalised(thumbnails):
    flat = np.reshape(thumbnails, (len(thumbnails), _SIDE * _SIDE)).astype(np.float32)
    flat = flat - flat.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    # Less than a grey level of contrast is noise.
    return np.where(norm > _SIDE, flat / np.maximum(norm, 1e-6), 0)
