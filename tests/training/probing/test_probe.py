"""The linear probe: an ordinary model directory, features computed once, every video accounted."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit, softmax

from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.errors import UserError
from mvit_tf.export.predictor import open_predictor
from mvit_tf.training import trainer
from mvit_tf.training.experiments.experiment import load_experiment
from mvit_tf.training.probing import features
from mvit_tf.training.probing import probe as probe_module
from mvit_tf.training.probing.features import Features
from mvit_tf.training.probing.probe import fit_probe, score_features
from mvit_tf.training.storage.model_directory import ModelDirectory
from mvit_tf.training.storage.trained_model import load_trained_model
from tests.training.tiny import arrays, tiny_model, write_config, write_videos

VIEWS = 2 * 2  # of each training video: evaluation_clips, and mirrored


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = write_videos(tmp_path_factory.mktemp("videos"))
    (root / "up" / "zero.mp4").write_bytes(b"")
    return root


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    path = tmp_path_factory.mktemp("start") / "start.weights.h5"
    tiny_model(num_classes=3, seed=7).save_weights(path)
    return path


@pytest.fixture(scope="module")
def config(tmp_path_factory, videos):
    return write_config(tmp_path_factory.mktemp("config") / "tiny.yaml", videos)


@pytest.fixture(scope="module")
def keys(start):
    return f"train.probe=true,model.initial_weights={start}"


@pytest.fixture(scope="module")
def probed(tmp_path_factory, config, keys):
    directory = tmp_path_factory.mktemp("probed")
    trainer.run(mode="train_and_eval", model_dir=directory, config_file=config, overrides=keys)
    return directory


def count_views(monkeypatch):
    """A list that gets the number of videos of every pass of decoding."""
    passes, views = [], features.validation_views

    def counted(experiment, videos, **options):
        passes.append(len(videos))
        return views(experiment, videos, **options)

    monkeypatch.setattr(features, "validation_views", counted)
    return passes


def head_of(run):
    """The kernel of the head in a model directory's best checkpoint."""
    file = arrays(run / "checkpoints" / "best.weights.h5")
    kernels = [value for name, value in file.items() if np.shape(value) == (32, 8)]
    assert len(kernels) == 1
    return kernels[0]


def test_the_backbone_is_that_of_the_start_and_the_directory_an_ordinary_one(probed, start):
    directory = ModelDirectory(probed)
    experiment = load_experiment(directory.saved_experiment())
    model, progress = load_trained_model(experiment, directory)
    first = tiny_model(num_classes=3, seed=7)
    for one, two in zip(first.weights[:-2], model.weights[:-2], strict=True):
        np.testing.assert_array_equal(one, two)
    choice = json.loads((probed / "probe.json").read_text())
    # 32 videos, 8 of them held out, one of the others empty.
    assert choice["views"] == 24 * VIEWS
    assert choice["features"] == 32
    assert (
        min(choice["held_out_losses"].values()) == choice["held_out_losses"][f"{choice['l2']:.3g}"]
    )
    # What training says of the validation is what the evaluation finds, decoding again.
    evaluation = json.loads((probed / "evaluation.json").read_text())
    assert evaluation["top1_of_decoded"] == progress.best_accuracy
    assert evaluation["loss"] == pytest.approx(progress.best_loss, rel=1e-4)
    video = next(iter(directory.saved_split().validation.paths))
    of_model = open_predictor(probed).predict_videos(video)[0]
    trainer.run(mode="export", model_dir=probed)
    of_export = open_predictor(probed / "export").predict_videos(video)[0]
    np.testing.assert_allclose(of_model.probabilities, of_export.probabilities, atol=1e-5)


def test_every_video_that_is_left_out_is_named(probed):
    lines = [json.loads(line) for line in (probed / "outcomes.jsonl").read_text().splitlines()]
    assert [(line["outcome"], line["path"].endswith("zero.mp4")) for line in lines] == [
        ("empty_file", True)
    ]


def test_features_are_computed_once(tmp_path, monkeypatch, probed, videos, config, keys):
    run = tmp_path / "run"
    shutil.copytree(probed, run)
    passes = count_views(monkeypatch)
    head = head_of(run)
    trainer.run(mode="train", model_dir=run)
    assert passes == []
    np.testing.assert_array_equal(head_of(run), head)
    # Of a new video the features are computed, of the others not.
    new = videos / "up" / "new.mp4"
    shutil.copy(videos / "left" / sorted(p.name for p in (videos / "left").iterdir())[0], new)
    with open(new, "ab") as file:
        file.write(b"\0")
    try:
        trainer.run(mode="train", model_dir=run)
    finally:
        new.unlink()
    assert passes == [1]
    # With other weights all are.
    other = tmp_path / "other.weights.h5"
    tiny_model(num_classes=3, seed=8).save_weights(other)
    shutil.copytree(run / "features", tmp_path / "second" / "features")
    trainer.run(
        mode="train",
        model_dir=tmp_path / "second",
        config_file=config,
        overrides=f"train.probe=true,model.initial_weights={other}",
    )
    assert sorted(passes[1:]) == [8, 25]


def test_killed_it_goes_on_with_the_part_that_was_reached(
    tmp_path, monkeypatch, probed, config, keys
):
    monkeypatch.setattr(features, "_VIDEOS_A_PART", 5)
    add, parts = features.FeatureStore.add, []

    def killed(self, videos):
        if len(parts) == 2:
            raise KeyboardInterrupt
        parts.append(len(videos))
        add(self, videos)

    with monkeypatch.context() as patch:
        patch.setattr(features.FeatureStore, "add", killed)
        with pytest.raises(KeyboardInterrupt):
            trainer.run(mode="train", model_dir=tmp_path, config_file=config, overrides=keys)
    assert parts == [5, 5]
    # A part that a crash of the machine left damaged is computed again.
    damaged = sorted(tmp_path.glob("features/*/00002.npz"))[0]
    damaged.write_bytes(damaged.read_bytes()[:100])
    passes = count_views(monkeypatch)
    trainer.run(mode="train", model_dir=tmp_path, config_file=config, overrides=keys)
    assert passes == [25 - 5, 8]
    # Other neighbours in a batch may change the last bits.
    np.testing.assert_allclose(head_of(tmp_path), head_of(probed), atol=1e-3)


def test_mirror_images_are_those_of_the_views(start):
    model = tiny_model(num_classes=3, seed=7)
    views = np.random.default_rng(0).standard_normal((3, 4, 32, 32, 3)).astype("float32")
    step = features._FeatureStep(model, True, 5)
    found = step(tf.constant(views))
    plain = features._FeatureStep(model, False, 5)
    np.testing.assert_allclose(found[0::2], plain(tf.constant(views)), atol=1e-6)
    np.testing.assert_allclose(
        found[1::2], plain(tf.constant(views[:, :, :, ::-1].copy())), atol=1e-6
    )


def labelled(number=40, *, num_classes=4, multi_label=False, **fields):
    labels = np.arange(number) % num_classes
    given = tuple((int(label),) for label in labels) if multi_label else tuple(labels.tolist())
    return VideoList(
        paths=tuple(f"{index}.mp4" for index in range(number)),
        labels=given,
        class_names=tuple("abcdefgh"[:num_classes]),
        **fields,
    )


def features_of(videos, *, views=3, width=16, noise=0.5, seed=0):
    """Features that tell the classes, with some noise, of every view."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((videos.num_classes, width))
    index = np.repeat(np.arange(len(videos)), views)
    rows = centres[[videos.labels_of(video)[0] for video in index]]
    rows = rows + noise * rng.standard_normal(rows.shape)
    return Features(rows.astype(np.float32), index)


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_probe_tells_classes_apart_that_features_tell_apart(multi_label):
    videos = labelled(multi_label=multi_label)
    probe = fit_probe(features_of(videos), videos)
    fresh = features_of(videos, seed=0)
    rows = fresh.rows + np.random.default_rng(9).normal(0, 0.3, fresh.rows.shape)
    predicted = probe.head(rows).argmax(axis=1)
    assert np.mean(predicted == fresh.video_index % 4) > 0.95


def test_noise_is_held_small():
    """Where features say nothing, a far stronger L2 is chosen, and no class is much likelier."""
    videos = labelled()
    rng = np.random.default_rng(3)
    noise = Features(rng.standard_normal((120, 16)).astype(np.float32), np.arange(120) // 3)
    told = fit_probe(features_of(videos), videos)
    untold = fit_probe(noise, videos)
    assert untold.l2 > 10 * told.l2
    assert (
        softmax(untold.head(noise.rows), axis=1).max()
        < 0.6
        < 0.9
        < softmax(told.head(features_of(videos).rows), axis=1).max()
    )


def test_groups_are_held_out_whole():
    """Views of one source are alike: chosen within a source, L2 would be far too weak."""
    rng = np.random.default_rng(4)
    videos = labelled(groups=tuple(str(index // 8) for index in range(40)))
    # The features tell the group's place in it, which gives the class away within that group.
    rows = rng.standard_normal((5, 4, 16))[np.arange(40) // 8, np.arange(40) % 4]
    rows = Features(rows.astype(np.float32), np.arange(40))
    grouped = fit_probe(rows, videos)
    loose = fit_probe(rows, dataclasses.replace(videos, groups=None))
    assert grouped.l2 > 100 * loose.l2


def test_rare_classes_may_weigh_as_much():
    rng = np.random.default_rng(5)
    labels = (0,) * 36 + (1,) * 4
    videos = VideoList(tuple(map(str, range(40))), labels, ("often", "rare"))
    rows = rng.standard_normal((40, 4)).astype(np.float32)
    rows[36:, 0] += 1.0
    found = Features(rows, np.arange(40))
    plain, balanced = (fit_probe(found, videos, balanced=value) for value in (False, True))
    assert np.sum(plain.head(rows).argmax(1)) < np.sum(balanced.head(rows).argmax(1))


def test_class_weights_make_classes_count_alike_as_balanced_sampling_does(
    tmp_path, monkeypatch, probed, videos
):
    asked = []

    def noted(*arguments, balanced, **options):
        asked.append(balanced)
        return fit_probe(*arguments, balanced=balanced, **options)

    monkeypatch.setattr(probe_module, "fit_probe", noted)
    shutil.copytree(probed, tmp_path / "run")
    trainer.run(mode="train", model_dir=tmp_path / "run", overrides="train.class_weights=balanced")
    assert asked == [True]


def test_labels_of_any_number_are_scored_by_average_precision():
    """Two labels at once, one or none, and each its own probability."""
    labels = [(0,), (1,), (0, 1), ()] * 12
    videos = VideoList(tuple(map(str, range(48))), tuple(labels), ("left", "up"))
    rng = np.random.default_rng(6)
    rows = videos.label_matrix() @ rng.standard_normal((2, 16))
    rows = rows + rng.normal(0, 0.3, rows.shape)
    found = Features(rows.astype(np.float32), np.arange(48))
    probe = fit_probe(found, videos, balanced=True)
    experiment = load_experiment(None, "data.multi_label=true")
    report = score_features(experiment, probe.head, found, videos, OutcomeLedger())
    assert report.score > 0.99
    probabilities = expit(probe.head(rows))
    assert probabilities[2::4].min() > 0.5 > probabilities[3::4].max()


def test_a_video_without_views_counts_for_nothing():
    videos = labelled()
    everything = features_of(videos)
    kept = everything.video_index != 7
    part = Features(everything.rows[kept], everything.video_index[kept])
    assert np.isfinite(fit_probe(part, videos).head.kernel).all()


def test_what_the_probe_does_not_go_with_is_refused(config):
    with pytest.raises(UserError, match="train.probe trains the head alone"):
        load_experiment(config, "train.probe=true,train.lora_rank=4")
