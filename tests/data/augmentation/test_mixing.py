"""MixUp and CutMix: what a label weighs is what its clip shows."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from mvit_tf.data.augmentation.mixing import mix_batch, mix_batches
from mvit_tf.data.preprocessing import Augmentation
from tests.timm_files import timm_data

BOTH = {"mixup_alpha": 0.8, "cutmix_alpha": 1.0}
# Clip i is i everywhere, so that a mixed value tells who is in it and how much.
CLIPS = np.arange(4, dtype=np.float32).repeat(2 * 14 * 18 * 3).reshape(4, 2, 14, 18, 3)
LABELS = np.eye(4, dtype=np.float32)


def mixed(count, **fields):
    augmentation = Augmentation(**fields)
    mix = tf.function(lambda seed: mix_batch(tf.constant(CLIPS), LABELS, augmentation, seed))
    for number in range(count):
        clips, labels = mix(tf.constant([1, number]))
        yield clips.numpy(), labels.numpy()


def test_labels_weigh_what_the_clips_show_and_partners_are_reversed():
    kinds = {"mixup": 0, "cutmix": 0}
    for clips, labels in mixed(300, **BOTH):
        np.testing.assert_allclose(labels.sum(1), 1, atol=1e-6)
        # The mean of the values is the labels' weighted mean, whichever way they are mixed.
        np.testing.assert_allclose(clips.mean((1, 2, 3, 4)), labels @ np.arange(4), atol=2e-6)
        for own, row in enumerate(labels):
            assert row[[i for i in range(4) if i not in (own, 3 - own)]].max() == 0
        whole = np.isin(clips, np.arange(4)).all()
        kinds["cutmix" if whole else "mixup"] += 1
        if whole:
            shown = (clips[0, 0, :, :, 0] == 0).mean()
            assert abs(labels[0, 0] - shown) < 1e-6
            assert (clips == clips[:, :1]).all()  # One box through all frames.
            box = clips[0, 0, :, :, 0] == 3
            assert box.sum() == box.any(1).sum() * box.any(0).sum()
    assert 120 < kinds["mixup"] < 180


def test_weights_are_drawn_from_beta():
    for alpha, deviation in ((0.8, 0.310), (0.2, 0.423)):  # 1 / sqrt(8 * alpha + 4)
        weights = np.array([labels[0, 0] for _, labels in mixed(500, mixup_alpha=alpha)])
        assert abs(weights.mean() - 0.5) < 0.05 and abs(weights.std() - deviation) < 0.025


def test_cutmix_draws_timms_boxes(monkeypatch):
    """Cut at the border the boxes cover less than the half that Beta(1, 1) asks for."""
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(4000):
        ratio = np.sqrt(rng.random())
        cut = np.array([int(14 * ratio), int(18 * ratio)])
        centre = np.array([rng.integers(14), rng.integers(18)])
        size = np.minimum(centre + (cut + 1) // 2, [14, 18]) - np.maximum(centre - cut // 2, 0)
        shares.append(1 - size.prod() / (14 * 18))
    weights = [labels[0, 0] for _, labels in mixed(1000, cutmix_alpha=1.0)]
    expected = np.quantile(shares, (0.1, 0.3, 0.5, 0.7, 0.9))
    np.testing.assert_allclose(np.quantile(weights, (0.1, 0.3, 0.5, 0.7, 0.9)), expected, atol=0.05)


def test_probabilities():
    untouched = [(clips == CLIPS).all() for clips, _ in mixed(200, mixup_prob=0.25, **BOTH)]
    assert 125 < sum(untouched) < 175
    for clips, labels in mixed(20, mixup_switch_prob=1.0, **BOTH):
        assert np.isin(clips, np.arange(4)).all()
        assert labels[1, 2] == pytest.approx(labels[2, 1])
    assert not any(np.isin(clips, range(4)).all() for clips, _ in mixed(20, mixup_alpha=0.8))


def test_the_middle_of_an_odd_batch_stays_as_it_is():
    for fields in ({"mixup_alpha": 0.8}, {"cutmix_alpha": 1.0}):
        clips, labels = mix_batch(
            tf.constant(CLIPS[:3]), LABELS[:3], Augmentation(**fields), tf.constant([2, 0])
        )
        np.testing.assert_allclose(clips[1], CLIPS[1], atol=1e-6)
        np.testing.assert_allclose(labels[1], LABELS[1], atol=1e-6)
        assert 0.01 < labels[0, 0] < 0.99
        assert float(labels[0, 2]) == pytest.approx(1 - float(labels[0, 0]))


def test_a_resumed_dataset_mixes_as_an_uninterrupted_one():
    augmentation = Augmentation(**BOTH)

    def weights(start, stop, seed=5):
        batches = tf.data.Dataset.from_tensors((CLIPS, LABELS)).repeat(stop - start)
        batches = mix_batches(
            batches, augmentation, seed=seed, steps=tf.data.Dataset.range(start, stop)
        )
        return [labels[0, 0] for _, labels in batches.as_numpy_iterator()]

    whole = weights(0, 12)
    assert len(set(whole)) == 12
    assert weights(7, 12) == whole[7:]
    assert not set(weights(0, 12, seed=6)) & set(whole)
    assert len(weights(0, 2, seed=2**40)) == 2


def test_smoothing_in_the_loss_is_smoothing_before_mixing():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(4, 4)).astype(np.float32)
    smoothing, (_, labels) = 0.1, next(mixed(1, mixup_alpha=0.8))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    smoothed = LABELS * (1 - smoothing) + smoothing / 4
    weight = labels[0, 0]
    targets = weight * smoothed + (1 - weight) * smoothed[::-1]
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = -(targets * log_probabilities).sum(1).mean()
    assert 0.01 < weight < 0.99
    assert float(loss(labels, logits)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.compare
@pytest.mark.parametrize("cut", [False, True])
def test_mixed_batches_are_timms(cut, monkeypatch):
    """With timm's draws set to ours: the weight, and the box where there is one."""
    import torch

    timm = timm_data("mixup")
    rng = np.random.default_rng(3)
    frames = rng.normal(size=(4, 2, 14, 18, 3)).astype(np.float32)
    augmentation = Augmentation(**{"cutmix_alpha" if cut else "mixup_alpha": 1.0})
    for number in range(20):
        clips, labels = mix_batch(
            tf.constant(frames), tf.constant(LABELS), augmentation, tf.constant([8, number])
        )
        weight = float(labels[0, 0])
        mix = timm.Mixup(
            mixup_alpha=0.0 if cut else 1.0,
            cutmix_alpha=1.0 if cut else 0.0,
            label_smoothing=0.0,
            num_classes=4,
        )
        drawn = weight
        if cut:
            box = (clips.numpy() != frames)[0, 0].any(-1)
            rows, columns = np.flatnonzero(box.any(1)), np.flatnonzero(box.any(0))
            if not len(rows):
                continue
            place = (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1)
            monkeypatch.setattr(timm, "rand_bbox", lambda *_, place=place, **__: place)
            drawn = 0.5
        monkeypatch.setattr(mix, "_params_per_batch", lambda drawn=drawn: (drawn, cut))
        # timm's images are (B, C, H, W): the frames of a clip as channels.
        flat = frames.transpose(0, 1, 4, 2, 3).reshape(4, 6, 14, 18)
        theirs, targets = mix(torch.from_numpy(flat.copy()), torch.arange(4))
        theirs = theirs.numpy().reshape(4, 2, 3, 14, 18).transpose(0, 1, 3, 4, 2)
        np.testing.assert_allclose(clips, theirs, atol=1e-6)
        np.testing.assert_allclose(labels, targets.numpy(), atol=1e-6)
