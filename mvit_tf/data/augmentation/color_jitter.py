"""Random brightness, contrast and saturation of a whole clip."""

import tensorflow as tf

from mvit_tf.data.augmentation import frame_ops

_CHANGES = (frame_ops.brightness, frame_ops.contrast, frame_ops.color)


def color_jitter(clip, strength, seed):
    """Changes brightness, contrast and saturation, each once, in random order.

    As in timm and SlowFast, each factor is uniform in ``[max(0, 1 - strength), 1 + strength]``;
    one order and three factors for all frames.

    Args:
        clip: uint8 tensor (T, H, W, 3), RGB.
        strength: float, 0 or more.
        seed: int tensor (2,). The result is a pure function of clip and seed.

    Returns:
        uint8 tensor of the clip's shape.
    """
    order_seed, factor_seed = tf.unstack(tf.random.split(seed, 2))
    order = tf.argsort(tf.random.stateless_uniform([len(_CHANGES)], order_seed))
    least = max(0.0, 1 - strength)
    factors = tf.random.stateless_uniform([len(_CHANGES)], factor_seed, least, 1 + strength)
    for place in range(len(_CHANGES)):
        branches = [lambda f=f, c=clip: f(c, factors[place]) for f in _CHANGES]  # noqa: B023
        clip = tf.switch_case(order[place], branches)
    return clip
