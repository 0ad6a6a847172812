"""Experiments by name or path."""

from pathlib import Path

import pytest

from mvit_tf.cli.configs import find_config
from mvit_tf.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("name", ["finetune", "finetune.yaml"])
def test_a_name_finds_the_packages_experiment_wherever_one_is(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "finetune").mkdir()  # A model directory of that name is no experiment.
    assert find_config(name).samefile(CONFIGS / "finetune.yaml")


def test_a_file_of_ones_own_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "finetune.yaml").touch()
    assert find_config("finetune.yaml") == Path("finetune.yaml")
    assert find_config(str(tmp_path / "finetune.yaml")) == tmp_path / "finetune.yaml"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("finetun", "no config 'finetun', .* did you mean 'finetune'?"),
        ("imagenet", "no config 'imagenet', .* known: demo, finetune, kinetics400_mvit_b_16x4, "),
        ("configs/absent.yaml", "config file configs/absent.yaml does not exist"),
        (".", "config file . is a folder; give a YAML file in it"),
    ],
)
def test_what_is_neither_is_refused(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        find_config(name)
