"""Checkpoints: whole after a kill at any moment, exact, and strict about what they fit."""

import os
import stat

import keras
import numpy as np
import pytest

from mvit_tf import files
from mvit_tf.errors import UserError
from mvit_tf.training.checkpoints import (
    CheckpointStore,
    Progress,
    load_initial_weights,
    load_weights,
    restore,
    weights_path,
)
from mvit_tf.training.optimizer import ReplicaAdamW
from tests.training.tiny import tiny_model


def compiled_model(**kwargs):
    model = tiny_model(**kwargs)
    optimizer = ReplicaAdamW(1e-2)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, loss="mse")
    return model


def train_a_step(model, seed=0):
    frames = np.random.default_rng(seed).normal(size=(2, 4, 32, 32, 3)).astype("float32")
    model.train_on_batch(frames, np.eye(model.output_shape[-1], dtype="float32")[:2])


def state(model):
    """Everything that decides how training goes on: weights, slots, random generators."""
    variables = [*model.variables, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def assert_same_state(first, second):
    for one, two in zip(state(first), state(second), strict=True):
        np.testing.assert_array_equal(one, two)


def test_progress_keeps_the_best_epoch_and_breaks_ties_by_loss():
    progress = Progress().after_epoch(0.5, 1.0)
    assert progress == Progress(1, 1, 0.5, 1.0)
    progress = progress.after_epoch(0.4, 0.1)
    assert (progress.epoch, progress.best_epoch, progress.is_best) == (2, 1, False)
    progress = progress.after_epoch(None, None)
    assert (progress.epoch, progress.best_epoch) == (3, 1)
    assert progress.after_epoch(0.5, 1.0).best_epoch == 1
    assert progress.after_epoch(0.5, 0.9).best_epoch == 4


def test_without_validation_the_newest_is_the_best():
    progress = Progress().after_epoch(None, None).after_epoch(None, None)
    assert (progress.epoch, progress.best_epoch, progress.is_best) == (2, 2, True)
    assert progress.after_epoch(0.1, 9.0).best_epoch == 3


def test_a_restored_model_goes_on_bit_for_bit(tmp_path):
    model = compiled_model()
    for step in range(2):
        train_a_step(model, step)
    store = CheckpointStore(tmp_path)
    store.save(model, Progress(1, 1, 0.5, 1.0))
    other = compiled_model(seed=9)
    path, progress = store.newest()
    assert progress == Progress(1, 1, 0.5, 1.0)
    restore(other, path)
    assert_same_state(model, other)
    for step in range(3):  # dropout and stochastic depth draw the same numbers again
        train_a_step(model, step)
        train_a_step(other, step)
    assert_same_state(model, other)


@pytest.fixture(scope="module")
def two_models():
    return compiled_model(), compiled_model(seed=9)


def change_state(model):
    """Another value for everything a checkpoint holds, without the cost of a training step."""
    for variable in [*model.variables, *model.optimizer.variables]:
        variable.assign(keras.ops.convert_to_numpy(variable) + 1)


class Killed(BaseException):
    """Stands for SIGKILL: nothing may clean up after it."""


@pytest.mark.parametrize("kill_at", range(6))
def test_a_kill_at_any_moment_leaves_a_loadable_pair(tmp_path, monkeypatch, two_models, kill_at):
    """Kill points of a save of best and last: before, half way into, and after each write."""
    store = CheckpointStore(tmp_path)
    model, again = two_models
    store.save(model, Progress(1, 1, 0.5, 1.0))
    before = state(model)
    change_state(model)
    moments = iter(range(6))

    def moment():
        if next(moments) == kill_at:
            raise Killed

    write, rename = files.os.fsync, files.os.replace

    def writing(descriptor):
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            moment()
        write(descriptor)

    def renaming(source, target):
        moment()
        rename(source, target)
        moment()

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", writing)
        patch.setattr(files.os, "replace", renaming)
        patch.setattr(files.Path, "unlink", lambda self, missing_ok=False: None)
        with pytest.raises(Killed):
            store.save(model, Progress(2, 2, 0.6, 0.9))

    path, progress = store.newest()
    restore(again, path)
    expected = before if progress.epoch == 1 else state(model)
    for one, two in zip(state(again), expected, strict=True):
        np.testing.assert_array_equal(one, two)
    assert progress.epoch == (1 if kill_at < 2 else 2)
    assert store.best()[1].is_best
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "best.weights.h5",
        "last.weights.h5",
    ]


def test_a_damaged_last_falls_back_to_best(tmp_path, two_models):
    store = CheckpointStore(tmp_path)
    model, _ = two_models
    store.save(model, Progress(1, 1, 0.5, 1.0))
    store.save(model, Progress(2, 1, 0.5, 1.0))
    whole = store.path("last").read_bytes()
    store.path("last").write_bytes(whole[: len(whole) // 2])
    assert store.newest() == (store.path("best"), Progress(1, 1, 0.5, 1.0))
    store.path("best").write_bytes(b"")
    with pytest.raises(UserError, match="last.weights.h5 cannot be read.*best.weights.h5 cannot"):
        store.newest()


def test_an_empty_directory_has_no_checkpoint(tmp_path):
    assert CheckpointStore(tmp_path / "absent").newest() is None
    with pytest.raises(UserError, match="holds no checkpoint best.weights.h5; train first"):
        CheckpointStore(tmp_path).best()


def test_other_class_counts_are_named(tmp_path):
    tiny_model(num_classes=5).save_weights(tmp_path / "five.weights.h5")
    with pytest.raises(UserError, match="was trained on 5 classes, the model has 3"):
        load_weights(tiny_model(num_classes=3), tmp_path / "five.weights.h5")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"embed_dim": 32}, r"has shape \(.*\b32\b.*\) in the file and \(.*\b16\b.*\) in the mod"),
        ({"depths": (1, 2)}, r"holds \d+ weight arrays, the model has \d+"),
        ({"depths": (1,)}, r"is not in the file|has shape"),
    ],
)
def test_other_shapes_and_depths_are_named(tmp_path, fields, message):
    tiny_model(**fields).save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(UserError, match=message) as refusal:
        load_weights(tiny_model(), tmp_path / "other.weights.h5")
    assert "\n" not in str(refusal.value)


def test_plain_weights_files_are_no_checkpoints(tmp_path):
    path = CheckpointStore(tmp_path).path("last")
    tiny_model().save_weights(path)
    with pytest.raises(UserError, match="is a weights file, not a training checkpoint"):
        CheckpointStore(tmp_path).newest()


def test_initial_weights_from_a_file_and_from_a_model_directory(tmp_path):
    trained = compiled_model(seed=1)
    CheckpointStore(tmp_path / "run" / "checkpoints").save(trained, Progress(1, 1, 0.5, 1.0))
    trained.save_weights(tmp_path / "plain.weights.h5")
    model = compiled_model(seed=2)
    for source in ("run", "run/checkpoints", "plain.weights.h5"):
        change_state(model)
        load_initial_weights(model, tmp_path / source, reset_head=False, twin=None)
        for one, two in zip(model.get_weights(), trained.get_weights(), strict=True):
            np.testing.assert_array_equal(one, two)
    with pytest.raises(UserError, match="absent does not exist"):
        weights_path(tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("not weights")
    with pytest.raises(UserError, match="notes.txt"):
        load_initial_weights(model, tmp_path / "notes.txt", reset_head=False, twin=None)


@pytest.mark.parametrize("classes", [3, 5])
def test_reset_head_takes_all_but_the_head(tmp_path, classes):
    source = tmp_path / "trained.weights.h5"
    trained = tiny_model(num_classes=classes, seed=1)
    trained.save_weights(source)
    model = tiny_model(num_classes=3, seed=2)
    head = model.get_layer("head").get_weights()
    load_initial_weights(
        model, source, reset_head=True, twin=lambda n: tiny_model(num_classes=n, seed=3)
    )
    for layer, other in zip(model.layers, trained.layers, strict=True):
        expected = head if layer.name == "head" else other.get_weights()
        for one, two in zip(layer.get_weights(), expected, strict=True):
            np.testing.assert_array_equal(one, two)


def test_other_random_generators_are_refused(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(compiled_model(drop_path_rate=0.0), Progress(1, 1))
    with pytest.raises(UserError, match="random generators"):
        restore(compiled_model(), store.path("last"))


def test_a_full_disk_is_noticed_before_the_file_is_begun(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path / "checkpoints")
    model = compiled_model(seed=1)
    store.save(model, Progress(1, 1, 0.5, 1.0))
    before = {path.name: path.read_bytes() for path in store.directory.iterdir()}
    usage = type("Usage", (), {"free": 2**20})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="no space for a checkpoint .* 1 MiB are free"):
        store.save(model, Progress(2, 2, 0.6, 1.0))
    assert {path.name: path.read_bytes() for path in store.directory.iterdir()} == before


def test_a_damaged_last_checkpoint_is_named_and_a_damaged_best_has_a_cure(tmp_path, capsys):
    store = CheckpointStore(tmp_path)
    model = compiled_model(seed=1)
    store.save(model, Progress(1, 1, 0.5, 1.0))
    store.save(model, Progress(2, 1, 0.5, 1.0))
    store.path("last").write_bytes(b"")
    assert store.newest()[1].epoch == 1
    assert store.newest()[1].epoch == 1
    assert capsys.readouterr().err.count("last.weights.h5 cannot be read") == 1
    store.path("best").write_bytes(b"")
    with pytest.raises(UserError, match="copy last.weights.h5 over it"):
        store.best()


def test_weights_that_are_not_finite_are_refused(tmp_path):
    model = compiled_model(seed=1)
    model.get_layer("head").bias.assign([float("nan"), 0.0, 0.0])
    model.save_weights(tmp_path / "nan.weights.h5")
    with pytest.raises(UserError, match="not finite, in head/bias"):
        load_weights(model, tmp_path / "nan.weights.h5")
