"""Functional models: end points, saving, precision, sizes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import mvit_tf

TINY = {
    "input_shape": (4, 32, 32, 3),
    "embed_dim": 16,
    "depths": (1, 2),
    "key_stride": (1, 4, 4),
    "num_classes": 5,
    "head_dropout_rate": 0.0,
}
VARIANTS = {
    "v1": {},
    "v1_max": {"pool_mode": "max"},
    "v1_avg_kernel_of_stride": {"pool_mode": "avg", "pool_kernel": None},
    "vit": {
        "depths": (2,),
        "num_heads": 2,
        "key_stride": (1, 1, 1),
        "pool_kernel": (1, 1, 1),
        "positions": "joint",
    },
    "v2": {
        "pool_every_query": True,
        "expand_in": "attention",
        "positions": "none",
        "relative_positions": "space_time",
        "residual_pooling": "patches",
    },
    "v2_image_without_class_token": {
        "input_shape": (32, 32, 3),
        "patch_kernel": (1, 7, 7),
        "patch_stride": (1, 4, 4),
        "patch_padding": (0, 3, 3),
        "pool_kernel": (1, 3, 3),
        "pool_every_query": True,
        "positions": "none",
        "relative_positions": "space",
        "residual_pooling": "patches",
        "class_token": False,
        "readout": "mean",
    },
    "skip_path_of_the_tokens_themselves": {"normalized_skip": False},
    "mean_before_norm": {"readout": "mean_before_norm", "qkv_bias": False},
}


@pytest.fixture(params=VARIANTS)
def config(request):
    return mvit_tf.MViTConfig(**{**TINY, **VARIANTS[request.param]})


def frames_for(config, batch=2, seed=0):
    shape = (batch, *config.input_shape)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_parameters_are_those_of_the_specs(config):
    model = mvit_tf.build_mvit(config)
    assert model.count_params() == mvit_tf.complexity(config).params
    assert model.output_shape == (None, 5)


def test_saving_keeps_every_bit(config, tmp_path):
    model = mvit_tf.build_mvit(config)
    frames = frames_for(config)
    expected = np.asarray(model(frames))
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        keras.models.load_model(tmp_path / "model.keras")(frames), expected
    )
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = mvit_tf.build_mvit(config)
    fresh.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(fresh(frames), expected)


@pytest.mark.parametrize("variant", ["v1", "v2"])
def test_mixed_bfloat16_trains_and_gives_float32_logits(variant):
    config = mvit_tf.MViTConfig(**{**TINY, **VARIANTS[variant]})
    model = mvit_tf.build_mvit(config, dtype="mixed_bfloat16")
    assert model.get_layer("block_00").compute_dtype == "bfloat16"
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(1e-2), loss=loss, jit_compile=False)
    frames = frames_for(config, batch=4)
    history = model.fit(frames, np.arange(4), batch_size=4, epochs=12, verbose=0, shuffle=False)
    assert history.history["loss"][-1] < 0.5 * history.history["loss"][0]
    assert model(frames).dtype == "float32"


def test_rows_of_a_batch_do_not_mix(config):
    model = mvit_tf.build_mvit(config)
    frames = frames_for(config, batch=3)
    np.testing.assert_allclose(model(frames)[1:2], model(frames[1:2]), atol=1e-5)


def test_end_points_have_stable_names():
    model = mvit_tf.build_mvit(mvit_tf.MViTConfig(**TINY))
    assert [layer.name for layer in model.layers] == [
        "frames",
        "patch_embed",
        "class_token",
        "positions",
        "block_00",
        "block_01",
        "block_02",
        "readout",
        "norm",
        "head_dropout",
        "head",
    ]
    paths = [weight.path for weight in model.get_layer("block_01").weights]
    assert "block_01/attn/pool_q/conv/kernel" in paths
    assert "block_01/mlp/fc1/kernel" in paths


def test_norm_after_readout_equals_readout_after_norm():
    model = mvit_tf.build_mvit(mvit_tf.MViTConfig(**TINY))
    frames = frames_for(mvit_tf.MViTConfig(**TINY))
    tokens = keras.Model(model.input, model.get_layer("block_02").output)(frames)
    normed = model.get_layer("norm")(tokens)[:, 0]
    np.testing.assert_allclose(model.get_layer("head")(normed), model(frames), atol=1e-5)


def test_first_weights_are_slowfasts():
    model = mvit_tf.build_mvit(mvit_tf.MViTConfig(**{**TINY, "embed_dim": 64}))
    weights = {weight.path: weight.numpy() for weight in model.weights}
    assert np.std(weights["block_00/attn/qkv/kernel"]) == pytest.approx(0.02, rel=0.1)
    for path, value in weights.items():
        if path.endswith(("/beta", "bias")) and not path.startswith("patch_embed"):
            assert (value == np.float32(0.02)).all(), path
    assert np.abs(weights["patch_embed/bias"]).max() < 1 / np.sqrt(3 * 3 * 7 * 7)


def test_lora_is_free():
    model = mvit_tf.build_mvit(mvit_tf.MViTConfig(**TINY))
    frames = frames_for(mvit_tf.MViTConfig(**TINY))
    expected = np.asarray(model(frames))
    model.get_layer("block_01").attn.qkv.enable_lora(2)
    np.testing.assert_allclose(model(frames), expected, atol=1e-6)


@pytest.mark.parametrize("size", [(4, 40, 24), (6, 52, 36), (8, 28, 44)])
def test_any_multiple_of_the_patch_stride_works(size):
    for variant in ("v1", "v2"):
        config = mvit_tf.MViTConfig(**{**TINY, **VARIANTS[variant], "input_shape": (*size, 3)})
        model = mvit_tf.build_mvit(config)
        assert np.isfinite(model(frames_for(config))).all()


# Of layers that Keras cannot quantise and leaves as they are.
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
@pytest.mark.slow
@pytest.mark.parametrize(("mode", "tolerance"), [("int8", 0.05), ("int4", 1)])
def test_quantised_models_run(mode, tolerance):
    config = mvit_tf.MViTConfig(**TINY)
    model = mvit_tf.build_mvit(config)
    frames = frames_for(config)
    expected = np.asarray(model(frames))
    model.quantize(mode)
    got = np.asarray(model(frames))
    assert 0 < np.abs(got - expected).max() < tolerance * np.abs(expected).max()


@pytest.mark.parametrize(("variant", "dtype"), [("v1", "mixed_bfloat16"), ("v2", "float32")])
def test_rematerialisation_trains_the_same(variant, dtype):
    """Stochastic depth too: what the gradient computes again leaves out the same branches."""
    config = mvit_tf.MViTConfig(**{**TINY, **VARIANTS[variant], "drop_path_rate": 0.5})
    frames, targets = frames_for(config, batch=4), np.eye(5, dtype=np.float32)[[0, 1, 2, 3]]
    weights, operations = [], []
    for remat in (False, True):
        keras.utils.set_random_seed(1)
        model = mvit_tf.build_mvit(config, dtype=dtype, remat=remat)
        model.compile(keras.optimizers.SGD(0.1), keras.losses.CategoricalCrossentropy(True))
        step = tf.function(model.train_step, autograph=False)
        graph = step.get_concrete_function((frames, targets)).graph
        operations.append(sum(op.type == "Softmax" for op in graph.get_operations()))
        for _ in range(2):
            step((frames, targets))
        weights.append([weight.numpy() for weight in model.weights])
    blocks = sum(config.depths)
    assert operations[1] == operations[0] + blocks
    for kept, again in zip(*weights, strict=True):
        np.testing.assert_allclose(again, kept, rtol=0, atol=1e-6)


def test_training_compiles_by_xla_as_keras_does_by_default():
    config = mvit_tf.MViTConfig(**{**TINY, **VARIANTS["v1"], "depths": (1, 1)})
    model = mvit_tf.build_mvit(config)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, jit_compile=True)
    assert np.isfinite(model.train_on_batch(frames_for(config), np.eye(5)[[0, 1]]))
