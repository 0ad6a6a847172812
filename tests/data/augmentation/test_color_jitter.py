import numpy as np
import tensorflow as tf
from PIL import Image, ImageEnhance

from mvit_tf.data.augmentation import frame_ops
from mvit_tf.data.augmentation.color_jitter import color_jitter
from tests.data.augmentation.clips import varied_clip

CLIP = varied_clip(12, 16)


def test_each_change_once_in_every_order_with_factors_around_one(monkeypatch):
    calls = []

    def record(name):
        return lambda clip, factor: (calls.append((name, float(factor))), clip)[1]

    names = ("brightness", "contrast", "color")
    changes = tuple(record(name) for name in names)
    monkeypatch.setattr("mvit_tf.data.augmentation.color_jitter._CHANGES", changes)
    for number in range(200):
        color_jitter(tf.constant(CLIP), 0.4, tf.constant([1, number]))
    orders = [tuple(name for name, _ in calls[i : i + 3]) for i in range(0, 600, 3)]
    assert all(sorted(order) == sorted(names) for order in orders)
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6 and min(counts) > 15
    factors = np.array([factor for _, factor in calls])
    assert 0.6 <= factors.min() < 0.61 and 1.39 < factors.max() <= 1.4
    assert abs(factors.mean() - 1) < 0.03
    assert np.corrcoef(factors[::3], factors[1::3])[0, 1] < 0.3


def test_numbers_are_pillows_and_the_same_in_tf_data(monkeypatch):
    calls = []

    def record(name):
        change = getattr(frame_ops, name)
        return lambda clip, factor: (calls.append((name, float(factor))), change(clip, factor))[1]

    changes = tuple(record(name) for name in ("brightness", "contrast", "color"))
    dataset = tf.data.Dataset.from_tensors(CLIP).map(lambda clip: color_jitter(clip, 0.4, [4, 2]))
    in_tf_data = next(dataset.as_numpy_iterator())
    monkeypatch.setattr("mvit_tf.data.augmentation.color_jitter._CHANGES", changes)
    eager = color_jitter(tf.constant(CLIP), 0.4, tf.constant([4, 2]))
    images = [Image.fromarray(frame) for frame in CLIP]
    for name, factor in calls:
        enhancer = getattr(ImageEnhance, name.capitalize())
        images = [enhancer(image).enhance(factor) for image in images]
    np.testing.assert_array_equal(eager, np.stack([np.asarray(image) for image in images]))
    np.testing.assert_array_equal(in_tf_data, eager)
