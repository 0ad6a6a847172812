import numpy as np
import tensorflow as tf

from mvit_tf.data.augmentation.random_erasing import random_erasing

CLIP = np.full((5, 40, 60, 3), 7.0, np.float32)


def erase(probability, count):
    erased = tf.function(lambda seed: random_erasing(tf.constant(CLIP), probability, seed))
    return np.stack([erased(tf.constant([2, number])) for number in range(count)])


def test_one_cuboid_of_normal_noise_of_timms_size():
    clips = erase(1.0, 200)
    gone = (clips != 7).any(-1)
    assert (gone == gone[:, :1]).all()  # The same box in every frame.
    rows, columns = gone[:, 0].any(2), gone[:, 0].any(1)
    heights, widths = rows.sum(1), columns.sum(1)
    np.testing.assert_array_equal(gone[:, 0].sum((1, 2)), heights * widths)
    shares = heights * widths / (40 * 60)
    assert 0.015 < shares.min() < 0.05 and 0.29 < shares.max() < 0.36
    # Of a frame half as wide again as high, tall boxes of large area do not fit.
    assert 0.16 < shares.mean() < 0.19
    ratios = heights / widths
    assert 0.25 < ratios.min() < 0.4 and 2.5 < ratios.max() < 3.9
    # Against every edge now and then, and in the middle of the frame on average.
    assert rows[:, 0].any() and rows[:, -1].any() and columns[:, 0].any() and columns[:, -1].any()
    assert abs((rows.mean(0) * np.arange(40)).sum() / rows.mean(0).sum() - 19.5) < 1.5
    noise = clips[gone]
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - 1) < 0.01
    inside = clips[0][:, rows[0]][:, :, columns[0]]
    assert len(np.unique(inside)) > 0.99 * inside.size  # New noise in every frame and channel.


def test_probability_and_seed():
    clips = erase(0.25, 200)
    assert 30 < (clips != 7).any((1, 2, 3, 4)).sum() < 72
    for number in (0, 1, 2, 3, 4, 5, 6, 7):
        eager = random_erasing(tf.constant(CLIP), 0.25, tf.constant([2, number]))
        np.testing.assert_array_equal(eager, clips[number])
