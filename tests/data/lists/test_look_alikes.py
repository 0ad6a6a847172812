"""Clips of one scene are told from others."""

import numpy as np
import pytest

from mvit_tf.data.lists.look_alikes import look_alikes, thumbnail


def scene(seed, *, height=90, width=160, noise=0.0):
    """A smooth random picture, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    coarse = np.kron(rng.uniform(0, 255, (5, 5, 3)), np.ones((60, 60, 1)))
    rows = np.arange(height) * 300 // height
    columns = np.arange(width) * 300 // width
    picture = coarse[rows][:, columns]
    picture = picture + noise * np.random.default_rng(seed + 1).normal(size=picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def test_a_thumbnail_is_the_mean_grey_of_each_field():
    frame = np.random.default_rng(0).integers(0, 256, (48, 32, 3), np.uint8)
    expected = frame.astype(float).reshape(16, 3, 16, 2, 3).mean(axis=(1, 3, 4))
    np.testing.assert_allclose(thumbnail(frame), expected, rtol=1e-6)
    assert thumbnail(frame[:5, :7]).shape == (16, 16)


@pytest.mark.parametrize("height", [90, 120])
def test_another_size_and_noise_are_the_same_scene(height):
    one = [thumbnail(scene(seed)) for seed in range(30)]
    other = [thumbnail(scene(seed, height=height, noise=20)) for seed in (40, 7, 50, 3)]
    assert look_alikes(one, other) == {1: 7, 3: 3}


def test_even_pictures_are_like_nothing():
    black = np.zeros((20, 16, 16))
    assert look_alikes(black, black) == {}
    assert look_alikes(black + np.linspace(0, 0.1, 16), black + np.linspace(0, 0.1, 16)) == {}
    assert look_alikes([], [thumbnail(scene(0))]) == look_alikes([thumbnail(scene(0))], []) == {}
