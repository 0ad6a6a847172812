"""The loader in one call: what it gives, that Keras takes it, and what it does of bad videos."""

import gc
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import logging

import mvit_tf
from mvit_tf.data.lists.video_list import load_video_list
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.data.pipeline import evaluation_views
from mvit_tf.data.preprocessing import Augmentation
from mvit_tf.data.video.decode_workers import DecodeWorkers
from mvit_tf.errors import UserError
from tests.training.tiny import tiny_model, write_videos

SMALL = {"num_frames": 4, "sampling_rate": 2, "size": 32, "batch_size": 5, "verbose": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_videos(tmp_path_factory.mktemp("videos"), videos_per_class=2)


def load(folder, **options):
    return mvit_tf.video_dataset_from_directory(folder, **{**SMALL, "workers": 0, **options})


def gathered(dataset):
    clips, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(clips), np.concatenate(labels)


def test_without_shuffling_the_clips_are_those_of_evaluation(folder, capsys):
    dataset = load(folder, shuffle=False, verbose=True)
    assert capsys.readouterr().out == "Found 16 videos belonging to 8 classes.\n"
    assert dataset.element_spec[0].shape.as_list() == [None, 4, 32, 32, 3]
    assert dataset.class_names == sorted(path.name for path in folder.iterdir())
    assert dataset.file_paths == sorted(map(str, folder.glob("*/*.mp4")))
    clips, labels = gathered(dataset)
    views = evaluation_views(
        load_video_list(folder),
        sampling=dataset.sampling,
        preprocessing=dataset.preprocessing,
        num_clips=1,
        num_crops=1,
        batch_size=16,
        ledger=OutcomeLedger(),
    )
    np.testing.assert_array_equal(clips, next(views.as_numpy_iterator())[0])
    assert labels.dtype == np.int32 and labels.tolist() == [i // 2 for i in range(16)]


def test_each_epoch_has_every_video_in_an_order_of_its_own(folder):
    plain, _ = gathered(load(folder, shuffle=False))
    orders = []
    dataset = load(folder, seed=3)
    for _ in range(2):
        clips, labels = gathered(dataset)
        found = [int(np.flatnonzero((plain == clip).all(axis=(1, 2, 3, 4)))[0]) for clip in clips]
        assert sorted(found) == list(range(16)) and labels.tolist() == [i // 2 for i in found]
        orders.append(found)
    assert orders[0] != orders[1] != list(range(16))


def test_augmented_clips_differ_by_epoch_and_repeat_by_seed(folder):
    first, again = (load(folder, augment=True, seed=7) for _ in range(2))
    assert len(first) == 4  # the last batch holds one clip
    one, two = gathered(first), gathered(first)
    assert len(one[0]) == len(two[0]) == 16 and sorted(one[1]) == sorted(two[1])
    assert not np.array_equal(one[0], two[0])
    for expected, got in zip((*one, *two), (*gathered(again), *gathered(again)), strict=True):
        np.testing.assert_array_equal(expected, got)
    _, in_order = gathered(load(folder, augment=Augmentation(flip=False), shuffle=False))
    assert in_order.tolist() == [i // 2 for i in range(16)]


def test_the_split_is_of_every_class_and_disjoint(folder, capsys):
    split = {"validation_split": 0.5, "seed": 5, "verbose": True}
    training, validation = load(folder, subset="both", **split)
    assert "Using 8 videos for training, 8 for validation." in capsys.readouterr().out
    assert {*training.file_paths} | {*validation.file_paths} == {*load(folder).file_paths}
    for subset, expected in (("training", training), ("validation", validation)):
        assert load(folder, subset=subset, **split).file_paths == expected.file_paths
    assert sorted(gathered(training)[1]) == gathered(validation)[1].tolist() == list(range(8))


def test_label_modes(folder, tmp_path):
    _, labels = gathered(load(folder, label_mode="categorical", shuffle=False))
    np.testing.assert_array_equal(labels, np.repeat(np.eye(8, dtype=np.float32), 2, axis=0))
    for name in ("left", "up"):
        shutil.copytree(folder / name, tmp_path / name)
    _, labels = gathered(load(tmp_path, label_mode="binary", shuffle=False, augment=True))
    assert labels.tolist() == [[0.0], [0.0], [1.0], [1.0]]
    for options in ({"labels": None}, {"label_mode": None}):
        clips = next(iter(load(tmp_path, **options)))
        assert clips.shape == (4, 4, 32, 32, 3)
    dataset = load(tmp_path, labels=[3, 1, 0, 2], shuffle=False)
    assert dataset.class_names == ["0", "1", "2", "3"]
    assert gathered(dataset)[1].tolist() == [3, 1, 0, 2]


def test_keras_trains_and_evaluates_on_it(folder):
    training, validation = load(
        folder, subset="both", validation_split=0.5, seed=1, augment=True, workers=1
    )
    model = tiny_model(num_classes=8)
    model.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    history = model.fit(training, epochs=2, validation_data=validation, verbose=0).history
    assert len(history["loss"]) == 2 and np.isfinite(history["val_loss"]).all()
    scores = model.evaluate(validation, verbose=0, return_dict=True)
    assert scores["loss"] == pytest.approx(history["val_loss"][-1], rel=1e-5)


@pytest.mark.parametrize("augment", [False, True])
def test_a_bad_video_is_warned_of_and_on_record(folder, tmp_path, monkeypatch, augment):
    said = []
    monkeypatch.setattr(logging, "warning", said.append)
    root = tmp_path / "videos"
    shutil.copytree(folder, root)
    bad = root / "up" / "broken.mp4"
    bad.write_bytes(b"no video")
    dataset = load(root, augment=augment, shuffle=False)
    for _ in range(2):
        clips, labels = gathered(dataset)
    assert len(clips) == len(labels) == (17 if augment else 16)
    assert list(dataset.ledger.failures) == [str(bad)] and len(dataset.ledger) == 17
    (line,) = said
    consequence = "is replaced by another" if augment else "is left out"
    assert line.startswith(f"{bad} (") and line.endswith(consequence)


def test_no_video_that_can_be_decoded_is_one_line(tmp_path):
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match="none of the 1 videos could be decoded"):
        load(tmp_path)


def test_decoding_processes_end_with_the_dataset(folder, monkeypatch):
    made = []

    class Recorded(DecodeWorkers):
        def __init__(self, count):
            super().__init__(count)
            made.append(self)

    monkeypatch.setattr("mvit_tf.data.directory_dataset.DecodeWorkers", Recorded)
    dataset = load(folder, workers=1, shuffle=False)
    derived = dataset.map(lambda clips, labels: clips).take(1)
    del dataset
    gc.collect()
    assert len(next(iter(derived))) == 5  # what is built upon it keeps it alive
    (worker,) = [*made[0]._idle, *made[0]._busy]
    assert worker._process.poll() is None
    del derived
    gc.collect()
    assert worker._process.wait(timeout=30) is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_mode": "float"}, "label_mode must be one of 'int', 'categorical', 'binary', None"),
        ({"labels": "guessed"}, "a list of integers, got 'guessed'"),
        ({"labels": [0, 1]}, "2 labels, but .* holds 16 videos"),
        ({"labels": np.array([0, 1])}, "2 labels, but .* holds 16 videos"),
        ({"batch_size": None}, "batch_size must be an integer, at least 1, got None"),
        ({"labels": None, "class_names": ["a"]}, 'class_names go with labels="inferred" only'),
        ({"label_mode": "binary"}, "is for two classes, there are 8"),
        ({"validation_split": 0.2}, "validation_split and subset go together"),
        ({"subset": "training", "validation_split": 0.2}, "needs a seed"),
        ({"subset": "test", "validation_split": 0.2}, "got 'test'"),
        ({"subset": "both", "validation_split": 1.5}, "between 0 and 1, not 1.5"),
        ({"augment": "strong"}, "got 'strong'"),
        ({"augment": Augmentation(mixup_alpha=0.8)}, "mix whole batches"),
        ({"batch_size": 0}, "batch_size must be an integer, at least 1, got 0"),
        ({"seed": -1}, "0 or more, got -1"),
        ({"num_frames": 0}, "num_frames=0 must be at least 1"),
        ({"workers": -1}, "at least 1, got -1"),
    ],
)
def test_mistakes_are_one_line(folder, options, message):
    with pytest.raises(UserError, match=message) as caught:
        load(folder, **options)
    assert "\n" not in str(caught.value)


def test_it_runs_under_a_strategy(folder):
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    for batch in strategy.experimental_distribute_dataset(load(folder, augment=True)):
        assert batch[0].shape[1:] == (4, 32, 32, 3)
