"""The model as an object: its config stays with it through everything that Keras does."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import mvit_tf
from mvit_tf.data.preprocessing import Preprocessing
from mvit_tf.data.sampling import ClipSampling

TINY = mvit_tf.MViTConfig(
    input_shape=(4, 32, 32, 3),
    embed_dim=16,
    depths=(1, 2),
    key_stride=(1, 4, 4),
    num_classes=5,
    head_dropout_rate=0.0,
)
IMAGE = mvit_tf.get_config("mvitv2_t").replace(
    input_shape=(32, 32, 3), embed_dim=16, depths=(1, 1), num_classes=5
)
V2 = TINY.replace(
    pool_every_query=True,
    expand_in="attention",
    positions="none",
    relative_positions="space_time",
    residual_pooling="patches",
)
CONFIGS = {"v1": TINY, "v2": V2, "image": IMAGE}


@pytest.fixture(params=CONFIGS)
def config(request):
    return CONFIGS[request.param]


def frames_for(config, batch=2):
    shape = (batch, *config.input_shape)
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_saved_and_loaded_it_is_an_mvit_with_its_config(config, tmp_path):
    model = mvit_tf.MViT(config, name="mine", dtype="mixed_bfloat16", remat=True)
    assert isinstance(model, keras.Model) and model.config == config
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is mvit_tf.MViT
    assert (loaded.config, loaded.name, loaded.remat) == (config, "mine", True)
    assert loaded.get_layer("block_00").dtype_policy.name == "mixed_bfloat16"
    np.testing.assert_array_equal(loaded(frames_for(config)), model(frames_for(config)))


def test_what_the_weights_were_made_for_may_be_set_as_plain_data():
    model = mvit_tf.MViT(TINY)
    preprocessing = Preprocessing(size=(32, 32), short_side=36, mean=(0.1, 0.2, 0.3))
    sampling = ClipSampling(num_frames=4, sampling_rate=2)
    model.preprocessing, model.sampling = preprocessing.to_dict(), sampling.to_dict()
    assert (model.preprocessing, model.sampling) == (preprocessing, sampling)
    with pytest.raises(mvit_tf.UserError, match="mean"):
        model.preprocessing = {**preprocessing.to_dict(), "mean": "grey"}


def test_a_compiled_model_goes_on_where_it_was_saved(tmp_path):
    # Without stochastic depth, as `.keras` files hold no states of random generators.
    model = mvit_tf.MViT(TINY.replace(drop_path_rate=0.0))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, jit_compile=False)
    frames, labels = frames_for(TINY), np.array([1, 3])
    model.fit(frames, labels, verbose=0, shuffle=False)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        each.fit(frames, labels, verbose=0, shuffle=False)
    for weight, expected in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-6)


def test_copies(config):
    model = mvit_tf.MViT(config)
    # Keras clones a functional model layer by layer, into one of no class of its own.
    clone = keras.models.clone_model(model)
    assert [layer.name for layer in clone.layers] == [layer.name for layer in model.layers]
    copies = mvit_tf.MViT.from_config(model.get_config()), mvit_tf.MViT(config.to_dict())
    for copy in (clone, *copies):
        assert copy is clone or (type(copy) is mvit_tf.MViT and copy.config == config)
        copy.set_weights(model.get_weights())
        np.testing.assert_array_equal(copy(frames_for(config)), model(frames_for(config)))
    frozen = mvit_tf.MViT(config, trainable=False)
    assert not frozen.trainable_weights
    assert not mvit_tf.MViT.from_config(frozen.get_config()).trainable


def test_no_classes_gives_the_features(config):
    model = mvit_tf.MViT(config)
    features = mvit_tf.MViT(config.replace(num_classes=0))
    assert features.count_params() == mvit_tf.complexity(features.config).params
    features.set_weights(model.get_weights()[: len(features.weights)])
    head = model.get_layer("head")
    np.testing.assert_allclose(
        head(features(frames_for(config))), model(frames_for(config)), atol=1e-6
    )


def test_weights_files_load_without_their_head(tmp_path):
    model = mvit_tf.MViT(TINY)
    model.save_weights(tmp_path / "model.weights.h5")
    for classes in (7, 0):
        other = mvit_tf.MViT(TINY.replace(num_classes=classes))
        with pytest.raises(mvit_tf.UserError):
            other.load_weights(tmp_path / "model.weights.h5")
        other.load_weights(tmp_path / "model.weights.h5", head="fresh")
        np.testing.assert_array_equal(other.get_layer("norm").gamma, model.get_layer("norm").gamma)
        first = model.get_layer("block_00").attn.qkv.kernel
        np.testing.assert_array_equal(other.get_layer("block_00").attn.qkv.kernel, first)


def test_feature_maps_of_all_stages_and_the_class_token(config):
    model = mvit_tf.MViT(config)
    frames = frames_for(config)
    maps = model.feature_maps(frames)
    specs = config.blocks()
    stages = len(config.depths)
    assert set(maps) == {
        *(f"stage_{stage + 1}" for stage in range(stages)),
        *(["class_token"] * config.class_token),
    }
    for stage in range(stages):
        last = [spec for spec in specs if spec.stage == stage][-1]
        got = np.asarray(maps[f"stage_{stage + 1}"])
        assert got.shape == (2, *last.query_grid, last.output_dim)
        tokens = keras.Model(model.input, model.get_layer(last.name).output)(frames)
        grid_tokens = np.asarray(tokens)[:, int(config.class_token) :]
        np.testing.assert_array_equal(got.reshape(grid_tokens.shape), grid_tokens)
    if config.class_token:
        head = model.get_layer("head")
        np.testing.assert_allclose(head(maps["class_token"]), model(frames), atol=1e-6)
    assert model.feature_extractor().count_params() < model.count_params()


SETTINGS = """
import sys, keras, numpy as np, mvit_tf
found = []
for setting, dtype in {cases}:
    exec(setting)
    for pool_mode in ("conv", "max"):
        config = mvit_tf.MViTConfig(**{fields}).replace(pool_mode=pool_mode)
        model = mvit_tf.MViT(config, **({{"dtype": dtype}} if dtype else {{}}))
        rng = np.random.default_rng(0)
        for weight in model.trainable_weights:
            weight.assign(0.1 * rng.standard_normal(weight.shape))
        found.append(np.asarray(model(rng.standard_normal((2, *config.input_shape)))))
np.save(sys.argv[1], np.array(found, float))
"""


def logits_under(folder, keras_json, cases):
    """Logits (case, pooling mode, B, K) of a process with these settings of Keras."""
    (folder / "keras.json").write_text(json.dumps(keras_json))
    code = SETTINGS.format(fields=V2.to_dict(), cases=cases)
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder / "logits.npy")],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_HOME": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    logits = np.load(folder / "logits.npy")
    return logits.reshape(len(cases), 2, *logits.shape[1:])


def test_global_settings_of_keras_break_nothing(tmp_path):
    """Its file, and what programs set: of models with a dtype of their own, and without."""
    policy = "keras.config.set_dtype_policy({!r})".format
    cases = [("", "float32"), (policy("mixed_bfloat16"), None), (policy("float16"), "float32")]
    plain, mixed, half_policy = logits_under(tmp_path, {}, cases)
    settings = {"image_data_format": "channels_first", "floatx": "float16"}
    from_file, half = logits_under(tmp_path, settings, [("", "float32"), ("", None)])
    size = np.abs(plain).max(axis=(1, 2))
    for logits, tolerance in ((mixed, 0.1), (half_policy, 1e-6), (from_file, 1e-6), (half, 0.02)):
        assert (np.abs(logits - plain).max(axis=(1, 2)) < tolerance * size).all()
    # They do something where nothing is said.
    assert min(np.abs(mixed - plain).max(), np.abs(half - plain).max()) > 1e-5 * size.max()
