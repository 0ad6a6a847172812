"""Models with weights: what they then know of their frames and classes."""

import dataclasses

import keras
import numpy as np
import pytest

import mvit_tf
from mvit_tf import factory
from mvit_tf.conversion import published, to_pytorch_state_dict
from mvit_tf.conversion.published import find_published_weights
from mvit_tf.data.preprocessing import Preprocessing
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.errors import UserError
from tests.conversion.test_commands import write_safetensors

SMALL = {"input_shape": (4, 32, 32, 3), "depths": (1, 1), "embed_dim": 16}


@pytest.fixture
def small_set(tmp_path, monkeypatch):
    """mvit_b_16x4's kinetics400, of a small model, whose file is at hand; the path of the file."""
    entry = find_published_weights("mvit_b_16x4", "kinetics400")
    entry = dataclasses.replace(
        entry,
        fields=SMALL,
        preprocessing={**entry.preprocessing, "size": [32, 32], "short_side": 36},
        sampling={**entry.sampling, "num_frames": 4},
    )
    path = tmp_path / "mvit_v1_b-dbeb1030.pth"
    model = mvit_tf.build_mvit(entry.config)
    write_safetensors(path, to_pytorch_state_dict(model))
    monkeypatch.setattr(published, "fetch_published_weights", lambda _: path)
    for module in (published, factory):
        monkeypatch.setattr(module, "published_weights", lambda: (entry,))
    return path


def test_published_weights_bring_frames_and_classes(small_set):
    model = mvit_tf.create_model("mvit_b_16x4", weights="kinetics400")
    assert model.preprocessing == Preprocessing(size=(32, 32), short_side=36)
    assert model.sampling == ClipSampling(4, sampling_rate=4, rule="stride")
    assert model.class_names == published.load_class_list("kinetics400")
    assert {entry.action for entry in model.conversion_report.placements} == {"copied"}
    assert str(small_set) in str(model.conversion_report)


def test_a_set_s_file_by_its_own_name_is_the_set(small_set):
    model = mvit_tf.create_model("mvit_b_16x4", weights=small_set)
    assert model.config.embed_dim == 16
    assert model.class_names[0] == "abseiling" and model.preprocessing.short_side == 36
    other = small_set.rename(small_set.with_name("mine.pth"))
    model = mvit_tf.create_model("mvit_b_16x4", weights=other, **SMALL)
    assert (model.class_names, model.preprocessing, model.sampling) == (None, None, None)
    assert model.conversion_report is not None


def test_other_sizes_and_classes_are_followed(small_set):
    model = mvit_tf.create_model(
        "mvit_b_16x4", weights="kinetics400", num_classes=3, input_shape=(8, 64, 64, 3)
    )
    assert model.class_names is None
    assert model.preprocessing == Preprocessing(size=(64, 64), short_side=72)
    assert model.sampling.num_frames == 8
    features = mvit_tf.create_model("mvit_b_16x4", weights="kinetics400", num_classes=0)
    assert features.class_names is None and features.sampling.num_frames == 4


def test_without_weights_nothing_is_known():
    model = mvit_tf.create_model("mvit_b_16x4", **SMALL)
    assert (model.preprocessing, model.sampling) == (None, None)
    assert (model.class_names, model.conversion_report) == (None, None)


def test_keras_files_and_clones_keep_it(small_set, tmp_path):
    model = mvit_tf.create_model("mvit_b_16x4", weights="kinetics400")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for copy in (loaded, type(model).from_config(model.get_config())):
        assert copy.preprocessing == model.preprocessing
        assert copy.sampling == model.sampling
        assert copy.class_names == model.class_names
    for expected, variable in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(variable, expected)


def test_a_folder_does_not_shadow_a_set(small_set, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kinetics400").mkdir()
    model = mvit_tf.create_model("mvit_b_16x4", weights="kinetics400")
    assert model.class_names is not None
    assert factory.published_set("mvit_b_16x4", "./kinetics400") is None
    (tmp_path / "mine").mkdir()
    assert factory.published_set("mvit_b_16x4", "mine") is None
    with pytest.raises(UserError, match="mine is a directory"):
        mvit_tf.create_model("mvit_b_16x4", weights="mine")
    with pytest.raises(UserError, match="no published weights 'kinetics500'"):
        mvit_tf.create_model("mvit_b_16x4", weights="kinetics500")


def test_keras_weights_of_another_depth_are_refused(tmp_path):
    deep = mvit_tf.create_model("mvit_b_16x4", **{**SMALL, "depths": (2, 1)})
    deep.save_weights(tmp_path / "deep.weights.h5")
    with pytest.raises(UserError, match="deep.weights.h5"):
        mvit_tf.create_model("mvit_b_16x4", weights=tmp_path / "deep.weights.h5", **SMALL)
    same = mvit_tf.create_model(
        "mvit_b_16x4", weights=tmp_path / "deep.weights.h5", **{**SMALL, "depths": (2, 1)}
    )
    for expected, variable in zip(deep.weights, same.weights, strict=True):
        np.testing.assert_array_equal(variable, expected)
