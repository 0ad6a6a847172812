import math

import numpy as np
import pytest
import tensorflow as tf

from mvit_tf.pretraining.geometry import prediction_grid
from mvit_tf.pretraining.hog import hog, hog_targets
from tests.pretraining.reference import stored


def test_the_targets_are_those_of_slowfast():
    reference = stored()
    targets = hog_targets(tf.constant(reference["frames"]), prediction_grid(reference["config"]))
    assert targets.shape == (2, 32, 108)
    np.testing.assert_allclose(targets, reference["targets"], atol=1e-5)


@pytest.mark.parametrize("degrees", range(5, 180, 10))
def test_a_ramp_votes_for_one_bin_as_in_the_textbook(degrees):
    """Of a linear image both know the gradient exactly, so they agree but for how angles count."""
    rows, columns = np.mgrid[:24, :24]
    slope = math.radians(degrees)  # of the gradient, from the axis of columns towards that of rows
    image = math.cos(slope) * columns + math.sin(slope) * rows
    ours = hog(tf.constant(image[None, :, :, None], tf.float32))[0, 1, 1, 0].numpy()

    # Dalal and Triggs as in scikit-image: central differences, hard bins of 20 degrees.
    down, across = np.gradient(image)
    angle = np.degrees(np.arctan2(down, across))[8:16, 8:16] % 180
    textbook = np.bincount((angle / 20).astype(int).ravel(), minlength=9)
    assert np.count_nonzero(ours) == np.count_nonzero(textbook) == 1
    assert ours.max() == pytest.approx(1)
    # Here they count from the axis of rows, backwards.
    assert ours.argmax() == (90 - degrees) % 180 // 20


def test_a_flat_image_has_no_gradient_and_no_nan():
    np.testing.assert_array_equal(hog(tf.fill((1, 16, 16, 3), 0.3)), np.zeros((1, 2, 2, 3, 9)))
    with pytest.raises(ValueError, match="multiples of 8, got 12 x 16"):
        hog(tf.zeros((1, 12, 16, 3)))
