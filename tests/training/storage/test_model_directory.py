"""Whose a model directory is."""

import contextlib
import errno
import fcntl
import importlib.util
import os
import shutil
import sys

import pytest

from mvit_tf.errors import UserError
from mvit_tf.training.experiments.experiment import load_experiment
from mvit_tf.training.storage import model_directory
from mvit_tf.training.storage.checkpoints import CheckpointStore, Progress
from mvit_tf.training.storage.model_directory import ModelDirectory
from tests.training.tiny import tiny_model

NAMES = ("down", "left", "up")


@pytest.fixture
def directory(tmp_path):
    return ModelDirectory(tmp_path / "run")


@pytest.fixture
def occupied(directory):
    directory.claim(load_experiment(None, "data.train=/videos,train.epochs=3"), NAMES)
    directory.checkpoints.save(tiny_model(), Progress(1, 1))
    return directory


def test_it_is_anybodys_until_the_first_checkpoint(directory):
    directory.claim(load_experiment(None, "data.train=/videos"), NAMES)
    others = load_experiment(None, "data.train=/others")
    assert directory.check(others, ("a", "b")) == []
    directory.claim(others, ("a", "b"))
    assert directory.class_names() == ("a", "b")
    assert load_experiment(directory.saved_experiment()).data.train == "/others"


def test_what_may_change_is_told_and_then_kept(occupied):
    same = load_experiment(None, "data.train=/videos,train.epochs=5,train.learning_rate=2e-4")
    assert occupied.check(same, NAMES) == [
        "train.epochs: 3 -> 5",
        "train.learning_rate: 0.0001 -> 0.0002",
    ]
    assert load_experiment(occupied.saved_experiment()).train.epochs == 3
    occupied.claim(same, NAMES)
    assert load_experiment(occupied.saved_experiment()).train.epochs == 5


def test_changed_videos_are_allowed_for_one_start(directory):
    once = load_experiment(None, "data.train=/videos,data.allow_changed=true,train.epochs=7")
    directory.claim(once, NAMES)
    saved = load_experiment(directory.saved_experiment())
    assert not saved.data.allow_changed and once.data.allow_changed
    assert saved.train == once.train


def test_whose_it_is_is_found_without_reading_checkpoints(occupied, monkeypatch):
    """A read of all of a large file takes long, and what begins or goes on reads it anyway."""
    monkeypatch.setattr(CheckpointStore, "newest", None)
    with pytest.raises(UserError, match="holds another experiment"):
        occupied.check(load_experiment(None, "data.train=/others"), NAMES)
    occupied.checkpoints.step_path(0).unlink()
    assert occupied.checkpoints.best_path.exists() and not occupied.checkpoints.is_empty()
    occupied.checkpoints.best_path.unlink()
    assert occupied.checkpoints.is_empty()


@pytest.mark.parametrize(
    ("overrides", "names", "message"),
    [
        ("", NAMES, r"data.train \('/videos' there, None now\)"),
        ("data.train=/videos,model.name=mvit_s_16x4,train.seed=3", NAMES,
         r"model.name \('mvit_b_16x4' there, 'mvit_s_16x4' now\), train.seed \(0 there, 3 now\)"),
        ("data.train=/videos,data.mixup_alpha=0.8,data.short_videos=loop", NAMES,
         r"data.short_videos \('repeat_last' there, 'loop' now\), data.mixup_alpha \(0.0 "),
        ("data.train=/videos", (*NAMES, "right"), "3 classes there, 4 in data.train now"),
        ("data.train=/videos", ("down", "right", "up"), "class 1 is 'left' there, 'right' in"),
    ],
)  # fmt: skip
def test_another_experiment_is_refused_by_name(occupied, overrides, names, message):
    with pytest.raises(UserError, match=f"run holds another experiment: {message}"):
        occupied.check(load_experiment(None, overrides), names)


def test_a_directory_without_training_says_so(directory, tmp_path):
    with pytest.raises(UserError, match="holds no experiment.yaml: nothing was trained there"):
        directory.saved_experiment()
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="run is a file"), directory.locked():
        pass


def test_a_second_training_in_the_same_directory_is_refused(tmp_path):
    first, second = ModelDirectory(tmp_path / "run"), ModelDirectory(tmp_path / "run")
    with first.locked():
        with pytest.raises(UserError, match="another training is running in"), second.locked():
            pass
        (tmp_path / "run" / "something").touch()
    with second.locked():
        pass
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["something"]


def test_a_directory_that_cannot_be_made_is_named():
    with (
        pytest.raises(UserError, match="--model_dir=/proc/none cannot be written: No such"),
        ModelDirectory("/proc/none").locked(),
    ):
        pass


def test_a_directory_in_which_nothing_was_written_goes_again(tmp_path):
    with pytest.raises(UserError, match="mistake"), ModelDirectory(tmp_path / "run").locked():
        raise UserError("mistake")
    assert not (tmp_path / "run").exists()


def refuse_locks(number):
    def flock(descriptor, operation):
        raise OSError(number, errno.errorcode[number])

    return flock


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL])
def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, capsys, number):
    monkeypatch.setattr(fcntl, "flock", refuse_locks(number))
    with ModelDirectory(tmp_path / "run").locked():
        (tmp_path / "run" / "something").touch()
    warning = capsys.readouterr().err
    assert warning.startswith(
        f"warning: {tmp_path}/run cannot be locked ({errno.errorcode[number]}"
    )
    assert warning.count("\n") == 1
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["something"]


@pytest.mark.parametrize("number", [errno.EWOULDBLOCK, errno.EACCES])
def test_only_a_held_lock_means_another_training(tmp_path, monkeypatch, number):
    monkeypatch.setattr(fcntl, "flock", refuse_locks(number))
    with (
        pytest.raises(UserError, match="another training is running in"),
        ModelDirectory(tmp_path / "run").locked(),
    ):
        pass


def test_a_system_without_fcntl_trains_unlocked(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    spec = importlib.util.spec_from_file_location("on_windows", model_directory.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.ModelDirectory(tmp_path / "run").locked():
        pass
    assert "run cannot be locked (this system has no fcntl)" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_lock_of_a_file_that_is_gone_does_not_count(tmp_path, monkeypatch):
    """A training that ends removes the file that the next one may just have opened."""
    first, second, third = (ModelDirectory(tmp_path / "run") for _ in range(3))
    flock = fcntl.flock
    with contextlib.ExitStack() as stack:
        ending = stack.enter_context(contextlib.ExitStack())
        ending.enter_context(first.locked())
        (tmp_path / "run" / "something").touch()

        def first_ends_and_second_begins(descriptor, operation):
            monkeypatch.setattr(fcntl, "flock", flock)
            ending.close()
            stack.enter_context(second.locked())
            flock(descriptor, operation)

        monkeypatch.setattr(fcntl, "flock", first_ends_and_second_begins)
        with pytest.raises(UserError, match="another training is running"), third.locked():
            pass


def test_a_directory_deleted_meanwhile_does_not_hide_the_error(tmp_path):
    with pytest.raises(ValueError, match="the error"), ModelDirectory(tmp_path / "run").locked():
        shutil.rmtree(tmp_path / "run")
        raise ValueError("the error")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("", "--model_dir is empty"),
        ("gs:/bucket/run", "--model_dir=gs:/bucket/run: a URL has two slashes"),
        ("hdfs://host/run", "hdfs://host/run: nothing can be kept on hdfs://; choose a folder"),
        ("file:///tmp/run", "file:///tmp/run: nothing can be kept on file://; choose a folder"),
    ],
)
def test_some_addresses_are_no_directory(tmp_path, monkeypatch, address, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        ModelDirectory(address)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_tensorflow_cannot_write_to_is_refused():
    with pytest.raises(UserError, match=r"--model_dir=caf\\udce9 is not UTF-8"):
        ModelDirectory(os.fsdecode(b"caf\xe9"))
