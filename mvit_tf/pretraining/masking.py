"""Which places of a clip MaskFeat hides: random cubes of space and time (section 3.1).

SlowFast's `MaskingGenerator3D`, after BEiT (arXiv 2106.08254): cubes are tried one after the
other until so many places are masked; one that would mask none, or too many, is passed over.
"""

import math

import numpy as np
import tensorflow as tf

from mvit_tf.pretraining.geometry import masked_places

_LEAST_ASPECT = 0.3
# Cubes that are passed over one after the other before a mask stays as it is.
_MOST_TRIES = 100
# Many more than any mask of a thousand takes; the last draws would end a mask as too many tries do.
_NUM_DRAWS = 4096
# Key of the random stream of a seed, after those that `data` has.
_MASKING = 4


def cube_mask(draws, window, ratio):
    """A mask of cubes, a pure function of its draws.

    Args:
        draws: float tensor (N, 6) in [0, 1), a row for each cube that is tried: its area, aspect
            ratio, length in time, and place in H, W and T.
        window: three ints, (T, H, W).
        ratio: float in (0, 1), the share of the places to mask.

    Returns:
        float32 tensor (T, H, W) of zeros and ones, 1 where masked.

    Raises:
        UserError: a ratio by which no place, or every one, would be masked.
    """
    wanted = masked_places(window, ratio)
    cubes, fits = _cubes(tf.cast(draws, tf.float64), window)
    number = tf.shape(draws)[0]

    def goes_on(index, mask, masked, tries):
        return (masked < wanted) & (tries < _MOST_TRIES) & (index < number)

    def try_cube(index, mask, masked, tries):
        times, rows, columns = (axis[index] for axis in cubes)
        cube = times[:, None, None] & rows[None, :, None] & columns[None, None, :]
        added = tf.math.count_nonzero(cube & ~mask, dtype=tf.int32)
        taken = fits[index] & (added > 0) & (added <= wanted - masked)
        return (
            index + 1,
            mask | (cube & taken),
            tf.where(taken, masked + added, masked),
            tf.where(taken, 0, tries + 1),
        )

    start = (tf.constant(0), tf.zeros(window, tf.bool), tf.constant(0), tf.constant(0))
    _, mask, _, _ = tf.while_loop(goes_on, try_cube, start, parallel_iterations=1)
    return tf.cast(mask, tf.float32)


def _cubes(draws, window):
    """([bool tensors (N, T), (N, H), (N, W): where cubes lie], bool tensor (N,): which may)."""
    most = window[1] * window[2]
    least = most // 5
    area, aspect, times, top, left, front = tf.unstack(draws, axis=1)
    area = least + (most - least) * area
    lowest, highest = math.log(_LEAST_ASPECT), math.log(1 / _LEAST_ASPECT)
    aspect = tf.exp(lowest + (highest - lowest) * aspect)
    sizes = [
        1 + tf.floor(times * window[0]),
        tf.round(tf.sqrt(area * aspect)),
        tf.round(tf.sqrt(area / aspect)),
    ]
    axes = []
    for size, length, place in zip(sizes, window, (front, top, left), strict=True):
        start = tf.floor(place * (length - size + 1))[:, None]
        positions = tf.range(length, dtype=tf.float64)[None]
        axes.append((positions >= start) & (positions < start + size[:, None]))
    return axes, (sizes[1] < window[1]) & (sizes[2] < window[2])


def mask_root(seed):
    """The int32 tensor (2,) of which the masks of a training are drawn.

    Args:
        seed: int >= 0, of the data.
    """
    words = np.random.SeedSequence(seed, spawn_key=(_MASKING,)).generate_state(2)
    return tf.constant(words.view(np.int32))


def random_masks(root, step, places, *, window, ratio):
    """The masks of clips, by draws that depend on the root, their step and place alone.

    Args:
        root: as `mask_root` gives it.
        step: int scalar, counted from the start of training.
        places: int tensor (B,), of the clips in the whole batch of the step.
        window, ratio: of `cube_mask`.

    Returns:
        float32 tensor (B, T, H, W).
    """
    of_step = tf.random.fold_in(root, step)

    def draw(place):
        seed = tf.random.fold_in(of_step, place)
        draws = tf.random.stateless_uniform([_NUM_DRAWS, 6], seed, dtype=tf.float64)
        return cube_mask(draws, window, ratio)

    return tf.map_fn(draw, places, fn_output_signature=tf.TensorSpec(window, tf.float32))
