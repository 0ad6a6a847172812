"""The methods against the matrices that they never make."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from mvit_tf.explain.footprints import spread_tokens
from mvit_tf.explain.methods import attention_rollout, pixel_heat
from mvit_tf.explain.passes import attention_weights, backward_pass, forward_pass, readout_gradient
from mvit_tf.layers.kernels.compiled import without_xla
from tests.explain.tiny import CONFIGS, tiny_model


@pytest.fixture(scope="module", params=CONFIGS)
def forward(request):
    model = tiny_model(request.param)
    return forward_pass(model, clip_of(model))


def clip_of(model):
    clip = np.random.default_rng(1).standard_normal((1, *model.input_shape[1:]))
    return keras.ops.convert_to_tensor(clip.astype(np.float32))


def test_the_softmax_is_that_of_the_blocks_output(forward):
    for block, tokens in zip(forward.blocks, forward.inputs, strict=True):
        outputs, parts = block.call_with_parts(tokens)
        weights = parts["weights"]
        np.testing.assert_allclose(outputs, block(tokens), atol=1e-5, rtol=1e-5)
        np.testing.assert_array_equal(weights, attention_weights(block, tokens))
        np.testing.assert_allclose(np.sum(weights, axis=-1), 1, atol=1e-5)
        queries, keys = (
            block.attn.output_length,
            block.attn.pool_k.compute_output_shape(tokens.shape)[1],
        )
        assert weights.shape == (1, block.attn.num_heads, queries, keys)


def matrix_of(pooling, outputs):
    return np.stack([spread_tokens(row, pooling) for row in np.eye(outputs)])


def test_rollout_is_the_product_of_the_matrices(forward):
    """Those of all blocks, made whole; of a ViT, (I + A) / 2 as published."""
    product = None
    for block, tokens in zip(forward.blocks, forward.inputs, strict=True):
        weights = np.mean(attention_weights(block, tokens), axis=1)[0].astype(float)
        queries, keys = weights.shape
        attention = block.attn
        attended = weights @ matrix_of(attention.pool_v, keys)
        if attention.residual_pooling != "none":
            pooled = matrix_of(attention.pool_q, queries)
            skips_class = attention.residual_pooling == "patches" and attention.class_token
            start = int(skips_class)
            attended[start:] = (attended[start:] + pooled[start:]) / 2
        step = (matrix_of(block.pool_skip, queries) + attended) / 2
        product = step if product is None else step @ product
    config = forward.model.config
    first = int(config.class_token)
    row = product[0] if config.readout == "class_token" else product[first:].mean(axis=0)
    found = attention_rollout(forward)
    np.testing.assert_allclose(found, row, atol=1e-6)
    assert found.sum() == pytest.approx(1, abs=1e-5)
    heat = pixel_heat(found, forward)
    assert heat.shape == config.input_size and heat.min() >= 0


def test_the_gradient_is_that_of_the_whole_model(forward):
    model, index = forward.model, 1
    clip = clip_of(model)
    embed = keras.Model(model.input, forward.blocks[0].input)
    with without_xla():
        with tf.GradientTape() as tape:
            tape.watch(clip)
            logit = model(clip)[0, index]
        expected = tape.gradient(logit, clip)

    *_, upstream = readout_gradient(forward, index)
    *_, (_, parts, slopes) = backward_pass(forward, upstream)
    np.testing.assert_array_equal(parts["source"], forward.inputs[0])
    with tf.GradientTape() as tape:
        tape.watch(clip)
        tokens = embed(clip)
    found = tape.gradient(tokens, clip, output_gradients=slopes["source"])
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found / scale, expected / scale, atol=1e-5)


def test_readout_of_the_last_tokens_is_the_models(forward):
    """Token times gradient, summed, is the logit but for the head's bias: a mean of normed ones."""
    if forward.model.config.readout != "mean":
        pytest.skip("the norm after the readout is not linear")
    tokens, slope, _ = readout_gradient(forward, 2)
    bias = forward.model.get_layer("head").bias[2]
    assert float(np.sum(tokens * slope) + bias) == pytest.approx(forward.logits[2], abs=1e-4)
