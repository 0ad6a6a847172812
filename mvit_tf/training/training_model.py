"""The model of an experiment as `fit` trains it."""

import keras

from mvit_tf.models import MViT
from mvit_tf.training.experiment import Experiment
from mvit_tf.training.multi_worker import MultiWorkerFit
from mvit_tf.training.optimizer import ReplicaAdamW
from mvit_tf.training.schedule import warmup_cosine


class TrainingModel(MultiWorkerFit, MViT):
    """An `MViT` with a training step of its own; its weights are those of an `MViT`."""


def build_training_model(experiment: Experiment, num_classes: int) -> TrainingModel:
    """The model of an experiment, with random weights."""
    return TrainingModel(
        experiment.model_config(num_classes),
        name=experiment.model.name,
        dtype=experiment.train.dtype,
        remat=experiment.train.remat,
    )


def compile_training_model(model: TrainingModel, experiment: Experiment, steps: int):
    """Gives a model the optimizer, loss and metrics of an experiment.

    Args:
        model: whose weights are set: of what is trained, the optimizer keeps moments.
        experiment: the experiment.
        steps: training steps in an epoch.
    """
    settings = experiment.train
    optimizer = ReplicaAdamW(
        warmup_cosine(
            learning_rate=settings.learning_rate,
            steps_per_epoch=steps,
            epochs=settings.epochs,
            warmup_epochs=settings.warmup_epochs,
            warmup_start_learning_rate=settings.warmup_start_learning_rate,
            end_learning_rate=settings.end_learning_rate,
        ),
        weight_decay=settings.weight_decay,
        global_clipnorm=settings.clip_norm,
    )
    optimizer.build(model.trainable_variables)
    if experiment.data.multi_label:
        loss, metrics = keras.losses.BinaryCrossentropy, []
    else:
        loss = keras.losses.CategoricalCrossentropy
        metrics = [keras.metrics.CategoricalAccuracy(name="accuracy")]
    model.compile(
        optimizer,
        loss=loss(from_logits=True, label_smoothing=settings.label_smoothing),
        metrics=metrics,
        jit_compile=settings.jit_compile,
        steps_per_execution=settings.steps_per_execution,
    )
