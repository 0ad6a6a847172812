"""Every change of a frame against Pillow's, to the grey level."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from mvit_tf.data.augmentation import frame_ops
from tests.data.augmentation.clips import varied_clip

CLIP = varied_clip()


def by_pillow(change, clip=CLIP):
    return np.stack([np.asarray(change(Image.fromarray(frame))) for frame in clip])


@pytest.mark.parametrize(
    ("ours", "pillows"),
    [
        (frame_ops.invert, ImageOps.invert),
        (frame_ops.autocontrast, ImageOps.autocontrast),
        (frame_ops.equalize, ImageOps.equalize),
        *[
            (
                lambda x, v=bits: frame_ops.posterize(x, v),
                lambda x, v=bits: ImageOps.posterize(x, v),
            )
            for bits in (1, 3, 4, 8)
        ],
        *[
            (
                lambda x, v=start: frame_ops.solarize(x, v),
                lambda x, v=start: ImageOps.solarize(x, v),
            )
            for start in (0, 77, 255, 256)
        ],
        *[
            (
                lambda x, v=addend: frame_ops.solarize_add(x, v),
                lambda x, v=addend: x.point([i + v * (i < 128) for i in range(256)] * 3),
            )
            for addend in (0, 77, 110)
        ],
    ],
)
def test_points_are_pillows(ours, pillows):
    np.testing.assert_array_equal(ours(tf.constant(CLIP)), by_pillow(pillows))


@pytest.mark.parametrize("name", ["brightness", "contrast", "color", "sharpness"])
@pytest.mark.parametrize("factor", [0.1, 0.37, 1.0, 1.63, 1.9])
def test_enhancements_are_pillows(name, factor):
    ours = getattr(frame_ops, name)(tf.constant(CLIP), tf.constant(factor))
    enhancer = getattr(ImageEnhance, name.capitalize())
    np.testing.assert_array_equal(ours, by_pillow(lambda x: enhancer(x).enhance(factor)))


def test_no_bits_are_black():
    assert not frame_ops.posterize(tf.constant(CLIP), tf.constant(0)).numpy().any()


def moved(matrix):
    def change(image):
        return image.transform(
            image.size,
            Image.Transform.AFFINE,
            matrix,
            resample=Image.Resampling.BILINEAR,
            fillcolor=(128,) * 3,
        )

    return change


@pytest.mark.parametrize("amount", [0.3, -0.21, 0.05, 0.0])
@pytest.mark.parametrize(
    ("name", "matrix"),
    [
        ("shear_x", lambda v: (1, v, 0, 0, 1, 0)),
        ("shear_y", lambda v: (1, 0, 0, v, 1, 0)),
        ("translate_x", lambda v: (1, 0, v * CLIP.shape[2], 0, 1, 0)),
        ("translate_y", lambda v: (1, 0, 0, 0, 1, v * CLIP.shape[1])),
        ("rotate", None),
    ],
)
def test_movements_are_pillows(name, matrix, amount):
    if name == "rotate":
        amount *= 100
        style = {"resample": Image.Resampling.BILINEAR, "fillcolor": (128,) * 3}
        expected = by_pillow(lambda x: x.rotate(amount, **style))
    else:
        expected = by_pillow(moved(matrix(amount)))
    ours = getattr(frame_ops, name)(tf.constant(CLIP), tf.constant(amount), 128).numpy()
    difference = np.abs(ours.astype(int) - expected)
    # Both cut off fractions; one of many roundings may fall to the other side.
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.06
    if amount == 0:
        np.testing.assert_array_equal(ours, CLIP)


def test_statistics_are_each_frames_own():
    clip = tf.constant(CLIP)
    for change in (
        frame_ops.autocontrast,
        frame_ops.equalize,
        lambda x: frame_ops.contrast(x, 1.7),
    ):
        alone = tf.concat([change(clip[i : i + 1]) for i in range(len(CLIP))], 0)
        np.testing.assert_array_equal(change(clip), alone)


def test_a_box_is_replaced():
    frames = np.zeros((2, 3, 5, 6, 1), np.float32)
    result = frame_ops.replace_box(tf.constant(frames), tf.ones((2, 3, 2, 4, 1)), 3, 1)
    assert result.shape == frames.shape
    expected = frames.copy()
    expected[:, :, 3:5, 1:5] = 1
    np.testing.assert_array_equal(result, expected)


@pytest.mark.compare
def test_the_model_gardens_agree_where_it_is_right():
    """On one frame: of a clip it takes one histogram of all frames."""
    from official.vision.ops import augment

    for frame in CLIP[:3]:
        clip = tf.constant(frame[None])
        for ours, theirs in [
            (frame_ops.invert, augment.invert),
            (lambda x: frame_ops.solarize(x, 77), lambda x: augment.solarize(x, 77)),
            (lambda x: frame_ops.solarize_add(x, 60), lambda x: augment.solarize_add(x, 60)),
            (lambda x: frame_ops.posterize(x, 3), lambda x: augment.posterize(x, 3)),
            (frame_ops.equalize, augment.equalize),
            (lambda x: frame_ops.brightness(x, 1.63), lambda x: augment.brightness(x, 1.63)),
        ]:
            np.testing.assert_array_equal(ours(clip), theirs(clip))
        for ours, theirs in [
            (frame_ops.autocontrast, augment.autocontrast),
            (lambda x: frame_ops.color(x, 1.63), lambda x: augment.color(x, 1.63)),
            (lambda x: frame_ops.sharpness(x, 0.37), lambda x: augment.sharpness(x, 0.37)),
        ]:
            difference = tf.cast(ours(clip), tf.int32) - tf.cast(theirs(clip), tf.int32)
            assert tf.reduce_max(tf.abs(difference)) <= 1
    both = tf.constant(CLIP[1:3])
    assert (augment.equalize(both).numpy() != frame_ops.equalize(both).numpy()).mean() > 0.5
