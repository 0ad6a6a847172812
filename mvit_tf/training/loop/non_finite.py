"""What is kept of a training step whose loss or gradient is not finite."""

import json
import math
import os
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import logging

from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.data.pipeline import steps_per_epoch, videos_of_step
from mvit_tf.data.video.decode_workers import DecodeWorkers
from mvit_tf.errors import UserError
from mvit_tf.files import printable, write_atomically, write_text_atomically
from mvit_tf.remote_path import RemotePath
from mvit_tf.training.experiments.clips import arrays_of_batch, training_clips
from mvit_tf.training.experiments.experiment import Experiment
from mvit_tf.training.loop.training_state import NonFiniteStep
from mvit_tf.urls import without_secrets


def keep_non_finite_step(
    folder: Path | RemotePath,
    found: NonFiniteStep,
    experiment: Experiment,
    videos: VideoList,
    *,
    learning_rate: float,
    workers: DecodeWorkers | None,
):
    """Writes the batch of a step, which is made again, and where it is from.

    step-00000123.npz holds `clips`, float32 (B, T, H, W, 3), and `labels`, float32 (B, K), or of a
    pre-training `mask`;
    step-00000123.json the videos of the clips with their labels, what is not finite, and the
    metrics. Steps are counted from 1. What cannot be written is told: training is worth more.

    Args:
        folder: made if it is not there.
        found: the step, or the steps that were executed at once.
        experiment: of the training.
        videos: it is trained on.
        learning_rate: at the step.
        workers: to decode in.
    """
    for step in found.steps:
        path = folder / f"step-{step + 1:08d}.npz"
        try:
            ledger = OutcomeLedger()
            with ledger.user_errors():
                batches = training_clips(
                    experiment, videos, ledger=ledger, workers=workers, start_step=step
                )
                arrays = arrays_of_batch(next(batches.as_numpy_iterator()))
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, lambda file: np.savez(file, **arrays))  # noqa: B023
            facts = {
                "step": step + 1,
                "reason": found.reason,
                **{name: _number(value) for name, value in found.logs.items()},
                "learning_rate": _number(learning_rate),
                "finite_clips": [bool(np.isfinite(clip).all()) for clip in arrays["clips"]],
                "clips": _clips(experiment, videos, step, ledger),
            }
            text = without_secrets(json.dumps(facts, indent=2, ensure_ascii=False)) + "\n"
            write_text_atomically(folder / f"step-{step + 1:08d}.json", text)
        except (OSError, UserError, tf.errors.OpError) as error:
            logging.warning(f"{os.fspath(path)} was not written: {error}")
        else:
            logging.warning(f"{found.reason} at step {step + 1}; its batch is kept in {path}")


def _clips(experiment, videos, step, ledger):
    """A dict for each clip of a step: its video, the labels, and by what it was replaced."""
    data, batch_size = experiment.data, experiment.train.batch_size
    asked = videos_of_step(
        videos,
        step,
        batch_size=batch_size,
        seed=data.seed,
        repeated_augmentation=data.repeated_augmentation,
        balanced_sampling=data.balanced_sampling,
    )
    epoch, within = divmod(step, steps_per_epoch(videos, batch_size, data.repeated_augmentation))
    named = {
        entry["position"]: {"replaced_by": entry["replaced_by"]}
        for entry in ledger.epoch_entries(epoch)[1:]
        if "replaced_by" in entry
    }
    return [
        {
            "path": printable(videos.name(video)),
            "labels": [videos.class_names[label] for label in videos.labels_of(video)],
            **named.get(within * batch_size + number, {}),
        }
        for number, video in enumerate(asked)
    ]


def _number(value: float) -> float | str:
    """JSON has no NaN."""
    return float(value) if math.isfinite(value) else str(float(value))
