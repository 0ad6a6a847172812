"""Batches of clips as MaskFeat trains on them: with a mask, and what to predict."""

import tensorflow as tf

from mvit_tf.pretraining.geometry import mask_window, masked_places, prediction_grid
from mvit_tf.pretraining.hog import hog_targets
from mvit_tf.pretraining.maskfeat import with_mask
from mvit_tf.pretraining.masking import mask_root, random_masks


def masked_batches(batches, config, *, window=None, ratio=0.4, seed, steps, places):
    """Adds masks and targets to batches of clips; labels are left out.

    Args:
        batches: tf.data.Dataset whose elements begin with clips, float32 (B, T, H, W, 3).
        config: MViTConfig of the `MaskFeat`.
        window, ratio: of the masks, see `mask_window` and `cube_mask`.
        seed: int >= 0. A mask is a pure function of it, of the step and of the clip's place.
        steps: tf.data.Dataset of int64 scalars: the step of each batch, counted from the start of
            training, so that a run that goes on masks as one that was never interrupted.
        places: sequence of B ints, of the clips in the whole batch of a step.

    Returns:
        tf.data.Dataset of (inputs, targets), as a `MaskFeat` compiled with
        `MaskedMeanSquaredError` is fitted to: a dict of `frames`, the clips, and `mask`, float32
        (B, T', H', W'); and float32 (B, N, D + 1).

    Raises:
        UserError: a window or ratio that does not fit the model.
    """
    predicted, window = prediction_grid(config), mask_window(config, window)
    masked_places(window, ratio)
    root = mask_root(seed)
    places = tf.constant(list(places), tf.int64)

    def add(step, batch):
        clips = batch[0]
        masks = random_masks(root, step, places, window=window, ratio=ratio)
        # Clip by clip: histograms of a whole batch would be many times its size in memory.
        targets = tf.map_fn(
            lambda clip: hog_targets(clip[None], predicted)[0],
            clips,
            fn_output_signature=tf.TensorSpec((None, predicted.size), tf.float32),
        )
        return {"frames": clips, "mask": masks}, with_mask(targets, masks, predicted.grid)

    zipped = tf.data.Dataset.zip((steps, batches))
    return zipped.map(lambda step, batch: add(step, batch), num_parallel_calls=tf.data.AUTOTUNE)
