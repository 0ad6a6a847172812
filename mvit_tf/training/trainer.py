"""The four modes of `train.py`: train, eval, train_and_eval, export."""

import dataclasses
import os
from pathlib import Path

import keras
import tensorflow as tf
from absl import logging

from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.data.pipeline import steps_per_epoch
from mvit_tf.errors import UserError
from mvit_tf.remote_path import RemotePath, reached
from mvit_tf.training.distributed.cluster import read_cluster
from mvit_tf.training.distributed.distribution import (
    check_replica_options,
    is_chief,
    make_strategy,
    num_replicas,
    process_shard,
    strategy_scope,
)
from mvit_tf.training.distributed.worker_exchange import lost_workers
from mvit_tf.training.distributed.worker_roles import (
    announce_role,
    directory_of_worker,
    require_same_checkpoint,
    require_same_experiment,
    require_same_videos,
    require_same_weights,
    shared_ledger,
)
from mvit_tf.training.evaluation.predicted_gradients import plot_predicted_gradients
from mvit_tf.training.evaluation.scoring import evaluate
from mvit_tf.training.experiments.description import describe, say_remarks
from mvit_tf.training.experiments.experiment import Experiment, load_experiment
from mvit_tf.training.experiments.pretraining_keys import refuse_pretraining
from mvit_tf.training.experiments.videos import train_and_validation, training_videos
from mvit_tf.training.loop.callbacks import ends_early
from mvit_tf.training.loop.fitting import full_disk_told
from mvit_tf.training.loop.training_loop import Training, run_training
from mvit_tf.training.loop.training_state import TrainingState
from mvit_tf.training.optimization.freezing import select_trained
from mvit_tf.training.optimization.precision import slow_bfloat16
from mvit_tf.training.optimization.training_model import (
    build_training_model,
    compile_training_model,
)
from mvit_tf.training.probing.probe import train_probe
from mvit_tf.training.storage.checkpoints import Progress, restore
from mvit_tf.training.storage.initial_weights import initial_weights, load_initial_weights
from mvit_tf.training.storage.model_directory import ModelDirectory

MODES = ("train", "eval", "train_and_eval", "export")


def run(
    *,
    mode: str,
    model_dir: str | os.PathLike,
    config_file: str | os.PathLike | None = None,
    overrides: str = "",
    **options,
):
    """Runs one experiment.

    Args:
        mode: one of `MODES`.
        model_dir: where everything is written; training resumes what it finds there.
        config_file: YAML of the experiment; `None` takes the one saved in `model_dir`.
        overrides: see `load_experiment`.
        **options: of `export`.

    Raises:
        UserError: of anything that the person at the keyboard can put right.
    """
    if mode not in MODES:
        raise UserError(f"--mode={mode}: must be one of {', '.join(MODES)}")
    directory = ModelDirectory(model_dir)
    with reached(directory.path):
        _run(mode, directory, config_file, overrides, **options)


def _run(mode, directory, config_file, overrides, **options):
    experiment = load_experiment(config_file or directory.saved_experiment(), overrides)
    if mode != "train":
        refuse_pretraining(experiment, directory.path)
    if mode == "export":
        cluster = read_cluster()
        if cluster is None or not cluster.index:
            export(experiment, directory, **options)
        return
    settings = experiment.train
    strategy = make_strategy(
        settings.devices,
        settings.distribution_strategy,
        tpu=settings.tpu,
        start_timeout=settings.start_timeout,
    )
    check_replica_options(
        num_replicas(strategy),
        batch_size=settings.batch_size,
        jit_compile=settings.jit_compile,
        steps_per_execution=settings.steps_per_execution,
    )
    with lost_workers(strategy), full_disk_told(directory.path):
        announce_role(strategy)
        directory = directory_of_worker(strategy, directory)
        require_same_experiment(strategy, experiment, mode)
        if mode in ("train", "train_and_eval"):
            train(experiment, directory, strategy)
        if mode in ("eval", "train_and_eval"):
            evaluate(experiment, directory, strategy)


def train(
    experiment: Experiment,
    directory: ModelDirectory,
    strategy: tf.distribute.Strategy | None = None,
):
    """Trains, or goes on with what `directory` holds, to `train.epochs`."""
    if experiment.train.probe and process_shard(strategy)[1] > 1:
        raise UserError("train.probe=true works on one machine: unset TF_CONFIG")
    with directory.locked():
        if experiment.train.probe:
            train_probe(experiment, directory)
        else:
            _train(experiment, directory, strategy)


@dataclasses.dataclass(frozen=True)
class _Start:
    """What a training begins with, or goes on from.

    Attributes:
        listed: all videos of `data.train`.
        videos, validation: what is trained on, and what each epoch is scored on.
        resumed: path and progress of the newest checkpoint; `None` if there is none.
        changes: since the training began, in words.
        other_videos: whether the videos are among these.
    """

    listed: VideoList
    videos: VideoList
    validation: VideoList | None
    resumed: tuple[Path | RemotePath, Progress] | None
    changes: list[str]
    other_videos: bool


def _train(experiment, directory, strategy):
    settings = experiment.train
    directory.checkpoints.keep = settings.keep_checkpoints
    start = _find_start(experiment, directory, strategy)
    training = _build(start, experiment, directory, strategy)
    state = training.state
    directory.checkpoints.complete_best(state.model, state.progress)
    _describe(training, start)
    if start.resumed is None or start.other_videos:
        directory.keep_split(start.videos, start.validation)
    directory.claim(experiment, start.videos.class_names)
    if state.progress.epoch >= settings.epochs:
        logging.info(
            f"nothing to train: {state.progress.epoch} of {settings.epochs} epochs are done"
        )
        return
    if ends_early(state.progress, settings.early_stopping_patience):
        logging.info(f"nothing to train: {_early_end_in_words(state.progress)}")
        return

    run_training(training)
    summary = OutcomeLedger.union((training.ledger, training.validation_ledger)).summary()
    logging.info(f"decoding    {summary}")
    if state.progress.epoch < settings.epochs:
        logging.info(f"ended early {_early_end_in_words(state.progress)}")
    best = _best_in_words(state.progress, experiment.data.multi_label)
    logging.info(f"trained     {best}; checkpoints in {directory.path}")
    if is_chief(strategy):
        _plot_curves(directory)
        if experiment.pretraining.method is not None:
            path = directory.plots / "predicted_gradients.png"
            plot_predicted_gradients(experiment, start.videos, directory.checkpoints, path)
            logging.info(f"plotted     {path}")


def _find_start(experiment, directory, strategy) -> _Start:
    """Reads the videos and what the directory holds; refuses what does not fit together."""
    listed = training_videos(experiment)
    changes = directory.check(experiment, listed.class_names)
    resumed = directory.checkpoints.newest()
    require_same_checkpoint(strategy, None if resumed is None else resumed[1], directory)
    saved = None if resumed is None else directory.saved_split()
    videos, validation = train_and_validation(experiment, listed, saved)
    changed = [] if saved is None else saved.changes_of_training(videos)
    _check_unchanged(changed, allowed=experiment.data.allow_changed)
    return _Start(listed, videos, validation, resumed, changes + changed, bool(changed))


def _build(start, experiment, directory, strategy) -> Training:
    """The model and its state, new or as they were left; the same on all workers."""
    settings, videos = experiment.train, start.videos
    steps = steps_per_epoch(videos, settings.batch_size, experiment.data.repeated_augmentation)
    progress = running_epoch = None
    keras.utils.set_random_seed(settings.seed)
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    with strategy_scope(strategy):
        model = build_training_model(experiment, len(videos.class_names))
        untrained = start.resumed is None and experiment.model.initial_weights is None
        # Before an optimizer is there: that of another training is none of this one's.
        if start.resumed is None and not untrained:
            source = initial_weights(experiment)
            load_initial_weights(model, source, reset_head=experiment.model.reset_head)
        select_trained(model, settings, random_weights=untrained)
        compile_training_model(model, experiment, steps, videos)
        if start.resumed is not None:
            path, progress = start.resumed
            running_epoch = restore(model, path)
    # The chief writes nothing before all have read.
    require_same_videos(strategy, videos, start.validation)
    require_same_weights(strategy, model, progress or Progress(), directory)
    # Apart, as many good videos for training do not make up for bad ones for validation.
    ledger, validation_ledger = (shared_ledger(strategy, OutcomeLedger()) for _ in range(2))
    state = TrainingState(
        model,
        directory.checkpoints,
        ledger,
        steps_per_epoch=steps,
        clips_per_step=settings.batch_size,
        progress=progress,
        running_epoch=running_epoch,
        before_save=directory.check_lock,
    )
    return Training(
        state=state,
        experiment=experiment,
        directory=directory,
        strategy=strategy,
        videos=videos,
        validation=start.validation,
        ledger=ledger,
        validation_ledger=validation_ledger,
    )


def _check_unchanged(changes, *, allowed):
    if changes and not allowed:
        raise UserError(
            f"the videos are not those that training began with: {'; '.join(changes)}; put them "
            "back, train in another --model_dir, or go on with data.allow_changed=true"
        )


def export(
    experiment: Experiment, directory: ModelDirectory, *, views_in_graph: bool = False, **options
) -> Path | RemotePath:
    """Writes the best checkpoint as the next version under `export/`; returns its folder.

    Args:
        views_in_graph, **options: of `mvit_tf.export.saved_model.export_model`; the views are those
            of evaluation.
    """
    from mvit_tf.export.saved_model import export_model
    from mvit_tf.training.storage.trained_model import load_trained_model

    directory.check_same_model(experiment)
    model, progress = load_trained_model(experiment, directory)
    version = export_model(
        model,
        directory.export,
        num_clips=experiment.data.evaluation_clips,
        ensemble_method=experiment.data.ensemble_method,
        views_in_graph=views_in_graph,
        num_crops=experiment.data.evaluation_crops if views_in_graph else 1,
        **options,
    )
    logging.info(f"exported    epoch {progress.epoch} to {version}")
    return version


def _plot_curves(directory: ModelDirectory):
    from mvit_tf.analysis.plots import plot_training_curves

    directory.plots.mkdir(exist_ok=True)
    path = directory.plots / "training_curves.png"
    plot_training_curves(directory.log_file, path)
    logging.info(f"plotted     {path}")


def _describe(training: Training, start: _Start):
    experiment, state = training.experiment, training.state
    describe(experiment, state.model, start.videos, start.validation)
    _describe_steps(experiment, state.steps_per_epoch, num_replicas(training.strategy))
    say_remarks(
        start.listed,
        start.videos,
        start.validation,
        look_into_files=start.resumed is None or bool(start.changes),
    )
    if start.resumed is not None:
        logging.info(f"resuming    {_place_in_words(state)} from {start.resumed[0]}")
    for change in start.changes:
        logging.info(f"changed     {change}")


def _describe_steps(experiment, steps, replicas):
    settings = experiment.train
    warning = slow_bfloat16() if settings.dtype == "mixed_bfloat16" else None
    if warning:
        logging.warning(warning)
    devices = "1 device" if replicas == 1 else f"{replicas} devices"
    repeats = experiment.data.repeated_augmentation
    batch = f"batch {settings.batch_size}"
    if repeats > 1:
        batch += f" ({settings.batch_size // repeats} videos, {repeats} clips of each)"
    balanced = ", classes drawn equally often" if experiment.data.balanced_sampling else ""
    logging.info(
        f"training    {settings.epochs} epochs of {steps} steps, {batch} on {devices}{balanced}"
    )


def _place_in_words(state: TrainingState) -> str:
    progress = state.progress
    if not progress.epoch_step:
        return f"after epoch {progress.epoch}"
    return (
        f"after step {progress.epoch_step} of {state.steps_per_epoch} in epoch {progress.epoch + 1}"
    )


def _early_end_in_words(progress: Progress) -> str:
    return (
        f"epoch {progress.best_epoch} was the best, and {progress.epochs_since_best} epochs "
        "since have been no better (train.early_stopping_patience)"
    )


def _best_in_words(progress: Progress, multi_label: bool) -> str:
    if progress.best_accuracy is None:
        return f"{progress.epoch} epochs, no validation, so the last is the best"
    return (
        f"{progress.epoch} epochs, best after {progress.best_epoch} with "
        f"{progress.best_accuracy:.1%} {'mAP' if multi_label else 'top-1'} on validation"
    )
