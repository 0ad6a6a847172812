"""Checkpoints: whole after a kill at any moment, exact, and strict about what they fit."""

import contextlib
import errno
import gzip
import os
import stat
from pathlib import Path

import keras
import numpy as np
import pytest

from mvit_tf import files, weights_file
from mvit_tf.errors import UserError
from mvit_tf.training.optimization.optimizer import ReplicaAdamW
from mvit_tf.training.storage.checkpoints import (
    CheckpointStore,
    Progress,
    open_checkpoint,
    restore,
)
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
    progress = Progress(epoch_step=3, step=3).after_epoch(0.5, 1.0)
    assert (progress.epoch_step, progress.step) == (0, 3)
    progress = Progress().after_epoch(0.5, 1.0)
    assert progress == Progress(1, 1, 0.5, 1.0, scored_epoch=1)
    progress = progress.after_epoch(0.4, 0.1)
    assert progress.epochs_since_best == 1
    assert (progress.epoch, progress.best_epoch, progress.is_best) == (2, 1, False)
    progress = progress.after_epoch(None, None)
    assert (progress.epoch, progress.best_epoch, progress.epochs_since_best) == (3, 1, 1)
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


def test_an_opened_checkpoint_is_compared_with_its_checksum_once(tmp_path, monkeypatch, two_models):
    store = CheckpointStore(tmp_path)
    store.save(two_models[0], Progress(1, 1, 0.5, 1.0, step=3))
    compared = []
    holds = weights_file.checksum_holds
    monkeypatch.setattr(
        weights_file, "checksum_holds", lambda file: compared.append(file.name) or holds(file)
    )
    restore(two_models[1], store.step_path(3))
    assert compared == [str(store.step_path(3))]


def change_state(model):
    """Another value for everything a checkpoint holds, without the cost of a training step."""
    for variable in [*model.variables, *model.optimizer.variables]:
        variable.assign(keras.ops.convert_to_numpy(variable) + 1)


class Killed(BaseException):
    """Stands for SIGKILL: nothing may clean up after it."""


@pytest.mark.parametrize("kill_at", range(6))
def test_a_kill_at_any_moment_leaves_whole_files(tmp_path, monkeypatch, two_models, kill_at):
    """Kill points of a save of step and best: before, half way into, and after each write."""
    store = CheckpointStore(tmp_path)
    model, again = two_models
    store.save(model, Progress(1, 1, 0.5, 1.0, step=3))
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
            store.save(model, Progress(2, 2, 0.6, 0.9, step=6))

    path, progress = store.newest()
    restore(again, path)
    expected = before if progress.epoch == 1 else state(model)
    for one, two in zip(state(again), expected, strict=True):
        np.testing.assert_array_equal(one, two)
    assert progress.epoch == (1 if kill_at < 2 else 2)
    store.complete_best(again, progress)
    with store.best() as checkpoint:
        assert checkpoint.progress == progress and checkpoint.progress.is_best
    left = sorted(file.name for file in tmp_path.iterdir())
    assert left[0] == "best.weights.h5" and set(left[1:]) <= {
        "step-00000003.weights.h5",
        "step-00000006.weights.h5",
    }


@pytest.mark.parametrize("damage", ["cut", "flipped", "flipped checksum", "emptied"])
def test_a_damaged_newest_falls_back_to_the_one_before(tmp_path, two_models, capsys, damage):
    store = CheckpointStore(tmp_path)
    model, _ = two_models
    store.save(model, Progress(1, 1, 0.5, 1.0, step=3))
    store.save(model, Progress(1, 1, 0.5, 1.0, epoch_step=1, step=4))
    newest = store.step_path(4)
    content = bytearray(newest.read_bytes())
    if damage.startswith("flipped"):
        # In an array of the optimizer, which HDF5 itself would not notice.
        content[-5 if "checksum" in damage else len(content) // 2] ^= 1
    else:
        del content[len(content) // 2 if damage == "cut" else 0 :]
    newest.write_bytes(content)
    for _ in range(2):
        assert store.newest() == (store.step_path(3), Progress(1, 1, 0.5, 1.0, step=3))
    said = capsys.readouterr().err
    assert said.count("step-00000004.weights.h5") == 1
    assert "; step-00000003.weights.h5 is used" in said
    with open_checkpoint(store.step_path(3)) as checkpoint:
        checkpoint.restore(model)

    store.step_path(3).write_bytes(b"")
    with pytest.raises(UserError, match="step-0*4.*; .*step-0*3.* cannot be read.*; best.weights.h5"
                       " has the weights .* model.initial_weights="):  # fmt: skip
        store.newest()
    store.best_path.write_bytes(b"")
    with pytest.raises(UserError, match="step-0*3.* cannot be read.*; train anew in another"):
        store.newest()


def test_the_newest_few_stay_and_what_was_gone_back_over_does_not(tmp_path, two_models):
    store = CheckpointStore(tmp_path, keep=2)
    model, _ = two_models
    for step in (1, 2, 3):
        store.save(model, Progress(epoch_step=step, step=step))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-00000002.weights.h5",
        "step-00000003.weights.h5",
    ]
    store.step_path(3).write_bytes(b"")
    assert store.newest()[1].step == 2
    store.save(model, Progress(epoch_step=2, step=2, skipped_steps=(2,), rollbacks=1))
    assert store.newest()[1].skipped_steps == (2,)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002.weights.h5"]


def test_best_holds_averaged_weights_and_no_optimizer(tmp_path, two_models, monkeypatch):
    store = CheckpointStore(tmp_path)
    model, reader = two_models
    bias = model.get_layer("head").bias
    trained = keras.ops.convert_to_numpy(bias)

    @contextlib.contextmanager
    def averaged():
        bias.assign(trained + 1)
        yield
        bias.assign(trained)

    monkeypatch.setattr(model, "averaged_weights", averaged, raising=False)
    store.save(model, Progress(1, 1, 0.5, 1.0, step=3))
    with store.best() as checkpoint:
        assert not checkpoint.file.optimizer_shapes
        checkpoint.file.load(reader)
        np.testing.assert_array_equal(reader.get_layer("head").bias, trained + 1)
        with pytest.raises(UserError, match="holds weights alone: training cannot go on from it"):
            checkpoint.restore(reader)
    with open_checkpoint(store.step_path(3)) as checkpoint:
        checkpoint.restore(reader)
    np.testing.assert_array_equal(reader.get_layer("head").bias, trained)
    store.step_path(3).unlink()
    with pytest.raises(UserError, match="holds no checkpoint step-.* to go on from; best"):
        store.newest()


def test_an_empty_directory_has_no_checkpoint(tmp_path):
    assert CheckpointStore(tmp_path / "absent").newest() is None
    with pytest.raises(UserError, match="holds no checkpoint best.weights.h5; train first"):
        CheckpointStore(tmp_path).best().__enter__()


def test_plain_weights_files_are_no_checkpoints(tmp_path):
    path = CheckpointStore(tmp_path).step_path(3)
    tiny_model().save_weights(path)
    with pytest.raises(UserError, match="is a weights file, not a training checkpoint"):
        CheckpointStore(tmp_path).newest()


def test_other_random_generators_are_refused(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(compiled_model(drop_path_rate=0.0), Progress(1, 1))
    with pytest.raises(UserError, match="random generators"):
        restore(compiled_model(), store.step_path(0))


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


def test_a_disk_that_fills_meanwhile_leaves_what_was_there(tmp_path, monkeypatch, two_models):
    store = CheckpointStore(tmp_path / "checkpoints")
    model, _ = two_models
    store.save(model, Progress(1, 1, 0.5, 1.0, step=3))
    before = {path.name: path.read_bytes() for path in store.directory.iterdir()}
    for error in (
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Can't decrement id ref count (unable to close file, errno = 28, ...)"),
    ):

        def full(*_, error=error, **__):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(keras.saving, "save_weights", full)
            with pytest.raises(UserError, match="no space for a checkpoint .*: the disk is full"):
                store.save(model, Progress(2, 2, 0.6, 1.0, step=6))
        assert {path.name: path.read_bytes() for path in store.directory.iterdir()} == before


def test_a_damaged_best_has_a_cure(tmp_path, two_models):
    store = CheckpointStore(tmp_path)
    model, _ = two_models
    store.save(model, Progress(1, 1, 0.5, 1.0, step=3))
    store.best_path.write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read.*copy step-00000003.weights.h5 over it"):
        store.best().__enter__()
    store.step_path(3).unlink()
    with pytest.raises(UserError, match="best.weights.h5 cannot be read[^;]*$"):
        store.best().__enter__()


@pytest.mark.parametrize("name", ["mvit_s_16x4", "mvitv2_s_16x4"])
def test_checkpoints_of_version_0_1_0_restore(tmp_path, name):
    """Written by `tests/version_0_1_0/make.py`."""
    store = CheckpointStore(tmp_path)
    written = Path(__file__).parents[2] / "version_0_1_0"
    content = (written / f"{name}.weights.h5.gz").read_bytes()
    store.best_path.write_bytes(gzip.decompress(content))
    model = compiled_model(name=name, embed_dim=4)
    of_that_version = Progress(1, 1, 0.5, 1.0, step=None)
    assert store.newest() == (store.best_path, of_that_version)
    with store.best() as checkpoint:
        assert checkpoint.progress == of_that_version
        checkpoint.restore(model)
    assert keras.ops.convert_to_numpy(model.optimizer.iterations) == 1
    frames = np.random.default_rng(0).normal(size=(2, 4, 32, 32, 3)).astype("float32")
    logits = model.predict(frames, verbose=0)
    np.testing.assert_allclose(logits, np.load(written / f"{name}.npy"), rtol=1e-4, atol=1e-6)


def test_a_directory_of_an_older_version_goes_on_and_its_last_goes_once_it_has_no_use(
    tmp_path, two_models
):
    store, (model, _) = CheckpointStore(tmp_path, keep=2), two_models
    written = Path(__file__).parents[2] / "version_0_1_0" / "mvit_s_16x4.weights.h5.gz"
    last = tmp_path / "last.weights.h5"
    last.write_bytes(gzip.decompress(written.read_bytes()))
    assert store.newest() == (last, Progress(1, 1, 0.5, 1.0, step=None))
    store.save(model, Progress(1, 1, 0.5, 1.0, epoch_step=1, step=4))
    assert store.newest()[0] == store.step_path(4) and last.exists()
    store.save(model, Progress(1, 1, 0.5, 1.0, epoch_step=2, step=5))
    assert not last.exists()


def test_a_checkpoint_keeps_its_progress_when_training_writes_the_next(tmp_path, two_models):
    store = CheckpointStore(tmp_path)
    model, reader = two_models
    store.save(model, Progress(1, 1, 0.5, 1.0))
    before = model.get_weights()
    with store.best() as checkpoint:
        change_state(model)
        store.save(model, Progress(2, 2, 0.6, 1.0))
        checkpoint.file.load(reader)
    assert checkpoint.progress.epoch == 1
    for one, two in zip(reader.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, two)


def test_weights_that_are_not_finite_never_replace_good_ones(tmp_path, two_models):
    store = CheckpointStore(tmp_path)
    model, _ = two_models
    store.save(model, Progress(1, 1, 0.5, 1.0))
    before = {path.name: path.read_bytes() for path in store.directory.iterdir()}
    bias = model.get_layer("head").bias
    finite = keras.ops.convert_to_numpy(bias)
    bias.assign([float("inf"), 0.0, 0.0])
    try:
        with pytest.raises(UserError, match="head/bias is not finite"):
            store.save(model, Progress(2, 2, 0.6, 1.0))
    finally:
        bias.assign(finite)
    assert {path.name: path.read_bytes() for path in store.directory.iterdir()} == before


def test_a_refused_checkpoint_changes_nothing(tmp_path, two_models):
    store = CheckpointStore(tmp_path)
    store.save(tiny_model(), Progress(1, 1, 0.5, 1.0))  # no optimizer
    model, _ = two_models
    before = state(model)
    with pytest.raises(UserError, match="the optimizer's state differs"):
        restore(model, store.step_path(0))
    for one, two in zip(state(model), before, strict=True):
        np.testing.assert_array_equal(one, two)
