"""Blur beside SciPy's values, grayscale beside Pillow's."""

import sys

import numpy as np
import pytest
import tensorflow as tf

from mvit_tf.data.augmentation.blur import random_blur, random_grayscale
from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.data.pipeline import train_dataset
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.data.transforms import Augmentation, Preprocessing, augment
from mvit_tf.errors import UserError

# scipy.ndimage.gaussian_filter(ramp, 1.5, mode="mirror") of SciPy 1.17.1, see `picture`:
# rows 0, 5 and 23, columns 0, 3, 12 and 23 of the first channel.
SCIPY = [
    [14.8083, 41.8013, 117.7276, 118.2918],
    [41.7498, 68.7269, 123.9264, 145.2097],
    [159.6571, 178.0822, 124.3918, 135.1652],
]
# Pillow 12.3.0's convert("L") of these colours.
PILLOW = {(255, 0, 0): 76, (0, 255, 0): 150, (0, 0, 255): 29, (10, 200, 77): 129, (1, 2, 3): 2}


def picture():
    """float32 (24, 24, 3) without symmetry."""
    y, x = np.mgrid[:24, :24]
    return np.stack([(7 * y + 3 * x * x) % 256, 10 * x, 5 * y], -1).astype(np.float32)


on_later_tensorflow = pytest.mark.skipif(
    tf.__version__.startswith("2.16."), reason="refused there: its convolution crashes"
)


@on_later_tensorflow
def test_blur_is_scipys_with_a_mirrored_border_and_the_same_for_all_frames():
    pytest.importorskip("tensorflow_io")
    clip = tf.constant(np.stack([picture(), picture()]))
    seed = tf.constant([1, 2])
    eager = random_blur(clip, 1.0, (1.5, 1.5), seed).numpy()
    np.testing.assert_allclose(eager[0][[0, 5, 23]][:, [0, 3, 12, 23], 0], SCIPY, rtol=1e-5)
    np.testing.assert_array_equal(eager[0], eager[1])
    graph = tf.function(lambda clip: random_blur(clip, 1.0, (1.5, 1.5), seed))(clip).numpy()
    np.testing.assert_allclose(graph, eager, rtol=1e-6, atol=1e-4)
    np.testing.assert_array_equal(random_blur(clip, 0.0, (0.1, 2.0), seed), clip)
    # Half of the clips, each by its own strength, the same for the same seed.
    spreads = {
        float(tf.math.reduce_std(random_blur(clip, 0.5, (0.5, 2.0), tf.constant([number, 0]))))
        for number in range(16)
    }
    assert 4 <= len(spreads) <= 14


def test_grayscale_is_pillows():
    clip = tf.constant(np.array(list(PILLOW), np.uint8).reshape(1, 1, -1, 3))
    grey = random_grayscale(clip, 1.0, tf.constant([0, 0])).numpy()
    np.testing.assert_array_equal(grey[0, 0], np.repeat([[v] for v in PILLOW.values()], 3, 1))
    np.testing.assert_array_equal(random_grayscale(clip, 0.0, tf.constant([0, 0])), clip)


def test_both_are_off_unless_asked_for_and_leave_the_other_seeds_alone():
    clip = tf.constant(np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3)), tf.float32)
    preprocessing, seed = Preprocessing(size=(16, 16), short_side=16), tf.constant([3, 4])
    plain = augment(clip, preprocessing, Augmentation(), seed).numpy()
    grey = augment(clip, preprocessing, Augmentation(grayscale=1.0), seed).numpy()
    assert np.ptp(grey, axis=-1).max() < 1e-6 < np.ptp(plain, axis=-1).max()
    # Mirrored alike: what is bright in one is bright in the other.
    assert np.corrcoef(grey[..., 0].ravel(), (plain @ [0.3, 0.59, 0.11]).ravel())[0, 1] > 0.99


@pytest.mark.skipif(not tf.__version__.startswith("2.16."), reason="only there it crashes")
def test_a_tensorflow_that_it_crashes_is_one_line():
    with pytest.raises(UserError, match="data.blur crashes .* TensorFlow 2.16"):
        random_blur(tf.zeros((1, 8, 8, 3)), 1.0, (0.1, 2.0), tf.constant([0, 0]))


@on_later_tensorflow
def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_io", None)
    for name in [name for name in sys.modules if name.startswith("tensorflow_io.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError, match=r"data.blur needs tensorflow-io.*mvit_tf\[io\]"):
        train_dataset(
            VideoList(("a.mp4",), (0,), ("a",)),
            sampling=ClipSampling(4),
            preprocessing=Preprocessing(size=(16, 16), short_side=16),
            augmentation=Augmentation(blur=0.5),
            batch_size=1,
            epochs=1,
            seed=0,
            ledger=OutcomeLedger(),
        )
    with pytest.raises(UserError, match=r"blur_sigma must be \(least, most\)"):
        Augmentation(blur_sigma=(2.0, 0.1))
