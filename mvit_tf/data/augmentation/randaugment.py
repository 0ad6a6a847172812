"""RandAugment (arXiv:1909.13719) of a whole clip, as timm and SlowFast train with it.

The transforms that grow with the magnitude (timm's `inc1`), each drawn once for all frames.
timm's ranges are kept, and SlowFast's grey where a frame moves away. Bilinear throughout, where
timm's default draws between bilinear and bicubic for every image.

The Model Garden's `RandAugment` has no such set, fails in tf.data with a spread of the magnitude,
and takes no notice of how wide the spread is; `frame_ops` says where its transforms differ.
"""

import tensorflow as tf

from mvit_tf.data.augmentation import frame_ops
from mvit_tf.data.augmentation.randaugment_spec import MAX_MAGNITUDE

_FILL = 128


def rand_augment(clip, spec, seed):
    """Changes a clip by `spec.num_layers` transforms drawn with replacement.

    Args:
        clip: uint8 tensor (T, H, W, 3), RGB; H and W known.
        spec: RandAugmentSpec.
        seed: int tensor (2,). The result is a pure function of clip and seed.

    Returns:
        uint8 tensor of the clip's shape.
    """
    choice_seed, strength_seed = tf.unstack(tf.random.split(seed, 2))
    draws = tf.random.stateless_uniform([spec.num_layers, 3], choice_seed)
    choices = tf.cast(draws[:, 0] * len(TRANSFORMS), tf.int32)
    # The index after the last transform is that of leaving the clip as it is.
    choices = tf.where(draws[:, 1] < spec.prob, choices, len(TRANSFORMS))
    signs = tf.where(draws[:, 2] < 0.5, -1.0, 1.0)
    spread = tf.random.stateless_normal([spec.num_layers], strength_seed)
    # In float64, so that a graph, which divides otherwise, has the same float32 in the end.
    magnitudes = spec.magnitude + spec.magnitude_std * tf.cast(spread, tf.float64)
    levels = tf.clip_by_value(magnitudes, 0, MAX_MAGNITUDE) / MAX_MAGNITUDE
    levels = tf.cast(levels, tf.float32)

    def apply(layer, clip):
        level, sign = levels[layer], signs[layer]
        branches = [lambda f=f: f(clip, level, sign) for f in TRANSFORMS.values()]
        changed = tf.switch_case(choices[layer], [*branches, lambda: clip])
        return layer + 1, tf.ensure_shape(changed, clip.shape)

    # A loop in the graph, as every transform that is traced takes time at the start.
    unfinished = lambda layer, clip: layer < spec.num_layers  # noqa: E731
    return tf.while_loop(unfinished, apply, (0, clip))[1]


def _whole(value):
    return tf.cast(value, tf.int32)


def _factor(level, sign):
    return tf.maximum(1 + 0.9 * level * sign, 0.1)


# timm's names. Each takes the clip, the magnitude as a share of the strongest, and -1 or 1.
TRANSFORMS = {
    "AutoContrast": lambda clip, level, sign: frame_ops.autocontrast(clip),
    "Equalize": lambda clip, level, sign: frame_ops.equalize(clip),
    "Invert": lambda clip, level, sign: frame_ops.invert(clip),
    "Rotate": lambda clip, level, sign: frame_ops.rotate(clip, 30 * level * sign, _FILL),
    "PosterizeIncreasing": lambda clip, level, sign: frame_ops.posterize(
        clip, 4 - _whole(4 * level)
    ),
    "SolarizeIncreasing": lambda clip, level, sign: frame_ops.solarize(
        clip, 256 - _whole(256 * level)
    ),
    "SolarizeAdd": lambda clip, level, sign: frame_ops.solarize_add(clip, _whole(110 * level)),
    "ColorIncreasing": lambda clip, level, sign: frame_ops.color(clip, _factor(level, sign)),
    "ContrastIncreasing": lambda clip, level, sign: frame_ops.contrast(clip, _factor(level, sign)),
    "BrightnessIncreasing": lambda clip, level, sign: frame_ops.brightness(
        clip, _factor(level, sign)
    ),
    "SharpnessIncreasing": lambda clip, level, sign: frame_ops.sharpness(
        clip, _factor(level, sign)
    ),
    "ShearX": lambda clip, level, sign: frame_ops.shear_x(clip, 0.3 * level * sign, _FILL),
    "ShearY": lambda clip, level, sign: frame_ops.shear_y(clip, 0.3 * level * sign, _FILL),
    "TranslateXRel": lambda clip, level, sign: frame_ops.translate_x(
        clip, 0.45 * level * sign, _FILL
    ),
    "TranslateYRel": lambda clip, level, sign: frame_ops.translate_y(
        clip, 0.45 * level * sign, _FILL
    ),
}
