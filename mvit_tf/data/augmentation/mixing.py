"""MixUp (arXiv:1710.09412) and CutMix (arXiv:1905.04899) of a batch of clips and its labels."""

import numpy as np
import tensorflow as tf

from mvit_tf.data.augmentation.frame_ops import replace_box

# Key of the random stream of a seed, after those that `pipeline` has.
_MIXING = 3


def mix_batches(batches, augmentation, *, seed, steps):
    """Mixes every batch of a dataset, by draws that depend on `seed` and its step alone.

    Args:
        batches: tf.data.Dataset of (clips, labels), see `mix_batch`.
        augmentation: Augmentation.
        seed: int >= 0.
        steps: tf.data.Dataset of int64 scalars: the step of each batch, counted from the start of
            training, so that a run that goes on mixes as one that was never interrupted.

    Returns:
        tf.data.Dataset of the same elements.
    """
    words = np.random.SeedSequence(seed, spawn_key=(_MIXING,)).generate_state(2)
    root = tf.constant(words.view(np.int32))

    def mix(step, batch):
        return mix_batch(*batch, augmentation, tf.random.fold_in(root, step))

    return tf.data.Dataset.zip((steps, batches)).map(mix, num_parallel_calls=tf.data.AUTOTUNE)


def mix_batch(clips, labels, augmentation, seed):
    """Mixes each clip of a batch with that at the same place of the reversed batch.

    As in timm and SlowFast: one of MixUp and CutMix, and one weight, for the whole batch. The
    weight of a label is the share of its clip's pixels to which they count: for CutMix what the
    box leaves after it is cut at the border. Label smoothing belongs in the loss: being linear,
    it gives there what smoothing the labels before mixing would. The middle clip of an odd batch
    has itself for a partner.

    Args:
        clips: float32 tensor (B, T, H, W, 3); H and W known.
        labels: float32 tensor (B, K), one-hot or multi-hot.
        augmentation: Augmentation.
        seed: int tensor (2,). The result is a pure function of clips, labels and seed.

    Returns:
        (clips, labels), of the same shapes.
    """
    kind_seed, weight_seed, box_seed = tf.unstack(tf.random.split(seed, 3))
    draws = tf.random.stateless_uniform([2], kind_seed)
    if augmentation.mixup_alpha and augmentation.cutmix_alpha:
        cut = draws[0] < augmentation.mixup_switch_prob
    else:
        cut = tf.constant(not augmentation.mixup_alpha)

    def mixup():
        weight = _beta(augmentation.mixup_alpha, weight_seed)
        return weight * clips + (1 - weight) * tf.reverse(clips, [0]), weight

    def cutmix():
        weight = _beta(augmentation.cutmix_alpha, weight_seed)
        top, left, height, width = _cut_box(clips.shape[2], clips.shape[3], weight, box_seed)
        box = tf.reverse(clips, [0])[:, :, top : top + height, left : left + width]
        area = tf.cast(height * width, tf.float32)
        return replace_box(clips, box, top, left), 1 - area / (clips.shape[2] * clips.shape[3])

    happens = draws[1] < augmentation.mixup_prob
    kind = tf.where(happens, 1 + tf.cast(cut, tf.int32), 0)
    mixed, weight = tf.switch_case(kind, [lambda: (clips, tf.constant(1.0)), mixup, cutmix])
    return mixed, weight * labels + (1 - weight) * tf.reverse(labels, [0])


def _beta(alpha, seed):
    """A draw of Beta(alpha, alpha), a float32 scalar."""
    first, second = tf.unstack(tf.random.stateless_gamma([2], seed, alpha, dtype=tf.float64))
    # With a tiny alpha both may be 0.
    return tf.cast(tf.math.divide_no_nan(first, first + second), tf.float32)


def _cut_box(height, width, weight, seed):
    """The box that CutMix replaces: (top, left, height, width), int32 scalars.

    It would cover a share of ``1 - weight``; its centre lies anywhere, and what lies outside of
    the frame is cut off.
    """
    size = tf.constant([height, width])
    cut = tf.cast(tf.cast(size, tf.float32) * tf.sqrt(1 - weight), tf.int32)
    place = tf.random.stateless_uniform([2], seed) * tf.cast(size, tf.float32)
    centre = tf.minimum(tf.cast(place, tf.int32), size - 1)
    start = tf.maximum(centre - cut // 2, 0)
    end = tf.minimum(centre + (cut + 1) // 2, size)
    return start[0], start[1], end[0] - start[0], end[1] - start[1]
