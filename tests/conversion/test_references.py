"""The models compute what the PyTorch implementations computed with the same weights."""

import numpy as np
import pytest
import tensorflow as tf

from mvit_tf.conversion import load_pytorch_weights
from mvit_tf.conversion.layouts import find_model
from mvit_tf.conversion.tensors import as_tensor
from tests.conversion import references

WITH_GRADIENTS = [name for name in references.NAMES if "loss_weights" in references.arrays(name)]


@pytest.mark.parametrize("name", references.NAMES)
def test_logits(name):
    stored = references.arrays(name)
    model = references.build(name)
    report = load_pytorch_weights(model, references.weights_path(name))
    assert report.layout == name.split("_")[0]
    assert not report.fresh
    assert references.relative_error(model(stored["frames"]), stored["logits"]) < 1e-5


@pytest.mark.parametrize("name", WITH_GRADIENTS)
def test_gradients(name):
    stored = references.arrays(name)
    model = references.build(name)
    load_pytorch_weights(model, references.weights_path(name))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(stored["frames"]) * stored["loss_weights"])
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    source = {
        key.removeprefix("gradient:"): as_tensor(key, values)
        for key, values in stored.items()
        if key.startswith("gradient:")
    }
    layout, source, _ = find_model(source)
    expected = layout.to_keras(source)
    assert set(expected) == {variable.path for variable in model.trainable_variables}
    expected = [expected[variable.path].read() for variable in model.trainable_variables]
    largest = max(np.abs(values).max() for values in expected)
    for variable, gradient, values in zip(
        model.trainable_variables, gradients, expected, strict=True
    ):
        error = references.gradient_error(tf.convert_to_tensor(gradient), values, largest)
        assert error < 1e-4, variable.path


def test_every_family_is_there():
    families = {name.split("_")[0] for name in references.NAMES}
    assert families == {"torchvision", "pytorchvideo", "timm", "slowfast", "mvit"}
    assert len(WITH_GRADIENTS) == 4


def test_a_reference_notices_other_weights():
    """The comparison itself can fail: one table moved by its own size changes the logits."""
    stored = references.arrays("slowfast_v2")
    model = references.build("slowfast_v2")
    load_pytorch_weights(model, references.weights_path("slowfast_v2"))
    table = model.get_layer("block_01").attn.relative_positions.tables[1]
    table.assign(np.roll(table, 1, axis=0))
    assert references.relative_error(model(stored["frames"]), stored["logits"]) > 1e-4
