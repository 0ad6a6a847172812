"""Multiply-adds from the specs against those of the graph that TensorFlow builds."""

import math

import pytest
import tensorflow as tf

import mvit_tf
from mvit_tf.analysis.describe import describe
from mvit_tf.layers.pooling_windows import PoolingWindows


def graph_macs(model):
    """Multiply-adds of the convolutions and matrix products in a model's graph."""
    shape = (1, *model.input_shape[1:])
    function = tf.function(lambda x: model(x, training=False)).get_concrete_function(
        tf.TensorSpec(shape)
    )
    total = 0
    for operation in function.graph.get_operations():
        if operation.type in ("MatMul", "BatchMatMulV2", "BatchMatMul"):
            inner = operation.inputs[0].shape[
                -1
                - bool(
                    operation.get_attr("transpose_a")
                    if operation.type == "MatMul"
                    else operation.get_attr("adj_x")
                )
            ]
            total += math.prod(operation.outputs[0].shape) * inner
        elif operation.type == "Conv3D":
            kernel = operation.inputs[1].shape
            total += math.prod(operation.outputs[0].shape) * math.prod(kernel[:4])
        elif operation.type == "DepthwiseConv2dNative":
            kernel = operation.inputs[1].shape
            total += math.prod(operation.outputs[0].shape) * math.prod(kernel[:2])
    return total


@pytest.mark.parametrize("name", ["mvit_b_16x4", "mvit_b_16"])
def test_specs_count_what_the_graph_computes(name):
    config = mvit_tf.get_config(name)
    # The graph leaves out keys and values that the pooling never looks at; the papers count them.
    unseen = 0
    for spec in config.blocks():
        windows = PoolingWindows.of(spec.grid, spec.key_kernel, spec.key_stride, False)
        tokens = math.prod(windows.grid) - math.prod(windows.size)
        unseen += tokens * 2 * spec.input_dim * spec.attention_dim
    assert unseen > 0
    expected = mvit_tf.complexity(config).macs - unseen
    assert graph_macs(mvit_tf.create_model(name)) == pytest.approx(expected, rel=0.001)


def test_description_shows_the_tables_of_the_paper():
    text = describe("mvit_b_16x4")
    assert "36,610,672 parameters, 70.60 GMACs" in text
    assert "[MHPA(384), MLP(1536)] × 11" in text
    lines = [line.split() for line in text.splitlines()]
    assert [line[0] for line in lines if line and line[0].startswith("4-")] == ["4-12"]
    assert any("25,089" in line for line in lines)
