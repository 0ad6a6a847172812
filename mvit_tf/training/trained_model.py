"""The model that a model directory holds, ready to predict."""

import os

from mvit_tf.models import MViT
from mvit_tf.training.experiment import load_experiment
from mvit_tf.training.model_directory import ModelDirectory


def load_trained_model(model_dir: str | os.PathLike) -> tuple[MViT, int]:
    """The best checkpoint of a model directory; only reads, so training may be running there.

    Returns:
        (the model with its preprocessing, sampling and class names, clips of a video that its
        experiment evaluates).

    Raises:
        UserError: nothing was trained there yet.
    """
    directory = ModelDirectory(model_dir)
    experiment = load_experiment(directory.saved_experiment())
    class_names = directory.class_names()
    model = MViT(
        experiment.model_config(len(class_names)),
        name=experiment.model.name,
        dtype=experiment.train.dtype,
        preprocessing=experiment.preprocessing(),
        sampling=experiment.clip_sampling(),
        class_names=class_names,
    )
    with directory.checkpoints.best() as checkpoint:
        checkpoint.file.load(model)
    return model, experiment.data.evaluation_clips
