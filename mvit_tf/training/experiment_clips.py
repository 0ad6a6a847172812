"""The clips of an experiment: what it is trained on and what it is scored on."""

import contextlib

import numpy as np
import tensorflow as tf

from mvit_tf.data.augmentation.mixing import mix_batches
from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.data.pipeline import evaluation_views, steps_per_epoch, train_dataset
from mvit_tf.data.service import served_dataset
from mvit_tf.data.video.decode_workers import DecodeWorkers, available_processors
from mvit_tf.errors import UserError
from mvit_tf.training.experiment import Experiment
from mvit_tf.training.experiment_videos import labelled_videos, train_and_validation


def training_clips(
    experiment: Experiment,
    videos: VideoList,
    *,
    start_epoch: int,
    ledger: OutcomeLedger,
    workers: DecodeWorkers | None,
) -> tf.data.Dataset:
    """Batches of clips and labels, from an epoch to the last.

    Args:
        videos: to train on.
        start_epoch: the first epoch.
        ledger: notes what becomes of each video and clip.
        workers: as `decode_workers` gives them.

    Returns:
        Batches of float32 (B, T, H, W, 3) and float32 (B, K), zeros and ones or mixed.

    Raises:
        UserError: too few videos for a batch, or none that can be decoded.
    """
    augmentation, repeats = experiment.augmentation(), experiment.data.repeated_augmentation
    batch_size = experiment.train.batch_size
    if augmentation.mixes and batch_size == 1:
        raise UserError(
            "data.mixup_alpha and data.cutmix_alpha mix the clips of a batch: train.batch_size "
            "must be at least 2, or both of them 0"
        )
    clips = {
        "sampling": experiment.clip_sampling(),
        "preprocessing": experiment.preprocessing(),
        "augmentation": augmentation,
        "batch_size": batch_size,
        "epochs": experiment.train.epochs,
        "start_epoch": start_epoch,
        "seed": experiment.data.seed,
        "repeated_augmentation": repeats,
    }
    if experiment.data.service is not None:
        batches = served_dataset(videos, **clips, service=experiment.data.service)
    else:
        batches = train_dataset(
            videos,
            **clips,
            ledger=ledger,
            balanced_sampling=experiment.data.balanced_sampling,
            workers=workers,
            num_parallel=experiment.data.decode_threads,
            tolerated_damage=experiment.data.tolerated_damage,
        )
    if not augmentation.mixes:
        return batches
    first = start_epoch * steps_per_epoch(videos, batch_size, repeats)
    return mix_batches(batches, augmentation, seed=experiment.data.seed, start=first)


def validation_views(
    experiment: Experiment,
    videos: VideoList,
    *,
    batch_size: int,
    ledger: OutcomeLedger,
    workers: DecodeWorkers | None,
    num_clips: int,
    num_crops: int,
) -> tf.data.Dataset:
    """Views to score a model on, see `mvit_tf.data.pipeline.evaluation_views`."""
    return evaluation_views(
        videos,
        sampling=experiment.clip_sampling(),
        preprocessing=experiment.preprocessing(),
        num_clips=num_clips,
        num_crops=num_crops,
        batch_size=batch_size,
        ledger=ledger,
        workers=workers,
        num_parallel=experiment.data.decode_threads,
        tolerated_damage=experiment.data.tolerated_damage,
    )


def decode_workers(experiment: Experiment):
    """Context of the experiment's `DecodeWorkers`, or of None."""
    data = experiment.data
    count = available_processors() if data.decode_workers is None else data.decode_workers
    if not count:
        return contextlib.nullcontext()
    return DecodeWorkers(count, time_limit=data.decode_time_limit)


def first_training_batch(experiment: Experiment) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """What the model sees in the first step of training.

    Returns:
        (clips, labels, class_names): float32 (B, T, H, W, 3) as the model takes them, float32
        (B, K), zeros and ones or mixed, and the K names.

    Raises:
        UserError: of anything that the person at the keyboard can put right.
    """
    videos, _ = train_and_validation(experiment, labelled_videos(experiment), saved=None)
    ledger = OutcomeLedger()
    with decode_workers(experiment) as workers, ledger.user_errors():
        batches = training_clips(experiment, videos, start_epoch=0, ledger=ledger, workers=workers)
        clips, labels = next(iter(batches))
    return clips.numpy(), labels.numpy(), videos.class_names
