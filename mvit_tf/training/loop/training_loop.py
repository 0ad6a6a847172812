"""The training of an experiment: its clips, what happens around each step, and going back."""

import contextlib
import dataclasses
import functools

import keras
import tensorflow as tf

from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.errors import UserError
from mvit_tf.interruption import STOP_SIGNALS, StopRequest, stop_requests
from mvit_tf.training.distributed.distribution import is_chief, process_shard, strategy_scope
from mvit_tf.training.distributed.multi_worker import distribute_clips
from mvit_tf.training.distributed.worker_exchange import agreed
from mvit_tf.training.distributed.worker_roles import own_ledger, require_same_weights
from mvit_tf.training.evaluation.evaluation import EvaluationReport
from mvit_tf.training.evaluation.multi_label_report import MultiLabelReport
from mvit_tf.training.evaluation.scoring import validator
from mvit_tf.training.experiments.clips import decode_workers, training_clips
from mvit_tf.training.experiments.experiment import Experiment
from mvit_tf.training.loop import callbacks
from mvit_tf.training.loop.fitting import fit
from mvit_tf.training.loop.input_clock import InputClock
from mvit_tf.training.loop.non_finite import keep_non_finite_step
from mvit_tf.training.loop.step_log import EpochReport, StepLog, live_line, steps_done
from mvit_tf.training.loop.summaries import open_summaries, write_sample_clips
from mvit_tf.training.loop.training_state import NonFiniteStep, TrainingState
from mvit_tf.training.loop.worker_callbacks import worker_callbacks
from mvit_tf.training.storage.model_directory import ModelDirectory


@dataclasses.dataclass(frozen=True)
class Training:
    """A training, and what it works with.

    Attributes:
        state: kept up to date.
        experiment, directory, strategy: of the training.
        videos, validation: to train on, and to score each epoch on.
        ledger, validation_ledger: of either, as `shared_ledger` gives them.
    """

    state: TrainingState
    experiment: Experiment
    directory: ModelDirectory
    strategy: tf.distribute.Strategy | None
    videos: VideoList
    validation: VideoList | None
    ledger: OutcomeLedger
    validation_ledger: OutcomeLedger


def run_training(training: Training):
    """Trains to the last epoch; goes back, and on without it, where a step is not finite.

    Raises:
        UserError: a step is not finite again and again, or too many videos fail.
        Interrupted: by a signal, once all is saved.
    """
    settings, state = training.experiment.train, training.state
    stop = StopRequest(functools.partial(agreed, training.strategy))
    clock = InputClock()
    with contextlib.ExitStack() as stack:
        workers = stack.enter_context(decode_workers(training.experiment))
        stack.enter_context(own_ledger(training.ledger).user_errors())
        stack.enter_context(stop_requests(stop, *STOP_SIGNALS))
        summaries = None
        if is_chief(training.strategy):
            first_step = steps_done(state.model)
            summaries = stack.enter_context(
                open_summaries(training.directory.tensorboard, first_step)
            )
        step_log = _step_log(training, clock, summaries, stack)
        around = _callbacks(training, stop, workers, step_log, summaries)
        if summaries is not None and settings.summary_clips:
            _write_first_clips(training, workers, summaries)
        while True:
            try:
                fit(
                    state,
                    functools.partial(_clips, training, workers, clock),
                    epochs=settings.epochs,
                    callbacks=around,
                    steps_per_execution=settings.steps_per_execution,
                )
                stop.check()
                return
            except NonFiniteStep as error:
                found = error
            _go_back(training, found, workers, summaries)


def _step_log(training, clock, summaries, stack):
    settings = training.experiment.train
    several_machines = process_shard(training.strategy)[1] > 1
    return StepLog(
        clips_per_step=settings.batch_size,
        steps_per_epoch=training.state.steps_per_epoch,
        epochs=settings.epochs,
        clock=clock,
        # The metrics of several machines are read by all of them at the same step, or never.
        log_interval=None if several_machines else settings.log_interval,
        summaries=summaries,
        summary_interval=settings.summary_interval,
        show=None if several_machines else stack.enter_context(live_line()),
    )


def _clips(training, workers, clock, start_step, skipped_steps, steps):
    """What `fit` takes of the clips, see `training_clips`."""
    batches = training_clips(
        training.experiment,
        training.videos,
        ledger=own_ledger(training.ledger),
        workers=workers,
        start_step=start_step,
        skipped_steps=skipped_steps,
        shard=process_shard(training.strategy),
    )
    return distribute_clips(training.strategy, clock.timed(batches.take(steps)))


def _write_first_clips(training, workers, summaries):
    state, experiment = training.state, training.experiment
    if experiment.train.epochs * state.steps_per_epoch == state.next_step:
        return
    first = training_clips(
        experiment, training.videos, ledger=OutcomeLedger(), workers=workers,
        start_step=state.next_step,
    )  # fmt: skip
    write_sample_clips(summaries, experiment, first, training.videos.class_names)


def _go_back(training, found: NonFiniteStep, workers, summaries):
    """To the newest checkpoint, to go on from there without the steps that were found."""
    experiment, state, strategy = training.experiment, training.state, training.strategy
    # Of a tf.data service no step can be left out.
    served = experiment.data.service is not None
    if served or state.progress.rollbacks >= experiment.train.max_rollbacks:
        raise UserError(_non_finite_in_words(found, state))
    if is_chief(strategy):
        keep_non_finite_step(
            training.directory.non_finite,
            found,
            experiment,
            training.videos,
            learning_rate=float(state.model.optimizer.learning_rate),
            workers=workers,
        )
    with strategy_scope(strategy):
        state.go_back(found.steps)
    require_same_weights(strategy, state.model, state.progress, training.directory)
    if is_chief(strategy):
        summaries.restart(steps_done(state.model))


def _callbacks(training, stop, workers, step_log, summaries):
    """Of this worker, in the order that they are called in."""
    experiment, directory, state = training.experiment, training.directory, training.state
    settings, data = experiment.train, experiment.data
    ledgers = {
        "training": training.ledger,
        "validation": training.validation_ledger,
        "max_failure_share": data.max_failure_share,
        "num_videos": len(training.videos),
    }
    metric = MultiLabelReport.metric if data.multi_label else EvaluationReport.metric
    columns = callbacks.EpochLog.COLUMNS
    if data.multi_label:
        columns = callbacks.EpochLog.MULTI_LABEL_COLUMNS
    if experiment.pretraining.method is not None:
        columns = callbacks.EpochLog.PRETRAINING_COLUMNS
    validate = validator(
        experiment,
        state.model,
        training.validation,
        training.strategy,
        training.validation_ledger,
        workers,
    )

    def validate_averaged():
        with stop.obeyed_at_once(), state.model.averaged_weights():
            return validate()

    metrics = callbacks.EpochMetrics(
        validate=None if validate is None else validate_averaged,
        epochs=settings.epochs,
        validate_every=settings.validate_every,
        discard_checkpoint=state.discard_checkpoint,
    )
    chiefs = [
        # First, so that a training which must end writes nothing more.
        keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: directory.check_lock()),
        callbacks.NonFiniteCheck(state, steps_per_execution=settings.steps_per_execution),
        step_log,
        callbacks.StepCheckpoints(
            state,
            stop,
            every_steps=settings.save_every_steps,
            every_minutes=settings.save_every_minutes,
            within_epochs=data.service is None,
            before_epoch_end=metrics.validates,
        ),
        metrics,
        callbacks.LedgerCheck(**ledgers, path=directory.outcomes_file, state=state),
        callbacks.EpochLog(directory.log_file, columns),
        callbacks.EpochCheckpoints(
            state, stop, metric=f"val_{metric}", patience=settings.early_stopping_patience
        ),
        EpochReport(
            epochs=settings.epochs, summaries=summaries, histograms=settings.summary_histograms
        ),
    ]
    return worker_callbacks(training.strategy, chiefs, **ledgers)


def _non_finite_in_words(found: NonFiniteStep, state: TrainingState) -> str:
    epoch, step = divmod(found.steps[-1], state.steps_per_epoch)
    again = f" again, after going back {state.progress.rollbacks} times"
    return (
        f"{found.reason} at step {found.steps[-1] + 1} (epoch {epoch + 1}, step {step + 1} of "
        f"{state.steps_per_epoch}){again if state.progress.rollbacks else ''}; nothing of it was "
        f"saved; {callbacks.CURE}"
    )
