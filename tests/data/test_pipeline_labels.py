"""Labels of clips: where an action counts, clips of one video in a batch, balanced epochs."""

import dataclasses

import numpy as np
import pytest

from mvit_tf.data.clips import gather_frames, training_frames
from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.data.pipeline import steps_per_epoch, train_dataset
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.data.transforms import Augmentation, Preprocessing
from mvit_tf.errors import UserError

from .videos import read_numbers, write_numbered, write_video

SAMPLING = ClipSampling(num_frames=4, sampling_rate=2)
# Leaves the pixels of the middle of 80x64 frames as they are.
RAW = Preprocessing(size=(64, 80), short_side=64, mean=(0, 0, 0), std=(1 / 255,) * 3)
WHOLE = Augmentation(scale=(1.0, 1.0), ratio=(1.25, 1.25), flip=False)


def batches(videos, **options):
    options = {
        "sampling": SAMPLING,
        "preprocessing": RAW,
        "augmentation": WHOLE,
        "batch_size": 2,
        "epochs": 1,
        "seed": 3,
        "ledger": OutcomeLedger(),
        "num_parallel": 2,
        **options,
    }
    return [(clips.numpy(), targets.numpy()) for clips, targets in train_dataset(videos, **options)]


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """Two videos of three seconds at 30 frames a second, whose frames carry their numbers."""
    folder = tmp_path_factory.mktemp("numbered")
    return tuple(str(write_numbered(folder / f"{i}.mp4", 90)) for i in range(2))


def test_a_clip_says_when_its_frames_are_shown(numbered):
    items = training_frames(numbered[0], SAMPLING, np.random.SeedSequence(1), (1.0, 2.5))
    frames, facts = gather_frames(items, lambda frames, _: frames)
    shown = read_numbers(frames[facts.picks])
    np.testing.assert_allclose(facts.moments * 30, shown, atol=1e-6)
    assert facts.moments.min() >= 1.0 and facts.moments.max() < 2.5


def test_an_action_counts_in_the_clips_that_overlap_it(numbered):
    """From 1.0 to 1.2 s, frames 30 to 35; the other label has no times."""
    intervals = (((1, 1.0, 1.2),),) * 2
    videos = VideoList(numbered, ((0, 1),) * 2, ("a", "b"), intervals=intervals)
    counted = []
    for clips, targets in batches(videos, epochs=12):
        assert targets.dtype == np.float32 and targets[:, 0].tolist() == [1, 1]
        numbers = read_numbers(np.rint(clips).astype(np.uint8))
        overlaps = (numbers[:, 0] < 36) & (numbers[:, -1] >= 30)
        assert targets[:, 1].tolist() == overlaps.tolist()
        counted += overlaps.tolist()
    assert 0 < sum(counted) < len(counted)


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    """Seven videos; the frames of number i are a ramp around 20 i + 40."""
    folder = tmp_path_factory.mktemp("grey")
    ramp = np.linspace(-15, 15, 32)[:, None]
    paths = []
    for i in range(7):
        frames = np.full((12, 24, 32, 3), 20 * i + 40 + ramp, np.uint8)
        paths.append(str(write_video(folder / f"{i}.mp4", frames)))
    return VideoList(tuple(paths), (0, 0, 0, 0, 0, 1, 1), ("a", "b"))


SMALL = {
    "preprocessing": dataclasses.replace(RAW, size=(16, 16), short_side=20),
    "augmentation": Augmentation(scale=(0.3, 0.5)),
}


def test_several_clips_of_a_video_stand_side_by_side(grey):
    """A batch of 6 holds 2 clips of 3 videos, and an epoch of 7 videos two such batches."""
    assert steps_per_epoch(grey, 6, 2) == 2 and steps_per_epoch(grey, 6) == 1
    ledger = OutcomeLedger()
    options = {**SMALL, "batch_size": 6, "repeated_augmentation": 2}
    whole = batches(grey, epochs=3, ledger=ledger, **options)
    assert len(whole) == 6
    for epoch in range(3):
        seen = []
        for clips, targets in whole[2 * epoch : 2 * epoch + 2]:
            assert clips.shape == (6, 4, 16, 16, 3)
            videos = np.rint((clips.mean(axis=(1, 2, 3, 4)) - 40) / 20).astype(int)
            assert (videos[::2] == videos[1::2]).all()
            assert targets.argmax(axis=1).tolist() == [grey.labels[i] for i in videos]
            assert (np.abs(clips[::2] - clips[1::2]).max(axis=(1, 2, 3, 4)) > 1).all()
            seen += videos[::2].tolist()
        assert len(set(seen)) == 6
        assert ledger.epoch_entries(epoch)[0]["clips"] == 12
    # Going on late is the same, and so is the first clip of each video without its repeats.
    for (clips, _), (again, _) in zip(
        whole[2:], batches(grey, epochs=3, start_step=2, **options), strict=True
    ):
        np.testing.assert_array_equal(clips, again)
    single = batches(grey, **SMALL, batch_size=3)
    np.testing.assert_array_equal(whole[0][0][::2], single[0][0])


def test_repeats_that_do_not_fit_are_refused(grey):
    with pytest.raises(UserError, match="batch_size=6 must be a multiple .*augmentation=4"):
        steps_per_epoch(grey, 6, 4)
    with pytest.raises(UserError, match="7 videos are fewer than one batch of 8"):
        steps_per_epoch(grey, 16, 2)


def test_a_balanced_epoch_goes_on_as_the_uninterrupted_run(grey):
    options = {**SMALL, "balanced_sampling": True, "batch_size": 7}
    whole = batches(grey, epochs=3, **options)
    assert all(abs(targets[:, 0].sum() - 3.5) == 0.5 for _, targets in whole)
    ((clips, _),) = batches(grey, epochs=3, start_step=2, **options)
    np.testing.assert_array_equal(clips, whole[2][0])
