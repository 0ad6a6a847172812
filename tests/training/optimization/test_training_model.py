"""The training step: in parts as whole, the average of the weights, and what the keys set."""

import json
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.errors import UserError
from mvit_tf.training.experiments.experiment import load_experiment
from mvit_tf.training.optimization.losses import WeightedCategoricalCrossentropy
from mvit_tf.training.optimization.optimizer import ReplicaAdamW, ReplicaSGD
from mvit_tf.training.optimization.training_model import (
    build_training_model,
    compile_training_model,
)
from mvit_tf.training.storage.checkpoints import CheckpointStore, Progress, restore

CLASSES, BATCH, STEPS = 3, 8, 2


def training_model(seed=0, videos=None, drop_rate=0.0, depths=(1,), **settings):
    """A compiled tiny model; dropout is of the head alone, if any."""
    fields = {"depths": list(depths), "embed_dim": 8, "drop_path_rate": 0.0}
    values = {
        "model": {
            "name": "mvitv2_s_16x4",
            "input_shape": [4, 32, 32, 3],
            "overrides": {**fields, "head_dropout_rate": drop_rate},
        },
        "train": {"batch_size": BATCH, "epochs": 5, "learning_rate": 1e-2, **settings},
    }
    experiment = load_experiment(None, json.dumps(values))
    keras.utils.set_random_seed(seed)
    model = build_training_model(experiment, CLASSES)
    compile_training_model(model, experiment, STEPS, videos)
    return model


def batches(steps=STEPS):
    """Random clips and labels, as many as so many steps take."""
    rng = np.random.default_rng(0)
    clips = rng.standard_normal((steps * BATCH, 4, 32, 32, 3)).astype(np.float32)
    labels = np.eye(CLASSES, dtype=np.float32)[rng.integers(CLASSES, size=len(clips))]
    return tf.data.Dataset.from_tensor_slices((clips, labels)).batch(BATCH, drop_remainder=True)


def fit(model, epochs=1):
    return model.fit(batches(), epochs=epochs, shuffle=False, verbose=0).history


@pytest.mark.parametrize(
    ("settings", "close"),
    [
        ({}, 1e-6),
        ({"dtype": "mixed_bfloat16", "remat": True}, 2e-3),
    ],
)
def test_a_batch_in_parts_is_learned_from_as_a_whole(settings, close):
    # By SGD: AdamW makes whole steps of gradients that are rounding.
    settings = {"optimizer": "sgd", **settings}
    whole, parts = (
        training_model(gradient_accumulation_steps=steps, **settings) for steps in (1, 4)
    )
    assert parts.get_config()["gradient_accumulation_steps"] == 4
    expected, found = fit(whole), fit(parts)
    assert found.keys() == {"loss", "accuracy", "gradient_norm"}
    assert found["accuracy"] == expected["accuracy"]
    for name in ("loss", "gradient_norm"):
        np.testing.assert_allclose(found[name], expected[name], rtol=max(close * 10, 1e-5))
    for a, b in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=close)


def test_each_part_draws_its_own_dropout():
    model = training_model(gradient_accumulation_steps=2, drop_rate=0.9)
    (seed,) = [v for v in model.variables if v.name == "seed_generator_state"]
    before = seed.numpy()
    fit(model)
    assert (seed.numpy() - before).max() == 2 * STEPS


def test_batches_that_cannot_be_split_are_refused(monkeypatch):
    model = training_model(gradient_accumulation_steps=2)
    clips, labels = next(iter(batches()))
    with pytest.raises(ValueError, match="a batch of 7 cannot be split into 2 parts"):
        model.train_step((clips[:7], labels[:7]))
    two = types.SimpleNamespace(num_replicas_in_sync=2)
    monkeypatch.setattr(tf.distribute, "get_strategy", lambda: two)
    with pytest.raises(UserError, match="on 2 devices evenly; make train.batch_size a multiple of"):
        training_model(gradient_accumulation_steps=8)


def test_parts_take_what_an_iterator_of_keras_gives_and_no_weights_of_samples():
    model = training_model(gradient_accumulation_steps=2)
    clips, labels = next(iter(batches()))
    assert model.train_step((clips, labels, None))["loss"] > 0
    with pytest.raises(ValueError, match="takes no weights of samples"):
        model.train_step((clips, labels, tf.ones(len(clips))))


def test_the_norm_of_the_gradient_is_that_of_each_step_on_its_own():
    model = training_model(clip_norm=0.5)
    norms = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: norms.append(
            (logs["gradient_norm"], float(model.optimizer.gradient_norm))
        )
    )
    history = model.fit(batches(), shuffle=False, verbose=0, callbacks=[note]).history
    assert len({logged for logged, _ in norms}) == STEPS
    assert all(logged == kept > 0.5 for logged, kept in norms)
    assert history["gradient_norm"] == [norms[-1][0]]


def test_fit_leaves_the_weights_and_the_average_is_lent():
    model, plain = training_model(ema_decay=0.9), training_model()
    fit(model, epochs=2)
    fit(plain, epochs=2)
    weights = model.get_weights()
    for a, b in zip(weights, plain.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    averages = [v.numpy() for v in model.optimizer.averages(model.trainable_variables)]
    with pytest.raises(RuntimeError, match="stop"), model.averaged_weights():
        for variable, average in zip(model.trainable_variables, averages, strict=True):
            np.testing.assert_array_equal(variable, average)
        raise RuntimeError("stop")
    for a, b in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert max(np.abs(a - w).max() for a, w in zip(averages, weights, strict=False)) > 1e-3
    with plain.averaged_weights():
        for a, b in zip(weights, plain.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_resumed_average_goes_on(tmp_path):
    straight, first = (training_model(ema_decay=0.9) for _ in range(2))
    fit(straight, epochs=2)
    fit(first)
    store = CheckpointStore(tmp_path)
    store.save(first, Progress(1, 1))
    again = training_model(seed=1, ema_decay=0.9)
    restore(again, store.newest()[0])
    fit(again)
    for a, b in zip(straight.optimizer.variables, again.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_keys_reach_the_optimizer():
    model = training_model(
        depths=(1, 1),
        base_batch_size=2 * BATCH,
        head_learning_rate=0.1,
        layer_decay=0.5,
        warmup_start_learning_rate=1e-4,
        end_learning_rate=1e-3,
        warmup_epochs=1,
        weight_decay=0.2,
    )
    optimizer = model.optimizer
    assert type(optimizer) is ReplicaAdamW
    assert (optimizer.epsilon, optimizer.weight_decay) == (1e-8, 0.2)
    rates = [float(optimizer._learning_rate(step)) for step in (0, STEPS, 5 * STEPS)]
    np.testing.assert_allclose(rates, [5e-5, 5e-3, 5e-4], rtol=1e-4)
    scales = {v.path: optimizer.scale_of(v) for v in model.trainable_variables}
    assert scales["head/kernel"] == pytest.approx(10)
    assert scales["norm/gamma"] == 1
    assert scales["block_01/mlp/fc1/bias"] == 0.5
    assert scales["block_00/attn/relative_positions/height"] == 0.25
    assert scales["class_token/token"] == scales["patch_embed/kernel"] == 0.125

    sgd = training_model(optimizer="sgd", momentum=0.7, clip_norm=None).optimizer
    assert type(sgd) is ReplicaSGD
    assert (sgd.momentum, sgd.nesterov, sgd.global_clipnorm) == (0.7, True, None)
    assert not sgd.learning_rate_scales and not sgd.use_ema


def test_balanced_weights_count_each_class_alike():
    names = ("a", "b", "none")
    videos = VideoList(tuple("wxyz"), (0, 0, 0, 1), names)
    loss = training_model(videos=videos, class_weights="balanced", label_smoothing=0.1).loss
    assert isinstance(loss, WeightedCategoricalCrossentropy)
    np.testing.assert_allclose(loss.class_weights, [4 / (2 * 3), 4 / 2, 0])

    logits = np.array([[1.0, -2.0, 0.5], [0.3, 0.2, -1.0]], np.float32)
    labels = np.array([[1, 0, 0], [0.25, 0.75, 0]], np.float32)  # the second one mixed
    smoothed = 0.9 * labels + 0.1 / 3
    log_shares = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    weights = np.array([2 / 3, 0.25 * 2 / 3 + 0.75 * 2])
    expected = np.mean(weights * -(smoothed * log_shares).sum(1))
    assert float(loss(labels, logits)) == pytest.approx(expected, rel=1e-6)
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(loss),
        custom_objects={"WeightedCategoricalCrossentropy": WeightedCategoricalCrossentropy},
    )
    assert float(again(labels, logits)) == float(loss(labels, logits))
