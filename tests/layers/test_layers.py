"""What every layer must survive: saving, mixed precision, unknown batches, one training step."""

import inspect
import re

import keras
import numpy as np
import pytest

import mvit_tf
from mvit_tf import layers

GRID = (4, 6, 6)
LENGTH = 1 + 4 * 6 * 6
HEADS = {"num_heads": 2, "grid": GRID}
POOLS = {
    "pool_kernels": ((3, 3, 3),) * 3,
    "pool_strides": ((1, 2, 2), (1, 3, 3), (1, 3, 3)),
}
V2 = {**POOLS, "residual_pooling": "patches", "relative_table_lengths": (7, 5, 9)}

CASES = {
    "depthwise": (
        layers.DepthwiseConv3D,
        {"kernel_size": (3, 3, 3), "strides": (1, 2, 2), "padding": (1, 1, 1), "num_heads": 2},
        (*GRID, 8),
    ),
    "pool_conv": (
        layers.TokenPooling,
        {"kernel_size": (3, 3, 3), "strides": (1, 2, 2), **HEADS},
        (LENGTH, 8),
    ),
    "pool_max": (
        layers.TokenPooling,
        {"kernel_size": (1, 3, 3), "strides": (1, 2, 2), "mode": "max", "grid": GRID},
        (LENGTH, 8),
    ),
    "pool_avg": (
        layers.TokenPooling,
        {
            "kernel_size": (3, 3, 3),
            "strides": (2, 2, 2),
            "mode": "avg",
            "grid": GRID,
            "class_token": False,
        },
        (LENGTH - 1, 8),
    ),
    "relative": (
        layers.RelativePositions,
        {"query_grid": GRID, "key_grid": (4, 3, 3), "table_lengths": (7, 11, 9)},
        (2, LENGTH, 4),
    ),
    "attention": (
        layers.MultiHeadPoolingAttention,
        {"dim": 8, **HEADS, **POOLS},
        (LENGTH, 8),
    ),
    "attention_v2": (
        layers.MultiHeadPoolingAttention,
        {"dim": 16, **HEADS, **V2},
        (LENGTH, 8),
    ),
    "block": (
        layers.MultiscaleBlock,
        {"attention_dim": 8, "output_dim": 16, "drop_path_rate": 0.2, **HEADS, **POOLS},
        (LENGTH, 8),
    ),
    "block_v2": (
        layers.MultiscaleBlock,
        {"attention_dim": 16, "output_dim": 16, **HEADS, **V2},
        (LENGTH, 8),
    ),
    "norm": (layers.LayerNormalization, {"epsilon": 1e-5}, (LENGTH, 8)),
    "dense": (layers.Dense, {"units": 12}, (LENGTH, 8)),
    "qkv": (layers.QKVDense, {"units": 24}, (LENGTH, 8)),
    "mlp": (layers.MLP, {"hidden_dim": 16, "output_dim": 12}, (LENGTH, 8)),
    "patches": (
        layers.PatchEmbedding,
        {"embed_dim": 8, "kernel_size": (3, 7, 7), "strides": (2, 4, 4), "padding": (1, 3, 3)},
        (8, 24, 24, 3),
    ),
    "class_token": (layers.ClassToken, {}, (LENGTH, 8)),
    "separate": (layers.PositionEmbedding, {"grid": GRID}, (LENGTH, 8)),
    "joint": (
        layers.PositionEmbedding,
        {"grid": GRID, "mode": "joint", "class_token": False},
        (LENGTH - 1, 8),
    ),
    "drop_path": (layers.StochasticDepth, {"rate": 0.3, "seed": 5}, (LENGTH, 8)),
    "readout": (layers.Readout, {"mode": "mean"}, (LENGTH, 8)),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def batch(shape):
    return np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)


def model_of(layer_class, arguments, shape, **kwargs):
    inputs = keras.Input(shape)
    return keras.Model(inputs, layer_class(**arguments, **kwargs, name="layer")(inputs))


def test_saving_keeps_every_bit(case, tmp_path):
    model = model_of(*case)
    frames = batch(case[2])
    expected = np.asarray(model(frames))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(frames), expected)

    model.save_weights(tmp_path / "model.weights.h5")
    fresh = model_of(*case)
    fresh.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(fresh(frames), expected)


def test_inferred_shape_is_the_real_one(case):
    layer_class, arguments, shape = case
    layer = layer_class(**arguments)
    assert layer.compute_output_shape((2, *shape)) == layer(batch(shape)).shape
    assert model_of(*case).output_shape == (None, *layer(batch(shape)).shape[1:])


def test_config_holds_every_argument(case):
    layer_class, arguments, _ = case
    if "__init__" not in vars(layer_class):
        return  # no arguments of its own
    names = [
        name
        for name, parameter in inspect.signature(layer_class.__init__).parameters.items()
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and name != "self"
    ]
    config = layer_class(**arguments).get_config()
    assert set(names) <= set(config)
    documented = re.sub(r"\s+", " ", layer_class.__doc__)
    assert all(re.search(rf"\b{name}\b", documented) for name in names if name != "use_bias")


def test_mixed_bfloat16_computes_in_bfloat16_with_float32_weights(case):
    model = model_of(*case, dtype="mixed_bfloat16")
    outputs = model(batch(case[2]))
    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"
    assert all(weight.dtype == "float32" for weight in model.trainable_weights)
    exact = model_of(*case)
    exact.set_weights(model.get_weights())
    difference = np.abs(np.asarray(outputs, np.float32) - np.asarray(exact(batch(case[2]))))
    assert difference.max() < 0.1


def test_one_training_step_moves_every_weight(case):
    # Where stochastic depth happens to leave a branch out of every sample, nothing moves in it.
    keras.utils.set_random_seed(0)
    model = model_of(*case)
    before = [weight.numpy().copy() for weight in model.trainable_weights]
    if not before:
        return  # nothing to train
    # A cubic loss: under a linear one, biases before a softmax have no gradient.
    model.compile(keras.optimizers.SGD(0.1), loss=lambda _, y: keras.ops.sum(y * y * y))
    frames = batch(case[2])
    model.fit(frames, np.zeros((2, 1), np.float32), batch_size=2, verbose=0)
    for weight, old in zip(model.trainable_weights, before, strict=True):
        moved = np.abs(weight.numpy().copy() - old).max()
        # Keys' biases shift all logits of a query alike, which no softmax can see.
        assert np.isfinite(moved) and (moved > 0 or "pool_k/norm/beta" in weight.path), weight.path


def test_public_layers_are_registered():
    for name in layers.__all__:
        assert keras.saving.get_registered_object(f"mvit_tf>{name}") is getattr(layers, name)
    assert mvit_tf.layers is layers


@pytest.mark.parametrize("class_token", [True, False])
@pytest.mark.parametrize("mode", ["conv", "max", "avg"])
def test_pooling_looks_only_at_what_it_takes(mode, class_token):
    """At a stride above the kernel, tokens between the windows may hold anything."""
    pool = layers.TokenPooling(
        grid=(3, 17, 22), kernel_size=(3, 3, 1), strides=(1, 8, 4), mode=mode,
        num_heads=2, class_token=class_token,
    )  # fmt: skip
    assert pool.windows.size == (3, 7, 6)
    assert pool.windows.padding == ((1, 1), (1, 1), (0, 0))
    rng = np.random.default_rng(0)
    tokens = rng.standard_normal((2, 3 * 17 * 22 + class_token, 8)).astype(np.float32)
    expected = np.asarray(pool(tokens))
    positions = pool.windows.tokens[int(class_token) :]
    others = np.setdiff1d(np.arange(class_token, tokens.shape[1]), positions)
    tokens[:, others] = np.nan
    np.testing.assert_array_equal(pool(tokens), expected)
    for position in positions[::7]:
        changed = tokens.copy()
        changed[:, position] += 10
        assert np.abs(np.asarray(pool(changed)) - expected).max() > 0.1
