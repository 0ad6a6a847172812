"""Replays a training of SlowFast, stored by make_training_references.py, by an experiment."""

import contextlib
import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import mvit_tf
from mvit_tf.training.experiments.experiment import load_experiment
from mvit_tf.training.optimization.training_model import (
    build_training_model,
    compile_training_model,
)

REFERENCES = Path(__file__).parents[1] / "references"
NAMES = ("v1_adamw", "v1_sgd", "v2_adamw", "v2_layer_decay")
_KEYS = {
    "OPTIMIZING_METHOD": "optimizer",
    "BASE_LR": "learning_rate",
    "WARMUP_START_LR": "warmup_start_learning_rate",
    "COSINE_END_LR": "end_learning_rate",
    "WEIGHT_DECAY": "weight_decay",
    "LAYER_DECAY": "layer_decay",
}


def load_training(name):
    """The arrays of a stored training, by name."""
    with np.load(REFERENCES / f"slowfast_training_{name}.npz") as arrays:
        return dict(arrays)


def values_under(training, prefix):
    """Of the arrays called `prefix:NAME`, the values by NAME."""
    start = f"{prefix}:"
    return {key[len(start) :]: v for key, v in training.items() if key.startswith(start)}


def experiment_of(training, **settings):
    """The experiment whose training section says what SlowFast was told."""
    recipe, config = (json.loads(str(training[key])) for key in ("recipe", "config"))
    section = {
        **{key: recipe[theirs] for theirs, key in _KEYS.items() if theirs in recipe},
        "epochs": recipe["epochs"],
        "batch_size": recipe["batch"],
        "warmup_epochs": recipe["warmup_epochs"],
        "clip_norm": 1.0,
        "label_smoothing": 0.1,
        **settings,
    }
    fields = {
        key: config[key]
        for key in (
            *("depths", "embed_dim", "key_stride", "pool_every_query", "expand_in"),
            *("positions", "relative_positions", "residual_pooling"),
        )
    }
    fields |= {"drop_path_rate": 0.0, "head_dropout_rate": 0.0}
    values = {
        "model": {
            "name": "mvit_b_16x4",
            "input_shape": config["input_shape"],
            "overrides": fields,
        },
        "train": section,
    }
    return load_experiment(None, json.dumps(values)), config["num_classes"]


def batches_of(training):
    """Mixed clips (B, T, H, W, 3) and labels (B, K), not smoothed, of each step."""
    config = json.loads(str(training["config"]))
    random = np.random.RandomState(int(training["frames_seed"]))
    steps = zip(training["labels"], training["mix_weight"], training["mix_box"], strict=True)
    for labels, weight, (top, bottom, left, right) in steps:
        weight = np.float32(weight)
        shape = (len(labels), *config["input_shape"])
        clips = random.standard_normal(shape).astype(np.float32)
        if top < 0:
            clips = weight * clips + (1 - weight) * clips[::-1]
        else:
            box = np.s_[:, :, top:bottom, left:right]
            partner = clips[::-1].copy()
            clips[box] = partner[box]
        one_hot = np.eye(config["num_classes"], dtype=np.float32)[labels]
        yield clips, weight * one_hot + (1 - weight) * one_hot[::-1]


def replay(name, strategy=None, *, after_step=None, **settings):
    """Trains as the stored training was.

    Args:
        name: of the training.
        strategy: to train under.
        after_step: called with the model after each step.
        **settings: keys of the training section.

    Returns:
        dict: `losses`, `gradient_norms` and `learning_rates` of the steps, and `weights` in
        SlowFast's names after the last.
    """
    training = load_training(name)
    experiment, num_classes = experiment_of(training, **settings)
    steps = len(training["labels"]) // experiment.train.epochs
    figures = {"losses": [], "gradient_norms": [], "learning_rates": []}

    def note(batch, logs):
        # The metrics are running means.
        model.reset_metrics()
        figures["losses"].append(float(logs["loss"]))
        figures["gradient_norms"].append(float(logs["gradient_norm"]))
        if after_step:
            after_step(model)

    def note_rate(batch, logs):
        figures["learning_rates"].append(float(model.optimizer.learning_rate))

    with strategy.scope() if strategy else contextlib.nullcontext():
        model = build_training_model(experiment, num_classes)
        initial = values_under(training, "initial")
        mvit_tf.load_pytorch_weights(
            model, {key: value.astype(np.float32) for key, value in initial.items()}
        )
        compile_training_model(model, experiment, steps)
    clips, labels = zip(*batches_of(training), strict=True)
    dataset = tf.data.Dataset.from_tensor_slices((np.stack(clips), np.stack(labels)))
    note_steps = keras.callbacks.LambdaCallback(
        on_train_batch_begin=note_rate, on_train_batch_end=note
    )
    model.fit(
        dataset,
        epochs=experiment.train.epochs,
        steps_per_epoch=steps,
        shuffle=False,
        verbose=0,
        callbacks=[note_steps],
    )
    return {**figures, "weights": mvit_tf.to_pytorch_state_dict(model, layout="slowfast")}


def differences(name, replayed):
    """The largest differences of a replay from SlowFast, in losses and in weights.

    Left out are the biases that LayerNormalization adds to all keys: a softmax over the keys
    does not change with them, so that their gradient is rounding, of which AdamW makes steps.
    """
    training = load_training(name)
    initial, change = values_under(training, "initial"), values_under(training, "change")
    losses = np.abs(np.array(replayed["losses"]) - training["losses"]).max()
    weights = {
        key: np.abs(np.array(replayed["weights"][key]) - initial[key] - change[key]).max()
        for key in change
        if not key.endswith("norm_k.bias")
    }
    worst = max(weights, key=weights.get)
    return float(losses), float(weights[worst]), worst
