"""Full-size models against the PyTorch implementations themselves: random weights, all perturbed.

Largest logit difference over the largest logit, float32: below 1e-5. Gradients: below 1e-4 for
every variable. One after the other on one clip, below 12 GB.
"""

import dataclasses
import gc

import keras
import numpy as np
import pytest
import tensorflow as tf

import mvit_tf
from mvit_tf.conversion import load_pytorch_weights, to_pytorch_state_dict
from mvit_tf.conversion.layouts import find_model
from mvit_tf.conversion.tensors import as_tensor
from mvit_tf.layers import MultiscaleBlock
from tests import torch_peers
from tests.conversion import references

pytestmark = pytest.mark.compare

# At full width, more noise than this saturates the softmax of every head.
SCALE = 0.02


def torchvision(name):
    def build(config):
        return getattr(torch_peers.import_torchvision().models.video, name)().eval()

    return build


def timm(name):
    def build(config):
        torch_peers.import_torchvision()
        import timm

        return timm.create_model(name).eval()

    return build


def config_of(name, **fields):
    return mvit_tf.get_config(name).replace(**fields)


MODELS = {
    "torchvision mvit_v1_b": (torchvision("mvit_v1_b"), config_of("mvit_b_16x4")),
    "torchvision mvit_v2_s": (torchvision("mvit_v2_s"), config_of("mvitv2_s_16x4")),
    "pytorchvideo 16x4": (torch_peers.pytorchvideo_model, config_of("mvit_b_16x4")),
    "pytorchvideo 32x3": (torch_peers.pytorchvideo_model, config_of("mvit_b_32x3")),
    "pytorchvideo image B-16": (torch_peers.pytorchvideo_model, config_of("mvit_b_16")),
    "pytorchvideo max": (
        torch_peers.pytorchvideo_model,
        config_of("mvit_b_16x4", pool_mode="max"),
    ),
    "pytorchvideo avg": (
        torch_peers.pytorchvideo_model,
        config_of("mvit_b_16x4", pool_mode="avg", pool_kernel=None),
    ),
    "timm mvitv2_tiny": (timm("mvitv2_tiny"), config_of("mvitv2_t")),
    "timm mvitv2_small": (timm("mvitv2_small"), config_of("mvitv2_s")),
    "timm mvitv2_base": (timm("mvitv2_base"), config_of("mvitv2_b")),
    "timm mvitv2_small_cls": (
        timm("mvitv2_small_cls"),
        config_of("mvitv2_s", class_token=True, readout="class_token", residual_pooling="all"),
    ),
}
WITH_GRADIENTS = ("torchvision mvit_v2_s", "pytorchvideo image B-16", "timm mvitv2_tiny")


@pytest.fixture(autouse=True)
def free_memory():
    yield
    keras.backend.clear_session()
    gc.collect()


def pair(name):
    """(PyTorch model, Keras model with its weights, config)."""
    import torch

    build, config = MODELS[name]
    torch.manual_seed(0)
    peer = torch_peers.perturb(build(config), seed=1, scale=SCALE)
    model = mvit_tf.build_mvit(config)
    load_pytorch_weights(model, torch_peers.state_dict(peer))
    return peer, model, config


@pytest.mark.parametrize("name", MODELS)
def test_logits(name, record_property):
    import torch

    peer, model, config = pair(name)
    frames = torch_peers.random_frames(config, batch=1)
    with torch.no_grad():
        expected = torch_peers.forward(peer, frames).numpy()
    error = references.relative_error(model(frames), expected)
    record_property("relative logit error", float(error))
    print(f"\n{name}: relative logit error {error:.1e}")
    assert error < 1e-5


def keras_gradients(model, frames, loss_weights):
    """(gradients of sum(logits * loss_weights), variables), dense, in the model's order."""
    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(frames) * loss_weights)
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    return [tf.convert_to_tensor(gradient).numpy() for gradient in gradients], variables


@pytest.mark.parametrize("name", WITH_GRADIENTS)
def test_gradients(name, record_property):
    """Of all variables, with the average in place of the maximum in the skip paths.

    Among a million windows some hold two values within float noise of each other, of which each
    implementation takes its own for the largest, and one such window late in the model moves
    every gradient before it by a thousandth. The small references compare max pooling's.
    """
    peer, model, config = pair(name)
    torch_peers.average_in_place_of_max(peer)
    for layer in model.layers:
        if isinstance(layer, MultiscaleBlock):
            layer.pool_skip.mode = "avg"
    frames = torch_peers.random_frames(config, batch=1)
    loss_weights = torch_peers.random_loss_weights(config, batch=1)
    source = {
        key: as_tensor(key, values)
        for key, values in torch_peers.loss_gradients(peer, frames, loss_weights).items()
    }
    layout, source, _ = find_model(source)
    expected = layout.to_keras(source)
    gradients, variables = keras_gradients(model, frames, loss_weights)
    expected = [expected[variable.path].read() for variable in variables]
    largest = max(np.abs(values).max() for values in expected)
    errors = {
        variable.path: float(references.gradient_error(gradient, values, largest))
        for variable, gradient, values in zip(variables, gradients, expected, strict=True)
    }
    worst = max(errors, key=errors.get)
    record_property("largest gradient error", errors[worst])
    print(f"\n{name}: largest gradient error {errors[worst]:.1e} ({worst})")
    assert errors[worst] < 1e-4, worst


STEPS = {
    "torchvision_v2": torch_peers.torchvision_model,
    "pytorchvideo_conv": torch_peers.pytorchvideo_model,
    "timm": torch_peers.timm_model,
}


@pytest.mark.parametrize("name", STEPS)
def test_one_adamw_step(name):
    """Both frameworks' AdamW end at the same weights.

    Adam divides a gradient by its own size, so that a gradient which is zero on paper takes a
    step of full length in the direction of its noise; an epsilon above the noise prevents that.
    Keras adds it before the bias correction of the second moment, PyTorch after.
    """
    import torch

    learning_rate, decay, beta, epsilon = 1e-3, 0.05, 0.999, 1e-3
    stored = references.arrays(name)
    config = stored["config"]
    frames, loss_weights = stored["frames"], torch_peers.random_loss_weights(config)
    model = references.build(name)
    load_pytorch_weights(model, references.weights_path(name))
    peer = STEPS[name](config)
    start = to_pytorch_state_dict(model, name.split("_")[0])
    peer.load_state_dict({key: torch.from_numpy(values) for key, values in start.items()})

    optimizer = torch.optim.AdamW(
        peer.parameters(), lr=learning_rate, betas=(0.9, beta), eps=epsilon, weight_decay=decay
    )
    (torch_peers.forward(peer, frames) * torch.from_numpy(loss_weights)).sum().backward()
    optimizer.step()
    gradients, variables = keras_gradients(model, frames, loss_weights)
    keras.optimizers.AdamW(
        learning_rate, weight_decay=decay, beta_2=beta, epsilon=epsilon * np.sqrt(1 - beta)
    ).apply(gradients, variables)

    moved = 0.0
    for key, values in to_pytorch_state_dict(model, name.split("_")[0]).items():
        expected = peer.state_dict()[key].numpy()
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-5, err_msg=key)
        moved = max(moved, np.abs(expected - start[key]).max())
    assert moved > 0.5 * learning_rate


@pytest.mark.parametrize("name", ["torchvision_v1", "pytorchvideo_image", "timm_class_token"])
def test_pytorch_loads_what_is_written(name):
    """Strictly, and computes the Keras model's logits."""
    import torch

    builders = {
        "torchvision": torch_peers.torchvision_model,
        "pytorchvideo": torch_peers.pytorchvideo_model,
        "timm": torch_peers.timm_model,
    }
    family = name.split("_")[0]
    stored = references.arrays(name)
    config = dataclasses.replace(stored["config"], num_classes=5)
    model = mvit_tf.build_mvit(config)
    peer = builders[family](config)
    state_dict = to_pytorch_state_dict(model, family)
    peer.load_state_dict({key: torch.from_numpy(values) for key, values in state_dict.items()})
    with torch.no_grad():
        logits = torch_peers.forward(peer, stored["frames"]).numpy()
    assert references.relative_error(model(stored["frames"]), logits) < 1e-5
