"""The clips of an experiment: what it is trained on and what it is scored on."""

import contextlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from mvit_tf.data.augmentation.mixing import mix_batches
from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.data.pipeline import (
    evaluation_views,
    shard_of_batch,
    steps_per_epoch,
    train_dataset,
    training_steps,
)
from mvit_tf.data.service import served_dataset
from mvit_tf.data.video.decode_workers import DecodeWorkers, available_processors
from mvit_tf.errors import UserError
from mvit_tf.pretraining.batches import masked_batches
from mvit_tf.training.experiments.experiment import Experiment
from mvit_tf.training.experiments.videos import train_and_validation, training_videos

# Decoded in milliseconds, and not by FFmpeg, whose leaks a new worker is for.
_IMAGES_PER_WORKER = 100_000


def training_clips(
    experiment: Experiment,
    videos: VideoList,
    *,
    ledger: OutcomeLedger,
    workers: DecodeWorkers | None,
    start_step: int = 0,
    skipped_steps: Sequence[int] = (),
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Batches of clips and labels, from a step to the last.

    Args:
        videos: to train on.
        ledger: notes what becomes of each video and clip.
        workers: as `decode_workers` gives them.
        start_step: the first step, counted from the start of training.
        skipped_steps: steps to leave out.
        shard: (index, number): the share of each batch that one of several machines takes.

    Returns:
        Batches of float32 (B, T, H, W, 3), for an image model (B, H, W, 3), and float32 (B, K),
        zeros and ones or mixed; of a pre-training as `masked_batches` gives them.

    Raises:
        UserError: too few videos for a batch, or none that can be decoded; a tf.data service,
            whose epochs are whole, is to begin within one or to be shared out.
    """
    augmentation, repeats = experiment.augmentation(), experiment.data.repeated_augmentation
    batch_size, epochs = experiment.train.batch_size, experiment.train.epochs
    steps = steps_per_epoch(videos, batch_size, repeats)
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
        "epochs": epochs,
        "seed": experiment.data.seed,
        "repeated_augmentation": repeats,
    }
    if experiment.data.service is not None:
        start_epoch, within = divmod(start_step, steps)
        if within or skipped_steps or shard != (0, 1):
            raise UserError(
                "data.service gives whole epochs to one machine: it cannot begin within one "
                f"(step {start_step}), skip steps or share them out"
            )
        batches = served_dataset(
            videos, **clips, start_epoch=start_epoch, service=experiment.data.service
        )
    else:
        batches = train_dataset(
            videos,
            **clips,
            start_step=start_step,
            skipped_steps=skipped_steps,
            shard=shard,
            ledger=ledger,
            balanced_sampling=experiment.data.balanced_sampling,
            workers=workers,
            num_parallel=experiment.data.decode_threads,
            tolerated_damage=experiment.data.tolerated_damage,
        )
    numbers = training_steps(start_step, epochs * steps, skipped_steps)
    if experiment.pretraining.method is not None:
        videos_per_batch = batch_size // repeats
        return masked_batches(
            batches,
            experiment.model_config(num_classes=0),
            window=experiment.pretraining.mask_window,
            ratio=experiment.pretraining.mask_ratio,
            seed=experiment.data.seed,
            steps=numbers,
            places=[
                place * repeats + repeat
                for place in shard_of_batch(videos_per_batch, shard)
                for repeat in range(repeats)
            ],
        )
    if not augmentation.mixes:
        return _without_time(batches) if experiment.images else batches
    if shard[1] > 1 and batch_size // repeats // shard[1] % 2:
        raise UserError(
            "data.mixup_alpha and data.cutmix_alpha mix the clips of a batch in pairs: "
            f"train.batch_size={batch_size} must be a multiple of {2 * repeats * shard[1]} on "
            f"{shard[1]} machines, or both of them 0"
        )
    batches = mix_batches(batches, augmentation, seed=experiment.data.seed, steps=numbers)
    return _without_time(batches) if experiment.images else batches


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
    """Views to score a model on, see `mvit_tf.data.pipeline.evaluation_views`.

    Those of an image model are without the axis of time.
    """
    views = evaluation_views(
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
    return _without_time(views) if experiment.images else views


def _without_time(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Clips of one frame (B, 1, H, W, 3) as images (B, H, W, 3)."""
    return batches.map(lambda clips, *others: (clips[:, 0], *others))


def with_time(experiment: Experiment, clips: np.ndarray) -> np.ndarray:
    """What a model takes (B, T, H, W, 3) or (B, H, W, 3), as clips: an image is one of a frame."""
    return clips[:, None] if experiment.images else clips


def decode_workers(experiment: Experiment):
    """Context of the experiment's `DecodeWorkers`, or of None."""
    data = experiment.data
    count = available_processors() if data.decode_workers is None else data.decode_workers
    if not count:
        return contextlib.nullcontext()
    options = {"videos_per_worker": _IMAGES_PER_WORKER} if experiment.images else {}
    return DecodeWorkers(count, time_limit=data.decode_time_limit, **options)


def first_training_batch(experiment: Experiment) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """What the model sees in the first step of training.

    Returns:
        (clips, labels, class_names): float32 (B, T, H, W, 3) or (B, H, W, 3) as the model sees
        them, float32 (B, K), zeros and ones or mixed, and the K names; see `seen_clips`.

    Raises:
        UserError: of anything that the person at the keyboard can put right.
    """
    videos, _ = train_and_validation(experiment, training_videos(experiment), saved=None)
    ledger = OutcomeLedger()
    with decode_workers(experiment) as workers, ledger.user_errors():
        batches = training_clips(experiment, videos, ledger=ledger, workers=workers)
        batch = next(batches.as_numpy_iterator())
    return *seen_clips(batch), videos.class_names


def arrays_of_batch(batch) -> dict[str, np.ndarray]:
    """The arrays of a batch of `training_clips` by name.

    Returns:
        dict: `clips`, and `labels`, or of a pre-training `mask`.
    """
    inputs, labels = batch
    if isinstance(inputs, dict):
        return {"clips": np.asarray(inputs["frames"]), "mask": np.asarray(inputs["mask"])}
    return {"clips": np.asarray(inputs), "labels": np.asarray(labels)}


def seen_clips(batch) -> tuple[np.ndarray, np.ndarray]:
    """What a model sees of a batch of `training_clips`.

    Returns:
        (clips, labels): of a pre-training with zeros, the mean of pixels, where they are masked,
        and labels (B, 0).
    """
    arrays = arrays_of_batch(batch)
    clips = arrays["clips"]
    if "labels" in arrays:
        return clips, arrays["labels"]
    mask = arrays["mask"]
    for axis in (1, 2, 3):
        mask = np.repeat(mask, clips.shape[axis] // mask.shape[axis], axis=axis)
    return clips * (1 - mask[..., None]), np.zeros((len(clips), 0), np.float32)
