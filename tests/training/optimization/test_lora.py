"""LoRA: what is trained, that it is merged to the same model, and that training goes on exactly."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from mvit_tf.layers import dense
from mvit_tf.models import MViT
from mvit_tf.training import trainer
from mvit_tf.training.experiments.experiment import load_experiment
from mvit_tf.training.loop import callbacks
from mvit_tf.training.optimization.lora import enable_lora
from mvit_tf.training.storage.checkpoints import CheckpointStore, Progress
from mvit_tf.training.storage.model_directory import ModelDirectory
from mvit_tf.training.storage.trained_model import load_trained_model
from mvit_tf.weights_file import load_weights_file
from tests.training.tiny import (
    arrays,
    newest_checkpoint,
    tiny_model,
    write_config,
    write_videos,
)

LORA = "train.lora_rank=2,train.epochs=3"


def lora_model(rank=2, *, seed=0, **fields):
    """A tiny model whose updates are not zero."""
    model = tiny_model(seed=seed, **fields)
    enable_lora(model, rank)
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(variable + 0.1 * rng.standard_normal(variable.shape))
    return model


def frames(batch=3, seed=5):
    return np.random.default_rng(seed).standard_normal((batch, 4, 32, 32, 3)).astype("float32")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora")
    return write_config(folder / "tiny.yaml", write_videos(folder / "videos"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, config):
    directory = tmp_path_factory.mktemp("straight")
    trainer.run(mode="train", model_dir=directory, config_file=config, overrides=LORA)
    return directory


def test_the_factors_and_the_head_are_trained():
    model = tiny_model()
    before = model(frames())
    enable_lora(model, 3)
    np.testing.assert_array_equal(model(frames()), before)
    layers = [
        layer for block in ("block_00", "block_01") for layer in model.get_layer(block).dense_layers
    ]
    # qkv, proj, fc1, fc2 of both blocks; the first widens from 16 to 32.
    assert len(layers) == 9
    factors = sum(3 * sum(layer.lora_weights["kernel"].shape) for layer in layers)
    head = 32 * 3 + 3
    trained = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert trained == factors + head
    # Told apart by path, as the learning rates of layers are.
    paths = {variable.path for variable in model.trainable_variables}
    assert len(paths) == 2 * 9 + 2
    assert "block_00/attn/qkv/lora_kernel_a" in paths
    second = tiny_model()
    enable_lora(second, 3, first_block=1)
    assert not any(layer.lora_enabled for layer in second.get_layer("block_00").dense_layers)
    assert all(layer.lora_enabled for layer in second.get_layer("block_01").dense_layers)


@pytest.mark.parametrize("name", ["mvit_s_16x4", "mvitv2_s_16x4"])
def test_training_multiplies_by_the_factors_what_inference_merges(name):
    """The same outputs, and the gradient that the merged kernel's implies."""
    model = lora_model(name=name, drop_path_rate=0.0, head_dropout_rate=0.0)
    np.testing.assert_allclose(
        model(frames(), training=True), model(frames(), training=False), atol=2e-6
    )
    layer = model.get_layer("block_00").mlp.fc1
    down, up = layer.lora_kernel_a, layer.lora_kernel_b
    x = np.random.default_rng(1).standard_normal((5, 16)).astype("float32")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x, training=True) ** 2)
    of_down, of_up = tape.gradient(loss, [down.value, up.value])
    upstream = 2 * np.asarray(layer(x, training=False))
    np.testing.assert_allclose(of_up, down.numpy().T @ x.T @ upstream, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(of_down, x.T @ upstream @ up.numpy().T, rtol=1e-4, atol=1e-4)


def test_no_gradient_of_a_kernels_size_is_computed():
    layer = dense.Dense(48)
    layer.build((None, 32))
    layer.enable_lora(2)

    @tf.function
    def gradients(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x, training=True))
        return tape.gradient(loss, [layer.lora_kernel_a.value, layer.lora_kernel_b.value])

    graph = gradients.get_concrete_function(tf.TensorSpec((7, 32))).graph
    products = [op for op in graph.get_operations() if op.type == "MatMul"]
    # TensorFlow leaves out what nothing takes.
    used = [op for op in products if op.outputs[0].consumers()]
    assert used
    assert all(tuple(op.outputs[0].shape) != (32, 48) for op in used)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_a_checkpoint_is_an_ordinary_models(tmp_path, dtype):
    keras.config.set_dtype_policy(dtype)
    try:
        model, plain = lora_model(), tiny_model(seed=3)
    finally:
        keras.config.set_dtype_policy("float32")
    store = CheckpointStore(tmp_path)
    store.save(model, Progress(1, 1, 0.5, 1.0))
    with store.best() as checkpoint:
        checkpoint.file.load(plain)
    tolerance = 1e-6 if dtype == "float32" else 0.02
    np.testing.assert_allclose(
        np.asarray(plain(frames())), np.asarray(model(frames())), atol=tolerance
    )
    # Merged in float32, whatever the model computes in.
    layer = model.get_layer("block_01").attn.qkv
    merged = layer.lora_weights["kernel"].numpy() + (
        layer.lora_kernel_a.numpy() @ layer.lora_kernel_b.numpy()
    )
    np.testing.assert_allclose(plain.get_layer("block_01").attn.qkv.kernel, merged, atol=1e-7)


def test_a_checkpoint_keeps_kernels_and_factors_apart(tmp_path):
    model, other = lora_model(), lora_model(seed=4)
    store = CheckpointStore(tmp_path)
    store.save(model, Progress(1, 1, 0.5, 1.0))
    load_weights_file(other, store.newest()[0])
    for one, two in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(one, two)
    another_rank = lora_model(rank=3, seed=4)
    with store.best() as checkpoint:
        checkpoint.file.load(another_rank)
    # What a file does not hold begins anew: the updates are zero, and can be learnt.
    np.testing.assert_allclose(another_rank(frames()), model(frames()), atol=1e-6)
    layer = another_rank.get_layer("block_00").attn.qkv
    assert np.abs(layer.lora_kernel_a).max() > 0 == np.abs(layer.lora_kernel_b).max()


def test_only_what_is_trained_moves_and_the_export_is_the_same_model(config, trained):
    directory = ModelDirectory(trained)
    experiment = load_experiment(directory.saved_experiment())
    file = arrays(newest_checkpoint(trained))
    factors = [name for name in file if name.startswith("lora/") and "lora_kernel" in name]
    assert len(factors) == 18
    assert all(np.abs(file[name]).max() > 0 for name in factors)
    # Adam's two slots for each of what is trained, beside the optimizer's numbers.
    slots = [name for name in file if name.startswith("optimizer/") and file[name].ndim]
    assert len(slots) == 2 * (len(factors) + 2)
    model, _ = load_trained_model(experiment, directory)
    assert type(model) is MViT
    with_lora = tiny_model(num_classes=8)
    enable_lora(with_lora, 2)
    with directory.checkpoints.best() as checkpoint:
        checkpoint.file.load(with_lora)
    np.testing.assert_allclose(model(frames()), with_lora(frames()), atol=1e-6)
    version = trainer.export(experiment, directory)
    serve = tf.saved_model.load(str(version)).signatures["serving_default"]
    assert serve(frames=tf.zeros((1, 4, 32, 32, 3), tf.uint8))["logits"].shape == (1, 8)


def test_an_interrupted_run_ends_with_the_same_bits(tmp_path, monkeypatch, config, trained):
    original = callbacks.EpochCheckpoints.on_epoch_end

    def interrupted(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt
        original(self, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.EpochCheckpoints, "on_epoch_end", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trainer.run(mode="train", model_dir=tmp_path, config_file=config, overrides=LORA)
    trainer.run(mode="train", model_dir=tmp_path)
    straight = arrays(newest_checkpoint(trained))
    resumed = arrays(newest_checkpoint(tmp_path))
    assert straight.keys() == resumed.keys()
    for name, value in straight.items():
        np.testing.assert_array_equal(resumed[name], value, err_msg=name)
