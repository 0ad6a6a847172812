"""The four modes of `train.py`: train, eval, train_and_eval, export."""

import os
from pathlib import Path

import keras
import tensorflow as tf
from absl import logging

from mvit_tf.data.lists.data_checks import remarks
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.data.pipeline import steps_per_epoch
from mvit_tf.errors import UserError
from mvit_tf.interruption import STOP_SIGNALS, StopRequest, stop_requests
from mvit_tf.remote_path import RemotePath, reached
from mvit_tf.training import callbacks
from mvit_tf.training.callbacks import ends_early
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
from mvit_tf.training.fitting import fit, full_disk_told
from mvit_tf.training.initial_weights import initial_weights, load_initial_weights
from mvit_tf.training.model_directory import ModelDirectory
from mvit_tf.training.multi_label_report import MultiLabelReport
from mvit_tf.training.non_finite import keep_non_finite_step
from mvit_tf.training.precision import slow_bfloat16
from mvit_tf.training.scoring import evaluate, validator
from mvit_tf.training.training_model import build_training_model, compile_training_model
from mvit_tf.training.training_state import NonFiniteStep, TrainingState

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
    directory.checkpoints.keep = settings.keep_checkpoints
    labelled = labelled_videos(experiment)
    changes = directory.check(experiment, labelled.class_names)
    resumed = directory.checkpoints.newest()
    saved = None if resumed is None else directory.saved_split()
    videos, validation = train_and_validation(experiment, labelled, saved)
    if saved is not None:
        changed = saved.changes_of_training(videos)
        _check_unchanged(changed, allowed=experiment.data.allow_changed)
        changes += changed
    steps = steps_per_epoch(videos, settings.batch_size, experiment.data.repeated_augmentation)
    progress = running_epoch = None
    keras.utils.set_random_seed(settings.seed)
    with strategy_scope(strategy):
        model = build_training_model(experiment, len(videos.class_names))
        # Before an optimizer is there: that of another training is none of this one's.
        if resumed is None and experiment.model.initial_weights is not None:
            source = initial_weights(experiment)
            load_initial_weights(model, source, reset_head=experiment.model.reset_head)
        compile_training_model(model, experiment, steps)
        if resumed is not None:
            path, progress = resumed
            running_epoch = restore(model, path)
            directory.checkpoints.complete_best(model, progress)
    # Apart, as many good videos for training do not make up for bad ones for validation.
    ledgers = OutcomeLedger(), OutcomeLedger()
    state = TrainingState(
        model,
        directory.checkpoints,
        ledgers[0],
        steps_per_epoch=steps,
        clips_per_step=settings.batch_size,
        progress=progress,
        running_epoch=running_epoch,
    )
    _describe(experiment, model, videos, validation, steps, num_replicas(strategy))
    told, warnings = remarks(
        labelled, videos, validation, look_into_files=resumed is None or bool(changes)
    )
    for line in told:
        logging.info(line)
    for line in warnings:
        logging.warning(line)
    if resumed is not None:
        logging.info(f"resuming    {_place_in_words(state)} from {resumed[0]}")
    for change in changes:
        logging.info(f"changed     {change}")
    if resumed is None:
        directory.keep_split(videos, validation)
    directory.claim(experiment, videos.class_names)
    if state.progress.epoch >= settings.epochs:
        logging.info(
            f"nothing to train: {state.progress.epoch} of {settings.epochs} epochs are done"
        )
        return
    if ends_early(state.progress, settings.early_stopping_patience):
        logging.info(f"nothing to train: {_early_end_in_words(state.progress)}")
        return

    _fit(experiment, directory, strategy, state, videos, validation, ledgers)
    logging.info(f"decoding    {OutcomeLedger.union(ledgers).summary()}")
    if state.progress.epoch < settings.epochs:
        logging.info(f"ended early {_early_end_in_words(state.progress)}")
    best = _best_in_words(state.progress, experiment.data.multi_label)
    logging.info(f"trained     {best}; checkpoints in {directory.path}")
    _plot_curves(directory)


def _fit(experiment, directory, strategy, state, videos, validation, ledgers):
    """Trains to the last epoch; goes back and on without a step that is not finite."""
    settings, served = experiment.train, experiment.data.service is not None
    ledger, validation_ledger = ledgers
    stop = StopRequest()
    with (
        decode_workers(experiment) as workers,
        ledger.user_errors(),
        full_disk_told(directory.path),
        stop_requests(stop, *STOP_SIGNALS),
    ):
        validate = validator(
            experiment, state.model, validation, strategy, validation_ledger, workers
        )
        around = _callbacks(
            experiment, directory, state, ledgers, stop, validate, num_videos=len(videos)
        )

        def clips(start_step, skipped_steps):
            return training_clips(
                experiment,
                videos,
                ledger=ledger,
                workers=workers,
                start_step=start_step,
                skipped_steps=skipped_steps,
            )

        while True:
            try:
                fit(
                    state,
                    clips,
                    epochs=settings.epochs,
                    callbacks=around,
                    steps_per_execution=settings.steps_per_execution,
                )
                stop.check()
                return
            except NonFiniteStep as error:
                found = error
            # Of a tf.data service no step can be left out.
            if served or state.progress.rollbacks >= settings.max_rollbacks:
                raise UserError(_non_finite_in_words(found, state))
            keep_non_finite_step(
                directory.non_finite,
                found,
                experiment,
                videos,
                learning_rate=float(state.model.optimizer.learning_rate),
                workers=workers,
            )
            with strategy_scope(strategy):
                state.go_back(found.steps)


def _callbacks(experiment, directory, state, ledgers, stop, validate, *, num_videos):
    settings, data = experiment.train, experiment.data
    metric = MultiLabelReport.metric if data.multi_label else EvaluationReport.metric
    columns = callbacks.EpochLog.COLUMNS
    if data.multi_label:
        columns = callbacks.EpochLog.MULTI_LABEL_COLUMNS

    def validate_averaged():
        with stop.obeyed_at_once(), state.model.averaged_weights():
            return validate()

    metrics = callbacks.EpochMetrics(
        validate=None if validate is None else validate_averaged,
        epochs=settings.epochs,
        validate_every=settings.validate_every,
    )
    return [
        # First, so that a training which must end writes nothing more.
        keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: directory.check_lock()),
        callbacks.NonFiniteCheck(state, steps_per_execution=settings.steps_per_execution),
        callbacks.StepCheckpoints(
            state,
            stop,
            every_steps=settings.save_every_steps,
            every_minutes=settings.save_every_minutes,
            within_epochs=data.service is None,
            before_epoch_end=metrics.validates,
        ),
        metrics,
        callbacks.LedgerCheck(
            training=ledgers[0],
            validation=ledgers[1],
            max_failure_share=data.max_failure_share,
            path=directory.outcomes_file,
            state=state,
            num_videos=num_videos,
        ),
        callbacks.EpochLog(directory.log_file, columns),
        keras.callbacks.TensorBoard(os.fspath(directory.tensorboard), write_graph=False),
        callbacks.EpochCheckpoints(
            state, stop, metric=f"val_{metric}", patience=settings.early_stopping_patience
        ),
    ]


def _check_unchanged(changes, *, allowed):
    if changes and not allowed:
        raise UserError(
            f"the videos are not those that training began with: {'; '.join(changes)}; put them "
            "back, train in another --model_dir, or go on with data.allow_changed=true"
        )


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


def _non_finite_in_words(found: NonFiniteStep, state: TrainingState) -> str:
    epoch, step = divmod(found.steps[-1], state.steps_per_epoch)
    again = f" again, after going back {state.progress.rollbacks} times"
    return (
        f"{found.reason} at step {found.steps[-1] + 1} (epoch {epoch + 1}, step {step + 1} of "
        f"{state.steps_per_epoch}){again if state.progress.rollbacks else ''}; nothing of it was "
        f"saved; {callbacks.CURE}"
    )


def _best_in_words(progress: Progress, multi_label: bool) -> str:
    if progress.best_accuracy is None:
        return f"{progress.epoch} epochs, no validation, so the last is the best"
    return (
        f"{progress.epoch} epochs, best after {progress.best_epoch} with "
        f"{progress.best_accuracy:.1%} {'mAP' if multi_label else 'top-1'} on validation"
    )
