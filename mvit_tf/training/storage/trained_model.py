"""The model that a model directory holds, ready to predict and to export."""

from mvit_tf.models import MViT
from mvit_tf.training.experiments.experiment import Experiment
from mvit_tf.training.experiments.pretraining_keys import refuse_pretraining
from mvit_tf.training.storage.checkpoints import Progress
from mvit_tf.training.storage.model_directory import ModelDirectory


def load_trained_model(experiment: Experiment, directory: ModelDirectory) -> tuple[MViT, Progress]:
    """The best checkpoint; only reads, so training may be going on.

    Returns:
        The model with its preprocessing, sampling and class names; the progress it is of.

    Raises:
        UserError: nothing was trained there yet, or what was is no classifier.
    """
    refuse_pretraining(experiment, directory.path)
    class_names = directory.class_names()
    with directory.checkpoints.best() as checkpoint:
        model = MViT(
            experiment.model_config(len(class_names)),
            name=experiment.model.name,
            dtype=experiment.train.dtype,
            preprocessing=experiment.preprocessing(),
            sampling=experiment.clip_sampling(),
            class_names=class_names,
            multi_label=experiment.data.multi_label,
        )
        checkpoint.file.load(model)
    return model, checkpoint.progress
