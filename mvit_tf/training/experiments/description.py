"""What is said of an experiment before it is trained."""

import keras
from absl import logging

from mvit_tf.data.lists.data_checks import remarks
from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.training.experiments.experiment import Experiment


def describe(
    experiment: Experiment,
    model: keras.Model,
    train: VideoList,
    validation: VideoList | None,
    *,
    addition: str = "",
):
    """Says what is trained, and on how many videos.

    Args:
        experiment, model: that are trained.
        train, validation: the videos of either.
        addition: further words on the model.
    """
    logging.info(
        f"model       {experiment.model.name}: {model.count_params():,} parameters, "
        f"{experiment.input_in_words}, {experiment.train.dtype}{addition}"
    )
    held_out = "no validation" if validation is None else f"{len(validation)} for validation"
    if experiment.pretraining.method is None:
        logging.info(f"data        {len(train)} videos of {train.num_classes} classes, {held_out}")
    else:
        logging.info(f"data        {len(train)} videos, no labels")


def say_remarks(
    listed: VideoList, train: VideoList, validation: VideoList | None, *, look_into_files: bool
):
    """Says and warns of what is remarkable about the videos, see `remarks` for the arguments."""
    told, warnings = remarks(listed, train, validation, look_into_files=look_into_files)
    for line in told:
        logging.info(line)
    for line in warnings:
        logging.warning(line)
