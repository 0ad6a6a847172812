"""From decoded frames to what the model takes: resize, crop, normalise; all in TensorFlow ops.

Every function works eagerly, in tf.data and in a `tf.function` whose height and width are
unknown, so that evaluation, prediction and the exported model share one preprocessing.
"""

import math

import numpy as np
import tensorflow as tf

from mvit_tf.data.augmentation.blur import random_blur, random_grayscale
from mvit_tf.data.augmentation.color_jitter import color_jitter
from mvit_tf.data.augmentation.randaugment import rand_augment
from mvit_tf.data.augmentation.random_erasing import random_erasing
from mvit_tf.data.preprocessing import CROPS, Augmentation, Preprocessing
from mvit_tf.errors import UserError

__all__ = [
    "Augmentation",
    "CROPS",
    "Preprocessing",
    "denormalise",
    "evaluation_preprocess",
    "random_box",
    "temporal_subsample",
    "training_preprocess",
]

_CROP_TRIES = 10


def evaluation_preprocess(frames, preprocessing, crop="center"):
    """The one evaluation preprocessing: resize the short side, crop, normalise.

    SlowFast's test transform: bilinear without antialiasing (half-pixel centres) unless
    `preprocessing` says otherwise, the long side rounded down, the centre offset rounded up
    (`slowfast/datasets/transform.py`). "left" and "right" lie at the ends of the longer side, so
    they are the top and the bottom of a frame that is taller than wide. A frame too narrow for the
    crop is enlarged until it covers it.

    Args:
        frames: uint8 tensor (..., T, H, W, 3), RGB; any H and W, known or not.
        preprocessing: Preprocessing.
        crop: "left", "center" or "right".

    Returns:
        float32 tensor (..., T, h, w, 3) with ``(h, w) = preprocessing.size``.

    Raises:
        UserError: unknown `crop`.
    """
    if crop not in CROPS:
        raise UserError(f"unknown crop {crop!r}: use one of {', '.join(CROPS)}")
    frames = tf.convert_to_tensor(frames)
    flat, lead = _flatten_frames(frames)
    height, width = resized_size(tf.shape(flat)[1], tf.shape(flat)[2], preprocessing)
    resized = _resize(flat, tf.stack([height, width]), preprocessing)
    crop_height, crop_width = preprocessing.size
    # Along the longer side 0, half or all of what the crop leaves; along the other always half.
    share = {"left": 0.0, "center": 0.5, "right": 1.0}[crop]
    tall = height > width
    top = _offset(height - crop_height, tf.where(tall, share, 0.5))
    left = _offset(width - crop_width, tf.where(tall, 0.5, share))
    cropped = resized[:, top : top + crop_height, left : left + crop_width]
    cropped = _unflatten_frames(cropped, lead, frames.shape[:-3], preprocessing.size)
    return _normalise(cropped, preprocessing)


def temporal_subsample(frames, num_frames):
    """Takes `num_frames` frames evenly from the first to the last.

    Args:
        frames: tensor (B, T', H, W, 3), T' known or not.
        num_frames: int, T.

    Returns:
        tensor (B, T, H, W, 3): the same frames where T' == T, repeated ones where T' < T; of a
        single frame (T == 1) the middle one.
    """
    available = tf.shape(frames)[1]
    if num_frames == 1:
        indices = tf.reshape((available - 1) // 2, [1])
    else:
        # In integers: floating-point steps could miss a whole index by a rounding error.
        indices = tf.range(num_frames) * (available - 1) // (num_frames - 1)
    return tf.gather(frames, indices, axis=1)


def training_preprocess(frames, preprocessing, augmentation, seed):
    """`training_crop`, then `augment`: a training clip of decoded frames.

    Args:
        frames: uint8 tensor (T, H, W, 3), RGB; any H and W, known or not.
        preprocessing, augmentation, seed: see there.

    Returns:
        float32 tensor (T, h, w, 3) with ``(h, w) = preprocessing.size``.
    """
    frames = tf.convert_to_tensor(frames)
    box = training_box(tf.shape(frames)[1], tf.shape(frames)[2], augmentation, seed)
    return augment(training_crop(frames, box, preprocessing), preprocessing, augmentation, seed)


def training_box(height, width, augmentation, seed):
    """The box of a clip's random resized crop, one for all its frames.

    Drawn as in torchvision and SlowFast: area uniform, ratio log-uniform, ten tries, else the
    largest centred box of an allowed ratio.

    Args:
        height, width: int32 scalars, of the frames.
        augmentation: Augmentation.
        seed: int tensor (2,). The result is a pure function of size and seed.

    Returns:
        (top, left, height, width), int32 scalar tensors.
    """
    return random_box(height, width, augmentation, _seeds(seed)[0])


def training_crop(frames, box, preprocessing):
    """Frames cut to a box and resized to what the model takes, float32 (k, h, w, 3).

    Args:
        frames: uint8 array or tensor (k, H, W, 3).
        box: (top, left, height, width).
        preprocessing: Preprocessing; its `short_side` plays no part here.
    """
    top, left, height, width = box
    cut = frames[:, top : top + height, left : left + width]
    return _resize(cut, tf.constant(preprocessing.size), preprocessing)


def augment(clip, preprocessing, augmentation, seed):
    """Flip, RandAugment, colour jitter, grayscale, blur, normalisation and random erasing.

    All but the noise of erasing is one draw for the whole clip. As in timm, RandAugment sees what
    the crop leaves; SlowFast lets it see the whole frames, at the cost of their size.

    Args:
        clip: float32 tensor (T, h, w, 3), values 0 to 255.
        preprocessing: Preprocessing.
        augmentation: Augmentation.
        seed: int tensor (2,), the one of the clip's box. The result is a pure function of clip
            and seed.

    Returns:
        float32 tensor (T, h, w, 3), normalised.
    """
    _, flip_seed, augment_seed, jitter_seed, erasing_seed = _seeds(seed)
    if augmentation.flip:
        mirrored = tf.random.stateless_uniform([], flip_seed) < 0.5
        clip = tf.cond(mirrored, lambda: tf.reverse(clip, axis=[2]), lambda: clip)
    clip.set_shape([clip.shape[0], *preprocessing.size, 3])
    spec = augmentation.rand_augment_spec()
    # Of the jitter's, so that the seeds of the others stay what they were.
    grayscale_seed, blur_seed = (tf.random.fold_in(jitter_seed, number) for number in (1, 2))
    if spec or augmentation.color_jitter or augmentation.grayscale:
        clip = tf.cast(tf.round(clip), tf.uint8)
        if spec:
            clip = rand_augment(clip, spec, augment_seed)
        if augmentation.color_jitter:
            clip = color_jitter(clip, augmentation.color_jitter, jitter_seed)
        if augmentation.grayscale:
            clip = random_grayscale(clip, augmentation.grayscale, grayscale_seed)
        clip = tf.cast(clip, tf.float32)
    if augmentation.blur:
        clip = random_blur(clip, augmentation.blur, augmentation.blur_sigma, blur_seed)
    clip = _normalise(clip, preprocessing)
    if augmentation.random_erasing:
        clip = random_erasing(clip, augmentation.random_erasing, erasing_seed)
    return clip


def _seeds(seed):
    """Seeds of a clip's box, flip, RandAugment, colour jitter and erasing."""
    return tf.unstack(tf.random.split(tf.cast(seed, tf.int32), 5))


def random_box(height, width, augmentation, seed):
    """Box of a random resized crop inside a frame of `height` x `width` (int32 scalars).

    Returns:
        (top, left, height, width), int32 scalar tensors.
    """
    shape_seed, place_seed = tf.unstack(tf.random.split(seed, 2))
    full_height, full_width = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    draws = tf.random.stateless_uniform([_CROP_TRIES, 2], shape_seed)
    least_ratio, most_ratio = augmentation.ratio
    least_scale, most_scale = augmentation.scale
    area = full_height * full_width * (least_scale + (most_scale - least_scale) * draws[:, 0])
    log_ratio = math.log(least_ratio) + math.log(most_ratio / least_ratio) * draws[:, 1]
    ratio = tf.exp(log_ratio)
    widths, heights = tf.round(tf.sqrt(area * ratio)), tf.round(tf.sqrt(area / ratio))
    # The last candidate always fits: the largest box whose ratio lies in the allowed range.
    frame_ratio = tf.clip_by_value(full_width / full_height, least_ratio, most_ratio)
    widths = tf.concat([widths, [tf.minimum(full_width, full_height * frame_ratio)]], 0)
    heights = tf.concat([heights, [tf.minimum(full_height, full_width / frame_ratio)]], 0)
    fits = (widths <= full_width) & (heights <= full_height) & (widths >= 1) & (heights >= 1)
    choice = tf.argmax(tf.cast(fits, tf.int32))  # The first that fits.
    fell_back = choice == _CROP_TRIES
    box_height = tf.clip_by_value(tf.cast(tf.round(heights[choice]), tf.int32), 1, height)
    box_width = tf.clip_by_value(tf.cast(tf.round(widths[choice]), tf.int32), 1, width)
    place = tf.where(fell_back, 0.5, tf.random.stateless_uniform([2], place_seed))
    # A uniform draw in [0, 1) over the (room + 1) places where the box may start.
    top = tf.cast(place[0] * tf.cast(height - box_height + 1, tf.float32), tf.int32)
    left = tf.cast(place[1] * tf.cast(width - box_width + 1, tf.float32), tf.int32)
    return (
        tf.minimum(top, height - box_height),
        tf.minimum(left, width - box_width),
        box_height,
        box_width,
    )


def resized_size(height, width, preprocessing):
    """Size (int32 scalars) after the resize: the short side as asked, the long rounded down."""
    # float64 and this order of operations give the very integers of SlowFast's Python floats.
    rows, columns = tf.cast(height, tf.float64), tf.cast(width, tf.float64)
    short = tf.constant(preprocessing.short_side, tf.float64)
    tall = height > width
    new_rows = tf.where(tall, tf.floor(rows / columns * short), short)
    new_columns = tf.where(tall, short, tf.floor(columns / rows * short))
    crop_rows, crop_columns = (tf.constant(side, tf.float64) for side in preprocessing.size)
    enlarge = tf.maximum(
        tf.maximum(crop_rows / new_rows, crop_columns / new_columns), tf.ones([], tf.float64)
    )
    return (
        tf.cast(tf.math.ceil(new_rows * enlarge), tf.int32),
        tf.cast(tf.math.ceil(new_columns * enlarge), tf.int32),
    )


def _resize(frames, size, preprocessing):
    """Resizes (N, H, W, 3) to `size` by half-pixel centres; float32."""
    if preprocessing.interpolation == "bicubic":
        # Whole values within the range, which cubic curves leave, as a picture has them.
        resized = tf.image.resize(frames, size, method="bicubic", antialias=True)
        return tf.round(tf.clip_by_value(resized, 0.0, 255.0))
    return tf.cast(tf.image.resize(frames, size, method="bilinear", antialias=False), tf.float32)


def _offset(room, share):
    """Where a crop starts that leaves `room` pixels, rounded up."""
    return tf.cast(tf.math.ceil(tf.cast(room, tf.float32) * share), tf.int32)


def _normalise(frames, preprocessing):
    """Pixel values 0..255 to ``(value / 255 - mean) / std``, in the model's channel order."""
    if preprocessing.channel_order == "bgr":
        frames = tf.reverse(frames, axis=[-1])
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    width = preprocessing.size[1]
    # By whole rows: TensorFlow broadcasts along an axis of three ten times slower.
    scale = tf.constant(np.tile(1 / (255 * std), width), tf.float32)
    shift = tf.constant(np.tile(mean / std, width), tf.float32)
    rows = tf.reshape(frames, [-1, 3 * width]) * scale - shift
    return tf.ensure_shape(tf.reshape(rows, tf.shape(frames)), frames.shape)


def denormalise(clips, preprocessing):
    """The pixels that normalised frames stand for, for eyes.

    Args:
        clips: float32 array (..., 3), as `training_preprocess` or `evaluation_preprocess` gives.
        preprocessing: Preprocessing.

    Returns:
        uint8 array (..., 3), RGB; what lies outside of 0..255 is cut off.
    """
    pixels = 255 * (np.asarray(clips) * preprocessing.std + preprocessing.mean)
    if preprocessing.channel_order == "bgr":
        pixels = pixels[..., ::-1]
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)


def _flatten_frames(frames):
    """(..., H, W, 3) to (N, H, W, 3), and the leading shape as a tensor."""
    shape = tf.shape(frames)
    flat = tf.reshape(frames, tf.concat([[-1], shape[-3:]], 0))
    flat.set_shape([None, *frames.shape[-3:]])
    return flat, shape[:-3]


def _unflatten_frames(flat, lead, static_lead, size):
    frames = tf.reshape(flat, tf.concat([lead, [*size, 3]], 0))
    frames.set_shape([*static_lead, *size, 3])
    return frames
