"""Experiments that build upon others."""

import os

import pytest

from mvit_tf.errors import UserError
from mvit_tf.training.experiments.experiment import flat_items, load_experiment, save_experiment
from mvit_tf.training.experiments.files import package_configs, read_with_bases


def written(folder, **texts):
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / f"{next(iter(texts))}.yaml"


def test_a_file_is_laid_over_its_bases_as_overrides_are(tmp_path):
    (tmp_path / "deep").mkdir()
    written(
        tmp_path,
        root="model: {overrides: {drop_path_rate: 0.3, depths: [1, 1]}}\n"
        "data: {validation_fraction: 0.2, mean: [0.1, 0.2, 0.3]}\n"
        "train: {epochs: 7, batch_size: 4, learning_rate: 3e-4}",
    )
    written(
        tmp_path / "deep",
        middle="base: ../root.yaml\ntrain: {epochs: 8, batch_size: 6}\nmodel: {name: mvit_s_16x4}",
        leaf="base: middle.yaml\nmodel: {overrides: {drop_path_rate: 0.1}}\n"
        "data: {validation: '007'}\ntrain: {batch_size: 2}",
    )
    experiment = load_experiment(tmp_path / "deep/leaf.yaml", "train.learning_rate=5e-4")
    train, data = experiment.train, experiment.data
    assert (train.epochs, train.batch_size, train.learning_rate) == (8, 2, 5e-4)
    assert experiment.model.name == "mvit_s_16x4"
    assert experiment.model.overrides.as_dict() == {"drop_path_rate": 0.1, "depths": (1, 1)}
    # One's own list takes the place of the share that the base holds out.
    assert (data.validation, data.validation_fraction) == ("007", 0.0)
    assert data.mean == (0.1, 0.2, 0.3)


def test_what_is_saved_stands_for_itself(tmp_path):
    leaf = written(tmp_path, leaf="base: root.yaml", root="train: {epochs: 7}")
    experiment = load_experiment(leaf, "model.overrides.depths=[1,2]")
    saved = tmp_path / "model/experiment.yaml"
    saved.parent.mkdir()
    save_experiment(experiment, saved)
    os.remove(tmp_path / "root.yaml")
    assert flat_items(load_experiment(saved)) == flat_items(experiment)
    assert "base" not in [line.split(":")[0] for line in saved.read_text().splitlines()]


def test_a_base_may_be_one_of_the_package_and_ones_own_file_comes_first(tmp_path):
    leaf = written(tmp_path, leaf="base: finetune\ntrain: {epochs: 20}")
    assert [file for file, _ in read_with_bases(leaf, ())] == [
        str(package_configs()["finetune"]),
        str(leaf),
    ]
    assert load_experiment(leaf).model.name == "mvit_s_16x4"
    (tmp_path / "finetune").write_text("model: {name: mvit_b_32x3}")
    assert load_experiment(leaf).model.name == "mvit_b_32x3"


def test_a_file_may_bear_the_name_of_its_base(tmp_path):
    mine = written(tmp_path, finetune="base: finetune\ntrain: {epochs: 20}")
    assert load_experiment(mine).data.validation_fraction == 0.2


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"a": "base: a.yaml"}, "a.yaml: base leads back to where it began: .*a.yaml -> .*a.yaml;"),
        (
            {"a": "base: b.yaml", "b": "base: c.yaml", "c": "base: b.yaml"},
            "c.yaml: base leads back to where it began: .*b.yaml -> .*c.yaml -> .*b.yaml; take",
        ),
        (
            {"a": "base: finetun"},
            "a.yaml: base=finetun is neither a file .*did you mean 'finetune'",
        ),
        ({"a": "base: b.yaml", "b": "base: no.yaml"}, "b.yaml: base=no.yaml is neither a file"),
        ({"a": "base: [b.yaml]"}, r"a.yaml: base=\['b.yaml'\] must be the name"),
        ({"a": "base: b.yaml", "b": "train: {epoch: 3}"}, "b.yaml: unknown key 'train.epoch'"),
    ],
)
def test_bases_that_lead_nowhere_are_refused_in_a_line(texts, message, tmp_path):
    with pytest.raises(UserError, match=message) as refusal:
        load_experiment(written(tmp_path, **texts))
    assert "\n" not in str(refusal.value)


def test_an_override_has_no_base():
    with pytest.raises(UserError, match="base=finetune can only stand in a config file"):
        load_experiment(None, "base=finetune")
