"""Weights files: whole or not there, loaded whole or not at all, and told apart by name."""

import contextlib
import fcntl
import os

import h5py
import keras
import numpy as np
import pytest

from mvit_tf.errors import UserError
from mvit_tf.training.optimization.optimizer import ReplicaAdamW
from mvit_tf.weights_file import load_weights_file, open_weights_file, save_weights_file
from tests.training.tiny import tiny_model

WRITERS = {"own": save_weights_file, "keras": keras.saving.save_weights}


@pytest.fixture(params=WRITERS)
def write(request):
    """Writes a model's weights with our table of contents, or as plain Keras does."""
    return WRITERS[request.param]


def compiled_model(**kwargs):
    model = tiny_model(**kwargs)
    optimizer = ReplicaAdamW(1e-2)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, loss="mse")
    return model


def values(model):
    optimizer = getattr(model, "optimizer", None)
    variables = [*model.variables, *(optimizer.variables if optimizer else ())]
    return [keras.ops.convert_to_numpy(variable).copy() for variable in variables]


def assert_equal(first, second):
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, two)


def refusal(model, path, **options):
    """The message with which a file is refused; the model must not have changed."""
    before = values(model)
    with pytest.raises(UserError) as error:
        load_weights_file(model, path, **options)
    assert_equal(values(model), before)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_weights_come_back_and_keras_reads_them_too(tmp_path, write):
    path = tmp_path / "model.weights.h5"
    trained, model = tiny_model(seed=1), tiny_model(seed=2)
    write(trained, path)
    load_weights_file(model, path)
    assert_equal(model.get_weights(), trained.get_weights())
    plain = tiny_model(seed=3)
    keras.saving.load_weights(plain, path)
    assert_equal(plain.get_weights(), trained.get_weights())
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.weights.h5"]


def test_a_file_tells_what_it_holds_and_what_it_was_given(tmp_path):
    path = tmp_path / "model.weights.h5"
    model = tiny_model(num_classes=5)
    save_weights_file(model, path, note="of a test", numbers=np.arange(3))
    with open_weights_file(path) as file:
        assert file.variables["head/kernel"] == (32, 5)
        assert list(file.variables) == [variable.path for variable in model.weights]
        assert file.attributes["note"] == "of a test"
        np.testing.assert_array_equal(file.attributes["numbers"], [0, 1, 2])
        assert file.optimizer_shapes == ()


def test_the_optimizers_state_is_loaded_where_it_fits(tmp_path, write):
    trained = compiled_model(seed=1)
    for variable in trained.optimizer.variables:
        variable.assign(keras.ops.convert_to_numpy(variable) + 1)
    write(trained, tmp_path / "trained.weights.h5")
    write(tiny_model(seed=2), tmp_path / "plain.weights.h5")
    model = compiled_model(seed=3)
    load_weights_file(model, tmp_path / "trained.weights.h5", require_optimizer=True)
    weights = len(trained.variables)
    assert_equal(values(model)[weights:], values(trained)[weights:])
    load_weights_file(model, tmp_path / "plain.weights.h5")
    assert_equal(values(model)[weights:], values(trained)[weights:])
    message = refusal(model, tmp_path / "plain.weights.h5", require_optimizer=True)
    assert "the optimizer's state differs" in message


def test_other_class_counts_are_named(tmp_path, write):
    write(tiny_model(num_classes=5), tmp_path / "five.weights.h5")
    message = refusal(tiny_model(num_classes=3), tmp_path / "five.weights.h5")
    assert "was trained on 5 classes, the model has 3" in message
    assert "num_classes=5" in message
    assert "reset_head" in message


@pytest.mark.parametrize("classes", [3, 5])
def test_the_head_stays_fresh_where_that_is_asked_for(tmp_path, write, classes):
    path = tmp_path / "trained.weights.h5"
    trained = compiled_model(num_classes=classes, seed=1)
    write(trained, path)
    for head in ("fresh", "auto"):
        model = compiled_model(num_classes=3, seed=2)
        kept = model.get_layer("head").get_weights()
        slots = [keras.ops.convert_to_numpy(slot) for slot in model.optimizer.variables]
        load_weights_file(model, path, head=head)
        for layer, other in zip(model.layers, trained.layers, strict=True):
            fresh = layer.name == "head" and (head == "fresh" or classes == 5)
            assert_equal(layer.get_weights(), kept if fresh else other.get_weights())
        assert_equal(slots, [keras.ops.convert_to_numpy(s) for s in model.optimizer.variables])
    message = refusal(model, path, head="new")
    assert "head must be one of" in message


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"embed_dim": 32}, ("32) in the file and (", "16) in the model")),
        ({"depths": (1, 2)}, ("holds 69 weight arrays, the model has 51",)),
        ({"depths": (1,)}, ("weight arrays, the model has 51",)),
    ],
)
def test_other_shapes_and_depths_are_refused(tmp_path, write, fields, named):
    write(tiny_model(**fields), tmp_path / "other.weights.h5")
    message = refusal(tiny_model(), tmp_path / "other.weights.h5")
    for words in named:
        assert words in message


def test_the_variables_that_differ_are_named(tmp_path):
    path = tmp_path / "other.weights.h5"
    save_weights_file(tiny_model(depths=(1, 2)), path)
    message = refusal(tiny_model(), path)
    assert "depths is [1, 2] in the file and [1, 1] in the model" in message
    assert "block_02/norm1/gamma (32,) is not in the model" in message
    save_weights_file(tiny_model(), path)
    assert "block_02/norm1/gamma (32,) is not in the file" in refusal(
        tiny_model(depths=(1, 2)), path
    )
    save_weights_file(tiny_model(qkv_bias=False), path)
    assert "block_00/attn/qkv/bias (48,) is not in the file" in refusal(tiny_model(), path)


def test_values_that_are_not_finite_are_neither_loaded_nor_written(tmp_path, write):
    path = tmp_path / "model.weights.h5"
    model = compiled_model(seed=1)
    keras.saving.save_weights(model, path)
    before = path.read_bytes()
    model.get_layer("head").bias.assign([float("nan"), 0.0, 0.0])
    if write is save_weights_file:
        with pytest.raises(UserError, match="was not written: head/bias is not finite"):
            save_weights_file(model, path)
        assert path.read_bytes() == before
    keras.saving.save_weights(model, path)
    message = refusal(compiled_model(seed=2), path)
    assert "holds values that are not finite, in head/bias" in message


def test_a_process_that_is_forked_meanwhile_is_no_matter(tmp_path, monkeypatch):
    """Until it executes its program it has a lock of HDF5 on whatever was open."""
    keras_saves = keras.saving.save_weights
    with contextlib.ExitStack() as forked:

        def save(model, path, **options):
            keras_saves(model, path, **options)
            file = forked.enter_context(open(path, "rb"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

        monkeypatch.setattr(keras.saving, "save_weights", save)
        save_weights_file(tiny_model(), tmp_path / "a.weights.h5")
    load_weights_file(tiny_model(seed=1), tmp_path / "a.weights.h5")


def test_a_file_that_fails_in_the_middle_changes_nothing(tmp_path, write):
    path = tmp_path / "model.weights.h5"
    write(tiny_model(seed=1), path)
    with h5py.File(path, "a") as file:  # the last array that is read
        shape = file["layers/position_embedding/vars/2"].shape
        del file["layers/position_embedding/vars/2"]
        file["layers/position_embedding/elsewhere"] = np.zeros(shape, "float32")
    assert "cannot be loaded, it is damaged" in refusal(tiny_model(seed=2), path)


def test_missing_and_damaged_files_are_named(tmp_path):
    model = tiny_model()
    path = tmp_path / "model.weights.h5"
    assert f"{path} does not exist" in refusal(model, path)
    save_weights_file(model, path)
    path.write_bytes(path.read_bytes()[:5000])
    assert f"{path} cannot be read, it is damaged" in refusal(model, path)


def test_an_opened_file_stays_the_same_when_another_takes_its_place(tmp_path):
    path, newer = tmp_path / "model.weights.h5", tmp_path / "newer.weights.h5"
    trained = tiny_model(seed=1)
    save_weights_file(trained, path, epoch="1")
    save_weights_file(tiny_model(seed=2), newer, epoch="2")
    model = tiny_model(seed=3)
    with open_weights_file(path) as file:
        os.replace(newer, path)
        file.load(model)
        assert file.attributes["epoch"] == "1"
    assert_equal(model.get_weights(), trained.get_weights())
