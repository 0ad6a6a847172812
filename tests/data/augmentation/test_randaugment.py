"""RandAugment: its settings, its draws, and every transform against timm's."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mvit_tf.data.augmentation.randaugment import TRANSFORMS, rand_augment
from mvit_tf.data.augmentation.randaugment_spec import RandAugmentSpec
from mvit_tf.errors import UserError
from tests.data.augmentation.clips import varied_clip
from tests.timm_files import timm_data

PAPER = "rand-m7-n4-mstd0.5-inc1"


def test_settings_are_read_as_timm_writes_them():
    assert RandAugmentSpec.parse(PAPER) == RandAugmentSpec(7, 4, 0.5, 0.5)
    assert RandAugmentSpec.parse("rand-inc1") == RandAugmentSpec(10, 2, 0, 0.5)
    assert RandAugmentSpec.parse("rand-inc1-p0.8-n6-m9") == RandAugmentSpec(9, 6, 0, 0.8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rand-m7-n4", "'rand-m7-n4' must start with 'rand' and hold 'inc1' once"),
        ("augmix-m7-inc1", "must start with 'rand'"),
        ("rand-inc1-inc1", "'inc1' once"),
        ("rand-m7-x3-inc1", "'x3' is not known; the parts are m, n, mstd and p"),
        ("rand-m7-m8-inc1", "'m8' is there twice"),
        ("rand-m-inc1", "'m' is not known"),
        ("rand-m7-n0-inc1", "num_layers=0 must be at least 1"),
        ("rand-m7-n1.5-inc1", "n must be a whole number"),
        ("rand-m11-inc1", "magnitude must be 0 to 10, got 11"),
        ("rand-mstd101-inc1", "magnitude_std must be 0 to 100, got 101"),
        ("rand-p2-inc1", "prob=2.0 must be at most 1"),
    ],
)
def test_other_settings_are_refused(text, message):
    with pytest.raises(UserError, match=f"rand_augment=.*{message}"):
        RandAugmentSpec.parse(text)


def test_the_clip_is_a_pure_function_of_the_seed_eagerly_and_in_tf_data():
    clip, spec = varied_clip(24, 32), RandAugmentSpec.parse(PAPER)
    seeds = [[3, number] for number in range(40)]
    eager = np.stack([rand_augment(tf.constant(clip), spec, tf.constant(seed)) for seed in seeds])
    dataset = tf.data.Dataset.from_tensor_slices(seeds)
    dataset = dataset.map(lambda seed: rand_augment(tf.constant(clip), spec, seed))
    assert dataset.element_spec.shape == clip.shape
    np.testing.assert_array_equal(np.stack(list(dataset.as_numpy_iterator())), eager)
    # All four layers are left out once in 16 times.
    changed = (eager != clip).any((1, 2, 3, 4))
    assert 33 <= changed.sum() < 40
    # A few are alike, of a single transform that has no magnitude.
    assert len({view.tobytes() for view in eager[changed]}) > 0.9 * changed.sum()


def test_every_transform_has_the_same_numbers_in_a_graph():
    """Of many values, as a last bit of one in a million decides where its fraction is cut off."""
    clip = tf.constant(np.random.default_rng(0).integers(0, 256, (24, 80, 96, 3), np.uint8))
    levels = np.float32([0.137, 0.583, 0.719])
    for name, transform in TRANSFORMS.items():
        dataset = tf.data.Dataset.from_tensor_slices(levels)
        dataset = dataset.map(
            lambda level, f=transform: f(clip // 2 + 31, level, tf.constant(-1.0))
        )
        for level, in_graph in zip(levels, dataset.as_numpy_iterator(), strict=True):
            eager = transform(clip // 2 + 31, tf.constant(level), tf.constant(-1.0))
            np.testing.assert_array_equal(in_graph, eager, err_msg=name)


def test_draws_follow_the_settings(monkeypatch):
    drawn = []

    def record(name):
        return lambda clip, level, sign: (drawn.append((name, float(level), float(sign))), clip)[1]

    for name in TRANSFORMS:
        monkeypatch.setitem(TRANSFORMS, name, record(name))
    clip, spec = tf.zeros((1, 4, 4, 3), tf.uint8), RandAugmentSpec.parse(PAPER)
    for number in range(400):
        rand_augment(clip, spec, tf.constant([5, number]))
    names, levels, signs = zip(*drawn, strict=True)
    # 1600 layers: 800 applied, give or take 20, and 53 of each transform, give or take 7.
    assert 720 < len(drawn) < 880
    counts = [names.count(name) for name in TRANSFORMS]
    assert len(counts) == 15 and min(counts) > 25 and max(counts) < 85
    assert abs(np.mean(levels) - 0.7) < 0.01 and abs(np.std(levels) - 0.05) < 0.005
    assert set(signs) == {-1.0, 1.0} and abs(np.mean(signs)) < 0.15


def test_the_magnitude_stays_in_its_range(monkeypatch):
    levels = []
    for name in TRANSFORMS:
        monkeypatch.setitem(TRANSFORMS, name, lambda c, v, s: (levels.append(float(v)), c)[1])
    spec = RandAugmentSpec(magnitude=9, num_layers=200, magnitude_std=8.0, prob=1.0)
    rand_augment(tf.zeros((1, 4, 4, 3), tf.uint8), spec, tf.constant([0, 0]))
    assert min(levels) == 0.0 and max(levels) == 1.0 and len(levels) == 200


@pytest.mark.compare
@pytest.mark.parametrize("magnitude", [1.3, 7.0, 9.7])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_every_transform_is_timms(magnitude, sign, monkeypatch):
    """Colours to the grey level; movements within one level, in less than 6 % of the values."""
    timm = timm_data("auto_augment")
    assert list(TRANSFORMS) == timm._RAND_INCREASING_TRANSFORMS
    monkeypatch.setattr(timm, "_randomly_negate", lambda value: sign * value)
    hparams = {"interpolation": Image.Resampling.BILINEAR, "img_mean": timm._FILL}
    clip = varied_clip(64, 64)
    for name, transform in TRANSFORMS.items():
        theirs = timm.AugmentOp(name, prob=1.0, magnitude=magnitude, hparams=hparams)
        expected = np.stack([np.asarray(theirs(Image.fromarray(frame))) for frame in clip])
        ours = transform(tf.constant(clip), tf.constant(magnitude / 10), tf.constant(sign)).numpy()
        difference = np.abs(ours.astype(int) - expected)
        moves = name.startswith(("Rotate", "Shear", "Translate"))
        assert difference.max() <= (1 if moves else 0), name
        assert (difference > 0).mean() < 0.06, name


@pytest.mark.compare
def test_timm_reads_the_settings_in_the_same_way():
    timm = timm_data("auto_augment")
    for text in (PAPER, "rand-m9-n6-mstd0.5-inc1", "rand-inc1-p0.8", "rand-m7-mstd0.5-inc1"):
        spec, theirs = RandAugmentSpec.parse(text), timm.rand_augment_transform(text)
        operation = theirs.ops[0]
        assert (spec.num_layers, spec.magnitude) == (theirs.num_layers, operation.magnitude)
        assert (spec.magnitude_std, spec.prob) == (operation.magnitude_std, operation.prob)
