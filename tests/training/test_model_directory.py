"""Whose a model directory is."""

import pytest

from mvit_tf.errors import UserError
from mvit_tf.training.checkpoints import Progress
from mvit_tf.training.experiment import load_experiment
from mvit_tf.training.model_directory import ModelDirectory
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


@pytest.mark.parametrize(
    ("overrides", "names", "message"),
    [
        ("", NAMES, r"data.train \('/videos' there, None now\)"),
        ("data.train=/videos,model.name=mvit_s_16x4,train.seed=3", NAMES,
         r"model.name \('mvit_b_16x4' there, 'mvit_s_16x4' now\), train.seed \(0 there, 3 now\)"),
        ("data.train=/videos", (*NAMES, "right"), "3 classes there, 4 in data.train now"),
        ("data.train=/videos", ("down", "right", "up"), "class 1 is 'left' there, 'right' in"),
    ],
)  # fmt: skip
def test_another_experiment_is_refused_by_name(occupied, overrides, names, message):
    with pytest.raises(UserError, match=f"run holds another experiment: {message}"):
        occupied.check(load_experiment(None, overrides), names)


def test_a_directory_without_training_says_so(directory, tmp_path):
    with pytest.raises(UserError, match=r"holds no experiment.yaml; train first \(--mode=train\)"):
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
