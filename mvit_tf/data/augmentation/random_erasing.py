"""Random erasing (arXiv:1708.04896) of one cuboid of a clip."""

import math

import tensorflow as tf

from mvit_tf.data.augmentation.frame_ops import replace_box

_TRIES = 100
_AREA = (0.02, 1 / 3)
_LOG_RATIO = (math.log(0.3), math.log(1 / 0.3))


def random_erasing(clip, probability, seed):
    """Puts normal noise in place of one box of all frames, new noise in each frame.

    SlowFast's `RandomErasing` with ``cube=True`` and the mode "pixel" (timm's defaults): the box
    covers a share of 0.02 to 1/3 of the area, its ratio is log-uniform in 0.3 to 1/0.3.

    Args:
        clip: float32 tensor (T, H, W, 3), normalised; H and W known.
        probability: float. Share of the clips that are changed.
        seed: int tensor (2,). The result is a pure function of clip and seed.

    Returns:
        float32 tensor of the clip's shape.
    """
    happens_seed, box_seed, noise_seed = tf.unstack(tf.random.split(seed, 3))

    def erase():
        top, left, height, width = _erased_box(clip.shape[1], clip.shape[2], box_seed)
        shape = tf.stack([tf.shape(clip)[0], height, width, 3])
        return replace_box(clip, tf.random.stateless_normal(shape, noise_seed), top, left)

    happens = tf.random.stateless_uniform([], happens_seed) < probability
    return tf.cond(happens, erase, lambda: clip)


def _erased_box(height, width, seed):
    """(top, left, height, width), int32 scalars; of no size where no try fits the frame."""
    shape_seed, place_seed = tf.unstack(tf.random.split(seed, 2))
    draws = tf.random.stateless_uniform([_TRIES, 2], shape_seed)
    area = height * width * (_AREA[0] + (_AREA[1] - _AREA[0]) * draws[:, 0])
    ratio = tf.exp(_LOG_RATIO[0] + (_LOG_RATIO[1] - _LOG_RATIO[0]) * draws[:, 1])
    sizes = tf.cast(tf.round(tf.sqrt(tf.stack([area * ratio, area / ratio], 1))), tf.int32)
    fits = tf.reduce_all(sizes < [height, width], axis=1)
    first = tf.argmax(tf.cast(fits, tf.int32))
    size = tf.where(fits[first], sizes[first], 0)
    place = tf.random.stateless_uniform([2], place_seed)
    room = tf.constant([height, width]) - size
    start = tf.minimum(tf.cast(place * tf.cast(room + 1, tf.float32), tf.int32), room)
    return start[0], start[1], size[0], size[1]
