"""The picture of a pre-training: clips, what the model sees of them, and what it makes of that."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.data.transforms import denormalise
from mvit_tf.pretraining.maskfeat import MaskFeat
from mvit_tf.pretraining.pictures import SCALE, draw_histograms
from mvit_tf.remote_path import RemotePath
from mvit_tf.training.experiments.clips import (
    arrays_of_batch,
    decode_workers,
    seen_clips,
    training_clips,
)
from mvit_tf.training.experiments.experiment import Experiment
from mvit_tf.training.storage.checkpoints import CheckpointStore

_MOST_CLIPS = 3


def plot_predicted_gradients(
    experiment: Experiment,
    videos: VideoList,
    checkpoints: CheckpointStore,
    path: Path | RemotePath,
):
    """Draws a few clips of the first batch, each in four rows.

    Args:
        experiment, videos: of the training.
        checkpoints: of it; the best weights predict.
        path: of the PNG picture to write.
    """
    from mvit_tf.analysis.plots import plot_clips

    # Of its own, as the weights of one in training may lie on several devices.
    model = MaskFeat(
        experiment.model_config(num_classes=0),
        window=experiment.pretraining.mask_window,
        dtype=experiment.train.dtype,
    )
    with checkpoints.best() as checkpoint:
        checkpoint.file.load(model)
    with decode_workers(experiment) as workers:
        batches = training_clips(experiment, videos, ledger=OutcomeLedger(), workers=workers)
        batch = next(batches.as_numpy_iterator())
    clips, seen = arrays_of_batch(batch)["clips"], seen_clips(batch)[0]
    inputs, targets = batch
    shown = {name: tf.constant(values[:_MOST_CLIPS]) for name, values in inputs.items()}
    predictions = model(shown, training=False).numpy()
    rows, labels = [], []
    for index, of_clip in enumerate(predictions):
        for name, frames in (("clip", clips[index]), ("seen", seen[index])):
            pixels = denormalise(frames[:: model.predicted.time_stride], experiment.preprocessing())
            rows.append(np.repeat(np.repeat(pixels, SCALE, axis=1), SCALE, axis=2))
            labels.append(name)
        for name, values in (("gradients", targets[index, :, :-1]), ("predicted", of_clip)):
            rows.append(draw_histograms(values, model.predicted))
            labels.append(name)
    plot_clips(rows, labels, path, stride=model.predicted.time_stride)
