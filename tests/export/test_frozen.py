"""Models with their weights as constants."""

import numpy as np
import pytest
import tensorflow as tf

import mvit_tf
from mvit_tf.export import frozen
from tests.export.tiny import tiny_model


def operations(function, inputs):
    graph = function.get_concrete_function(inputs).graph
    return [operation.type for operation in graph.get_operations()]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 0.05)])
def test_constants_compute_the_same(dtype, tolerance):
    config = mvit_tf.MViTConfig(
        input_shape=(4, 32, 32, 3), embed_dim=16, depths=(1, 1), num_classes=5,
        relative_positions="space_time",
    )  # fmt: skip
    model = mvit_tf.build_mvit(config, dtype=dtype)
    frames = tf.random.stateless_normal((2, 4, 32, 32, 3), (0, 1))
    function = tf.function(frozen.frozen_call(model))
    expected = model(frames, training=False)
    np.testing.assert_allclose(function(frames), expected, rtol=0, atol=tolerance)
    assert "ReadVariableOp" not in operations(function, frames)
    model.trainable_variables[0].assign_add(tf.ones(model.trainable_variables[0].shape))
    np.testing.assert_allclose(function(frames), expected, rtol=0, atol=tolerance)


def test_models_too_large_for_one_graph_keep_their_variables(monkeypatch):
    monkeypatch.setattr(frozen, "MAX_BYTES", 1000)
    model = tiny_model()
    frames = tf.zeros((1, *model.input_shape[1:]))
    assert "ReadVariableOp" in operations(tf.function(frozen.frozen_call(model)), frames)
