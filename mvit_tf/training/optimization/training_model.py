"""The model of an experiment as `fit` trains it."""

import contextlib

import keras
import tensorflow as tf

from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.errors import UserError
from mvit_tf.models import MViT
from mvit_tf.pretraining.maskfeat import MaskedMeanSquaredError, MaskFeat
from mvit_tf.training.distributed.multi_worker import MultiWorkerFit
from mvit_tf.training.experiments.experiment import Experiment
from mvit_tf.training.experiments.sections import TrainSection
from mvit_tf.training.optimization.learning_rate_scales import learning_rate_scales
from mvit_tf.training.optimization.losses import (
    WeightedCategoricalCrossentropy,
    balanced_class_weights,
)
from mvit_tf.training.optimization.optimizer import ReplicaAdamW, ReplicaSGD
from mvit_tf.training.optimization.schedule import warmup_cosine

# SlowFast's; Keras' own is 1e-7.
_EPSILON = 1e-8


class TrainingStep(MultiWorkerFit):
    """Mixin before a `keras.Model`: a training step of its own, on the weights of that model.

    Args:
        *args, **kwargs: of the model.
        gradient_accumulation_steps: parts of a batch whose gradients are computed one after the
            other and averaged before the one update: the step of the whole batch in the memory
            of a part. On several devices, parts of the share of each.
    """

    def __init__(self, *args, gradient_accumulation_steps: int = 1, **kwargs):
        super().__init__(*args, **kwargs)
        self.gradient_accumulation_steps = gradient_accumulation_steps

    def get_config(self):
        steps = self.gradient_accumulation_steps
        return {**super().get_config(), "gradient_accumulation_steps": steps}

    def train_step(self, data):
        """One update of a batch (inputs, labels); see `keras.Model.train_step`.

        Raises:
            ValueError: the batch, to be computed in parts, has weights of its samples.
        """
        if self.gradient_accumulation_steps == 1:
            return super().train_step(data)
        inputs, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        if weights is not None:
            raise ValueError(
                "gradient_accumulation_steps takes no weights of samples: leave them out, or set "
                "it to 1"
            )
        loss, gradients, outputs = self._gradients_in_parts(inputs, labels)
        self.optimizer.apply(gradients, self.trainable_variables)
        # Of a batch shared out over replicas the loss is that of the share, divided by them.
        mean_loss = loss * tf.distribute.get_strategy().num_replicas_in_sync
        next(metric for metric in self.metrics if metric.name == "loss").update_state(
            mean_loss, sample_weight=tf.shape(labels)[0]
        )
        return self.compute_metrics(inputs, labels, outputs)

    def _gradients_in_parts(self, inputs, labels):
        """The loss, its gradients and the outputs (B, ...) of a batch."""
        parts, variables = self.gradient_accumulation_steps, self.trainable_variables
        if (labels.shape[0] or 0) % parts:
            raise ValueError(f"a batch of {labels.shape[0]} cannot be split into {parts} parts")
        inputs, labels = keras.tree.map_structure(
            lambda tensor: tf.reshape(tensor, (parts, -1, *tensor.shape[1:])), (inputs, labels)
        )

        def add_part(index, loss, gradients, outputs):
            part, expected = keras.tree.map_structure(lambda x: x[index], (inputs, labels))
            with tf.GradientTape() as tape:
                of_part = self(part, training=True)
                part_loss = self.compute_loss(part, expected, of_part, training=True)
                scaled = self.optimizer.scale_loss(part_loss) / parts
            new = tape.gradient(
                scaled, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
            )
            gradients = [
                total + tf.convert_to_tensor(gradient)
                for total, gradient in zip(gradients, new, strict=True)
            ]
            return index + 1, loss + part_loss / parts, gradients, outputs.write(index, of_part)

        # One part at a time: that is the point of it.
        _, loss, gradients, outputs = tf.while_loop(
            lambda index, *_: index < parts,
            add_part,
            (
                tf.constant(0),
                tf.constant(0.0),
                [tf.zeros(variable.shape, variable.dtype) for variable in variables],
                tf.TensorArray(tf.float32, size=parts),
            ),
            parallel_iterations=1,
            maximum_iterations=parts,
        )
        return loss, gradients, tf.reshape(outputs.stack(), (-1, *self.output_shape[1:]))

    @contextlib.contextmanager
    def averaged_weights(self):
        """Context in which the weights are their moving average, if `train.ema_decay` keeps one.

        Afterwards they are what they were. Weights that are not trained are the same in it.
        """
        variables = self.trainable_variables
        averages = self.optimizer.averages(variables)
        if not averages:
            yield
            return
        # On the host, which has the memory.
        before = [keras.ops.convert_to_numpy(variable).copy() for variable in variables]
        try:
            for variable, average in zip(variables, averages, strict=True):
                variable.assign(average)
            yield
        finally:
            for variable, value in zip(variables, before, strict=True):
                variable.assign(value)


class TrainingModel(TrainingStep, MViT):
    """An `MViT` that is trained."""


class PretrainingModel(TrainingStep, MaskFeat):
    """A `MaskFeat` that is trained."""


class GradientNorm(keras.metrics.Metric):
    """The global norm of the last step's gradient, as one of the metrics that `fit` logs.

    Args:
        variable: where the optimizer keeps it.
    """

    def __init__(self, variable, name="gradient_norm"):
        super().__init__(name=name)
        self._variable = variable

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Nothing to add up."""

    def result(self):
        return tf.identity(self._variable)


def build_training_model(
    experiment: Experiment, num_classes: int
) -> TrainingModel | PretrainingModel:
    """The model of an experiment, with random weights."""
    options = {
        "name": experiment.model.name,
        "dtype": experiment.train.dtype,
        "remat": experiment.train.remat,
        "gradient_accumulation_steps": experiment.train.gradient_accumulation_steps,
    }
    config = experiment.model_config(num_classes)
    if experiment.pretraining.method is None:
        return TrainingModel(config, **options)
    return PretrainingModel(config, window=experiment.pretraining.mask_window, **options)


def compile_training_model(
    model: TrainingStep, experiment: Experiment, steps: int, videos: VideoList | None = None
):
    """Gives a model the optimizer, loss and metrics of an experiment.

    Args:
        model: whose weights are set: of what is trained, the optimizer keeps moments and, with
            `train.ema_decay`, averages that begin at them.
        experiment: the experiment.
        steps: training steps in an epoch.
        videos: to train on; `train.class_weights` counts their labels.

    Raises:
        UserError: a device's share of a batch cannot be split into the parts of
            `train.gradient_accumulation_steps`.
    """
    settings = experiment.train
    _check_parts(settings, tf.distribute.get_strategy().num_replicas_in_sync)
    optimizer = _optimizer(model, settings, steps)
    optimizer.build(model.trainable_variables)
    metrics = [GradientNorm(optimizer.gradient_norm)]
    if not experiment.data.multi_label and experiment.pretraining.method is None:
        metrics.append(keras.metrics.CategoricalAccuracy(name="accuracy"))
    model.compile(
        optimizer,
        loss=_loss(experiment, videos),
        metrics=metrics,
        jit_compile=settings.jit_compile,
        steps_per_execution=settings.steps_per_execution,
    )


def _optimizer(model, settings: TrainSection, steps: int):
    head_rate = settings.head_learning_rate or settings.learning_rate
    batch_scale = settings.batch_size / (settings.base_batch_size or settings.batch_size)
    common = {
        "learning_rate": warmup_cosine(
            learning_rate=settings.learning_rate * batch_scale,
            steps_per_epoch=steps,
            epochs=settings.epochs,
            warmup_epochs=settings.warmup_epochs,
            warmup_start_learning_rate=settings.warmup_start_learning_rate * batch_scale,
            end_learning_rate=settings.end_learning_rate * batch_scale,
        ),
        "weight_decay": settings.weight_decay,
        "global_clipnorm": settings.clip_norm,
        "learning_rate_scales": learning_rate_scales(
            model,
            layer_decay=settings.layer_decay,
            head_scale=head_rate / settings.learning_rate,
        ),
    }
    if settings.ema_decay is not None:
        common |= {"use_ema": True, "ema_momentum": settings.ema_decay}
    if settings.optimizer == "sgd":
        return ReplicaSGD(momentum=settings.momentum, nesterov=True, **common)
    return ReplicaAdamW(epsilon=_EPSILON, **common)


def _loss(experiment, videos):
    if experiment.pretraining.method is not None:
        return MaskedMeanSquaredError()
    options = {"from_logits": True, "label_smoothing": experiment.train.label_smoothing}
    if experiment.data.multi_label:
        return keras.losses.BinaryCrossentropy(**options)
    if experiment.train.class_weights is None:
        return keras.losses.CategoricalCrossentropy(**options)
    return WeightedCategoricalCrossentropy(balanced_class_weights(videos), **options)


def _check_parts(settings: TrainSection, replicas: int):
    parts = settings.gradient_accumulation_steps
    if settings.batch_size % (parts * replicas):
        devices = "" if replicas == 1 else f" on {replicas} devices"
        raise UserError(
            f"train.gradient_accumulation_steps={parts} does not split "
            f"train.batch_size={settings.batch_size}{devices} evenly; make train.batch_size a "
            f"multiple of {parts * replicas}"
        )
