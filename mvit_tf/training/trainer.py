"""The four modes of `train.py`: train, eval, train_and_eval, export."""

import contextlib
import os
from pathlib import Path

import keras
import tensorflow as tf
from absl import logging

from mvit_tf.data.lists.data_checks import remarks
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.data.pipeline import steps_per_epoch
from mvit_tf.errors import UserError
from mvit_tf.remote_path import RemotePath, reached
from mvit_tf.training import callbacks
from mvit_tf.training.checkpoints import Progress, restore
from mvit_tf.training.distribution import (
    check_replica_options,
    make_strategy,
    num_replicas,
    strategy_scope,
)
from mvit_tf.training.evaluation import EvaluationReport
from mvit_tf.training.experiment import Experiment, load_experiment
from mvit_tf.training.experiment_clips import decode_workers, training_clips
from mvit_tf.training.experiment_videos import labelled_videos, train_and_validation
from mvit_tf.training.initial_weights import initial_weights, load_initial_weights
from mvit_tf.training.input_clock import InputClock
from mvit_tf.training.model_directory import ModelDirectory
from mvit_tf.training.multi_label_report import MultiLabelReport
from mvit_tf.training.precision import slow_bfloat16
from mvit_tf.training.scoring import evaluate, validator
from mvit_tf.training.step_log import EpochReport, StepLog, live_line, steps_done
from mvit_tf.training.summaries import open_summaries, write_sample_clips
from mvit_tf.training.training_model import build_training_model, compile_training_model

MODES = ("train", "eval", "train_and_eval", "export")


def run(
    *,
    mode: str,
    model_dir: str | os.PathLike,
    config_file: str | os.PathLike | None = None,
    overrides: str = "",
):
    """Runs one experiment.

    Args:
        mode: one of `MODES`.
        model_dir: where everything is written; training resumes what it finds there.
        config_file: YAML of the experiment; `None` takes the one saved in `model_dir`.
        overrides: see `load_experiment`.

    Raises:
        UserError: of anything that the person at the keyboard can put right.
    """
    if mode not in MODES:
        raise UserError(f"--mode={mode}: must be one of {', '.join(MODES)}")
    directory = ModelDirectory(model_dir)
    with reached(directory.path):
        _run(mode, directory, config_file, overrides)


def _run(mode, directory, config_file, overrides):
    experiment = load_experiment(config_file or directory.saved_experiment(), overrides)
    if mode == "export":
        export(experiment, directory)
        return
    strategy = make_strategy(experiment.train.devices)
    check_replica_options(
        num_replicas(strategy),
        batch_size=experiment.train.batch_size,
        jit_compile=experiment.train.jit_compile,
        steps_per_execution=experiment.train.steps_per_execution,
    )
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
    with directory.locked():
        _train(experiment, directory, strategy)


def _train(experiment, directory, strategy):
    settings = experiment.train
    labelled = labelled_videos(experiment)
    changes = directory.check(experiment, labelled.class_names)
    resumed = directory.checkpoints.newest()
    saved = None if resumed is None else directory.saved_split()
    videos, validation = train_and_validation(experiment, labelled, saved)
    changes += [] if saved is None else saved.changes_of_training(videos)
    steps = steps_per_epoch(videos, settings.batch_size, experiment.data.repeated_augmentation)
    progress = Progress() if resumed is None else resumed[1]
    keras.utils.set_random_seed(settings.seed)
    with strategy_scope(strategy):
        model = build_training_model(experiment, len(videos.class_names))
        # Before an optimizer is there: that of another training is none of this one's.
        if resumed is None and experiment.model.initial_weights is not None:
            source = initial_weights(experiment)
            load_initial_weights(model, source, reset_head=experiment.model.reset_head)
        compile_training_model(model, experiment, steps)
        if resumed is not None:
            restore(model, resumed[0])
    _describe(experiment, model, videos, validation, steps, num_replicas(strategy))
    told, warnings = remarks(
        labelled, videos, validation, look_into_files=resumed is None or bool(changes)
    )
    for line in told:
        logging.info(line)
    for line in warnings:
        logging.warning(line)
    if resumed is not None:
        logging.info(f"resuming    after epoch {progress.epoch} from {resumed[0]}")
    for change in changes:
        logging.info(f"changed     {change}")
    if resumed is None:
        directory.keep_split(videos, validation)
    directory.claim(experiment, videos.class_names)
    if progress.epoch >= settings.epochs:
        logging.info(f"nothing to train: {progress.epoch} of {settings.epochs} epochs are done")
        return

    # Apart, as many good videos for training do not make up for bad ones for validation.
    ledger, validation_ledger = OutcomeLedger(), OutcomeLedger()
    multi_label = experiment.data.multi_label
    metric = MultiLabelReport.metric if multi_label else EvaluationReport.metric
    columns = callbacks.EpochLog.COLUMNS
    if multi_label:
        columns = callbacks.EpochLog.MULTI_LABEL_COLUMNS
    saver = callbacks.Checkpoints(
        store=directory.checkpoints, progress=progress, metric=f"val_{metric}"
    )
    clock = InputClock()
    with contextlib.ExitStack() as stack:
        workers = stack.enter_context(decode_workers(experiment))
        stack.enter_context(ledger.user_errors())
        summaries = stack.enter_context(open_summaries(directory.tensorboard, steps_done(model)))
        clips = training_clips(
            experiment, videos, ledger=ledger, workers=workers, start_step=progress.epoch * steps
        )
        validate = validator(experiment, model, validation, strategy, validation_ledger, workers)
        if settings.summary_clips:
            write_sample_clips(summaries, experiment, clips, videos.class_names)
        model.fit(
            clock.timed(clips),
            epochs=settings.epochs,
            initial_epoch=progress.epoch,
            steps_per_epoch=steps,
            shuffle=False,
            verbose=0,
            callbacks=[
                # First, so that a training which must end writes nothing more.
                keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: directory.check_lock()),
                callbacks.NonFiniteLossStop(steps_per_epoch=steps),
                StepLog(
                    clips_per_step=settings.batch_size,
                    steps_per_epoch=steps,
                    epochs=settings.epochs,
                    clock=clock,
                    log_interval=settings.log_interval,
                    summaries=summaries,
                    summary_interval=settings.summary_interval,
                    show=stack.enter_context(live_line()),
                ),
                callbacks.EpochMetrics(
                    validate=validate,
                    epochs=settings.epochs,
                    validate_every=settings.validate_every,
                ),
                callbacks.LedgerCheck(
                    training=ledger,
                    validation=validation_ledger,
                    max_failure_share=experiment.data.max_failure_share,
                    path=directory.outcomes_file,
                ),
                callbacks.EpochLog(directory.log_file, columns),
                saver,
                EpochReport(
                    epochs=settings.epochs,
                    summaries=summaries,
                    histograms=settings.summary_histograms,
                ),
            ],
        )
    logging.info(f"decoding    {OutcomeLedger.union((ledger, validation_ledger)).summary()}")
    best = _best_in_words(saver.progress, multi_label)
    logging.info(f"trained     {best}; checkpoints in {directory.path}")
    _plot_curves(directory)


def export(experiment: Experiment, directory: ModelDirectory) -> Path | RemotePath:
    """Writes the best checkpoint as the next version under `export/`; returns its folder."""
    from mvit_tf.export.saved_model import export_model
    from mvit_tf.training.trained_model import load_trained_model

    directory.check_same_model(experiment)
    model, progress = load_trained_model(experiment, directory)
    version = export_model(
        model,
        directory.export,
        num_clips=experiment.data.evaluation_clips,
        ensemble_method=experiment.data.ensemble_method,
    )
    logging.info(f"exported    epoch {progress.epoch} to {version}")
    return version


def _plot_curves(directory: ModelDirectory):
    from mvit_tf.analysis.plots import plot_training_curves

    directory.plots.mkdir(exist_ok=True)
    path = directory.plots / "training_curves.png"
    plot_training_curves(directory.log_file, path)
    logging.info(f"plotted     {path}")


def _describe(experiment, model, videos, validation, steps, replicas):
    settings = experiment.train
    frames, height, width = experiment.clip_shape
    logging.info(
        f"model       {experiment.model.name}: {model.count_params():,} parameters, clips of "
        f"{frames}x{height}x{width}, {settings.dtype}"
    )
    held_out = "no validation" if validation is None else f"{len(validation)} for validation"
    logging.info(
        f"data        {len(videos)} videos of {len(videos.class_names)} classes, {held_out}"
    )
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


def _best_in_words(progress: Progress, multi_label: bool) -> str:
    if progress.best_accuracy is None:
        return f"{progress.epoch} epochs, no validation, so the last is the best"
    return (
        f"{progress.epoch} epochs, best after {progress.best_epoch} with "
        f"{progress.best_accuracy:.1%} {'mAP' if multi_label else 'top-1'} on validation"
    )
