"""Details that released weights depend on; each test fails when its detail is undone."""

import keras
import numpy as np
import pytest

from mvit_tf import layers
from mvit_tf.layers.relative_position import linear_interpolation, relative_index

GRID = (2, 4, 4)
LENGTH = 1 + 2 * 4 * 4


def tokens(channels, length=LENGTH, seed=0):
    return np.random.default_rng(seed).standard_normal((2, length, channels)).astype(np.float32)


def perturb(layer, seed=1):
    rng = np.random.default_rng(seed)
    for weight in layer.trainable_weights:
        weight.assign(weight + 0.3 * rng.standard_normal(weight.shape))


def test_class_token_passes_by_the_pooling_but_not_the_norm():
    pool = layers.TokenPooling(grid=GRID, kernel_size=(3, 3, 3), strides=(1, 2, 2), num_heads=2)
    x = tokens(8)
    pool.build(x.shape)
    perturb(pool)
    other = x.copy()
    other[:, 0] += 1.0
    np.testing.assert_array_equal(pool(x)[:, 1:], pool(other)[:, 1:])
    first = np.asarray(x[:, 0]).reshape(2, 2, 4)
    normed = (first - first.mean(-1, keepdims=True)) / np.sqrt(first.var(-1, keepdims=True) + 1e-6)
    expected = normed * np.asarray(pool.norm.gamma) + np.asarray(pool.norm.beta)
    np.testing.assert_allclose(pool(x)[:, 0], expected.reshape(2, 8), atol=1e-5)


def test_pooling_is_the_identity_only_when_kernel_and_stride_are_all_one():
    x = tokens(8)
    identity = layers.TokenPooling(grid=GRID, kernel_size=(1, 1, 1), strides=(1, 1, 1))
    np.testing.assert_array_equal(identity(x), x)
    assert not identity.weights
    pooling = layers.TokenPooling(grid=GRID, kernel_size=(3, 3, 3), strides=(1, 1, 1))
    pooling(x)
    assert len(pooling.weights) == 3


def test_max_pooling_pads_with_minus_infinity_and_average_counts_its_zeros():
    minus_one = -np.ones((1, 16, 1), np.float32)
    arguments = {
        "grid": (1, 4, 4),
        "kernel_size": (1, 3, 3),
        "strides": (1, 2, 2),
        "class_token": False,
    }
    np.testing.assert_array_equal(
        layers.TokenPooling(mode="max", **arguments)(minus_one), -np.ones((1, 4, 1))
    )
    np.testing.assert_allclose(
        np.ravel(layers.TokenPooling(mode="avg", **arguments)(minus_one)),
        [-4 / 9, -6 / 9, -6 / 9, -1],
        rtol=1e-6,
    )


@pytest.mark.parametrize("normalized", [True, False])
def test_skip_path_of_a_block_that_expands_starts_from_the_normed_input(normalized):
    """Or, with `normalized_skip` off, from the input itself (MViT, Table A.1)."""
    options = {} if normalized else {"normalized_skip": False}
    for attention_dim, name in ((16, "proj_attention"), (8, "proj_mlp")):
        block = layers.MultiscaleBlock(
            attention_dim=attention_dim, output_dim=16, num_heads=1, grid=GRID, **options
        )
        assert block.get_config()["normalized_skip"] == normalized
        x = tokens(8)
        block.build(x.shape)
        perturb(block)
        # With both branches silenced the output is the skip path alone.
        for dense in (block.attn.proj, block.mlp.fc2):
            dense.kernel.assign(keras.ops.zeros_like(dense.kernel))
            dense.bias.assign(keras.ops.zeros_like(dense.bias))
        norm = block.norm1 if name == "proj_attention" else block.norm2
        expected = getattr(block, name)(norm(x) if normalized else x)
        np.testing.assert_allclose(block(x), expected, atol=1e-5)
        outputs, parts = block.call_with_parts(x)
        np.testing.assert_allclose(outputs, expected, atol=1e-5)
        projects_norm = normalized and name == "proj_attention"
        np.testing.assert_array_equal(parts["source"], norm(x) if projects_norm else x)


def _attention(**arguments):
    keras.utils.set_random_seed(0)
    layer = layers.MultiHeadPoolingAttention(dim=8, num_heads=2, grid=GRID, **arguments)
    layer.build((None, LENGTH, 8))
    perturb(layer)
    return layer


def test_residual_pooling_leaves_the_class_token_out():
    x = tokens(8)
    outputs = {}
    for mode in ("none", "patches", "all"):
        layer = _attention(residual_pooling=mode)
        layer.proj.kernel.assign(np.eye(8))
        layer.proj.bias.assign(np.zeros(8))
        outputs[mode] = np.asarray(layer(x))
        queries = np.asarray(layer._pooled(x)[0])
    np.testing.assert_array_equal(outputs["patches"][:, 0], outputs["none"][:, 0])
    np.testing.assert_allclose(
        outputs["patches"][:, 1:] - outputs["none"][:, 1:], queries[:, 1:], atol=1e-5
    )
    np.testing.assert_allclose(outputs["all"] - outputs["none"], queries, atol=1e-5)


def test_relative_positions_see_unscaled_queries_and_no_class_token():
    layer = _attention(
        pool_kernels=((3, 3, 3),) * 3,
        pool_strides=((1, 2, 2), (1, 1, 1), (1, 1, 1)),
        relative_table_lengths=(3, 7, 7),
    )
    x = tokens(8)
    queries, keys = (np.asarray(layer._split_heads(part)) for part in layer._pooled(x)[:2])
    logits = queries * layer.head_dim**-0.5 @ keys.swapaxes(2, 3)
    tables = [np.asarray(table) for table in layer.relative_positions.tables]
    query_positions = np.indices((2, 2, 2)).reshape(3, -1)
    key_positions = np.indices(GRID).reshape(3, -1)
    for table, query, key, query_size, key_size in zip(
        tables, query_positions, key_positions, (2, 2, 2), GRID, strict=True
    ):
        rows = table[relative_index(query_size, key_size)[query][:, key]]
        logits[:, :, 1:, 1:] += np.einsum("bhqc,qkc->bhqk", queries[:, :, 1:], rows)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    np.testing.assert_allclose(layer.attention_weights(x), weights, atol=2e-6)


def test_relative_index_spreads_the_shorter_axis():
    index = relative_index(14, 7)
    assert (index.min(), index.max()) == (0, 25)
    np.testing.assert_array_equal(index, np.arange(14)[:, None] - 2 * np.arange(7)[None] + 12)
    np.testing.assert_array_equal(relative_index(3, 3), [[2, 1, 0], [3, 2, 1], [4, 3, 2]])


def test_table_of_another_length_is_interpolated():
    # align_corners=False: 3 rows to 6, edges clamped.
    expected = [[1, 0, 0], [0.75, 0.25, 0], [0.25, 0.75, 0]]
    matrix = linear_interpolation(3, 6)
    np.testing.assert_allclose(matrix[:3], expected)
    np.testing.assert_allclose(matrix[3:], np.flip(expected))
    layer = layers.RelativePositions(
        query_grid=(1, 4, 4), key_grid=(1, 4, 4), table_lengths=(None, 5, 7), class_token=False
    )
    layer.build((None, 1, 16, 4))
    resized = layers.RelativePositions(
        query_grid=(1, 4, 4), key_grid=(1, 4, 4), table_lengths=(None, 7, 7), class_token=False
    )
    resized.build((None, 1, 16, 4))
    height, width = (np.asarray(table) for table in layer.tables)
    resized.set_weights([linear_interpolation(5, 7) @ height, width])
    queries = np.random.default_rng(0).standard_normal((1, 1, 16, 4)).astype(np.float32)
    np.testing.assert_allclose(layer(queries), resized(queries), atol=1e-6)


def test_softmax_is_float32_under_mixed_precision():
    layer = _attention(dtype="mixed_bfloat16")
    weights = layer.attention_weights(keras.ops.cast(tokens(8), "bfloat16"))
    assert keras.backend.standardize_dtype(weights.dtype) == "float32"
    np.testing.assert_allclose(np.sum(weights, -1), 1, atol=1e-6)


def test_stochastic_depth_draws_per_sample_and_keeps_the_mean():
    layer = layers.StochasticDepth(0.25, seed=3)
    ones = np.ones((4000, 3, 2), np.float32)
    outputs = np.asarray(layer(ones, training=True))
    assert set(np.unique(outputs)) == {0.0, np.float32(1 / 0.75)}
    assert (outputs == outputs[:, :1, :1]).all()
    assert abs(outputs.mean() - 1) < 0.03
    np.testing.assert_array_equal(layer(ones), ones)
    with pytest.raises(ValueError, match="1.0"):
        layers.StochasticDepth(1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pool_strides": ((1, 1, 1), (1, 2, 2), (1, 4, 4))}, "one stride"),
        ({"pool_kernels": ((1, 1, 1), (1, 2, 2), (1, 1, 1))}, "one kernel size"),
        ({"residual_pooling": "yes"}, "'yes'"),
        ({"pool_mode": "sum"}, "'sum'"),
        ({"num_heads": 3}, "num_heads=3"),
    ],
)
def test_attention_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        layers.MultiHeadPoolingAttention(**{"dim": 8, "num_heads": 2, "grid": GRID, **arguments})


def test_tokens_that_do_not_fill_the_grid_are_refused():
    with pytest.raises(ValueError, match=r"\(B, 33, C\)"):
        layers.PositionEmbedding(grid=GRID)(tokens(8, length=20))
