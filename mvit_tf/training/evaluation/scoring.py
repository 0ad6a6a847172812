"""Scores a model on videos: the validation within training, and the evaluation after it."""

import tensorflow as tf
from absl import logging

from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.errors import UserError
from mvit_tf.training.distributed.distribution import (
    is_chief,
    num_replicas,
    process_shard,
    strategy_scope,
)
from mvit_tf.training.distributed.worker_exchange import gather_rows, wait_for_all
from mvit_tf.training.distributed.worker_roles import (
    gather_outcomes,
    own_ledger,
    require_same_weights,
    shared_ledger,
)
from mvit_tf.training.evaluation.evaluation import (
    EvaluationReport,
    ViewPredictor,
    make_report,
    shuffle_frames,
)
from mvit_tf.training.evaluation.mistakes import plot_mistakes, worst_mistakes
from mvit_tf.training.evaluation.multi_label_report import MultiLabelReport, make_multi_label_report
from mvit_tf.training.evaluation.result_line import data_name, result_line, scores_in_words
from mvit_tf.training.evaluation.saved_views import SavedViews, ViewCollector
from mvit_tf.training.experiments.clips import decode_workers, validation_views
from mvit_tf.training.experiments.experiment import Experiment
from mvit_tf.training.experiments.videos import evaluation_videos
from mvit_tf.training.optimization.training_model import build_training_model
from mvit_tf.training.storage.model_directory import ModelDirectory


def evaluate(
    experiment: Experiment,
    directory: ModelDirectory,
    strategy: tf.distribute.Strategy | None = None,
) -> EvaluationReport | MultiLabelReport:
    """Scores the best checkpoint on the validation videos with several views of each."""
    data = experiment.data
    directory.check_same_model(experiment)
    saved = None
    if data.validation is None:
        directory.check_same_split(experiment)
        saved = directory.saved_split()
    class_names = directory.class_names()
    videos = evaluation_videos(experiment, class_names, saved)
    wait_for_all(strategy)  # The chief may have trained until now: its last checkpoint is there.
    with directory.checkpoints.best() as checkpoint, strategy_scope(strategy):
        model = build_training_model(experiment, len(class_names))
        checkpoint.file.load(model)
    require_same_weights(strategy, model, checkpoint.progress, directory)
    epoch = checkpoint.progress.epoch
    shuffled = ", frames shuffled" if data.shuffle_frames else ""
    logging.info(
        f"evaluating  epoch {epoch} on {len(videos)} videos, "
        f"{data.evaluation_clips} clips x {data.evaluation_crops} crops of each{shuffled}"
    )
    predictor = _predictor(experiment, model, strategy)
    ledger = shared_ledger(strategy, OutcomeLedger())
    with decode_workers(experiment) as workers:
        views = _views_of_share(
            experiment,
            videos,
            process_shard(strategy),
            batch_size=predictor.batch_size,
            ledger=own_ledger(ledger),
            workers=workers,
            num_clips=data.evaluation_clips,
            num_crops=data.evaluation_crops,
        )
        if data.shuffle_frames and views is not None:
            views = shuffle_frames(views, seed=data.seed)
        collect = None
        if data.save_views and not data.shuffle_frames:
            collect = ViewCollector(data.evaluation_crops, len(class_names))
        probabilities, num_views = _probabilities(predictor, views, videos, ledger, collect)
        report = _report(probabilities, num_views, videos, ledger)
        collected = None if collect is None else gather_rows(strategy, collect.arrays())
        logging.info(f"decoding    {ledger.summary()}")
        if is_chief(strategy):
            how = {
                "model": experiment.model.name,
                "data": data_name(experiment),
                "epoch": epoch,
                "clips": data.evaluation_clips,
                "crops": data.evaluation_crops,
                "ensemble_method": data.ensemble_method,
            }
            scores = directory.evaluation_file(shuffled=data.shuffle_frames)
            report.write(scores, **how, frames_shuffled=data.shuffle_frames)
            logging.info(f"evaluated   {scores_in_words(report)}; more in {scores}")
            if collected is not None:
                views_of = SavedViews.of_evaluation(
                    collected, videos, failures=ledger.failures, partial=ledger.partial, **how
                )
                views_of.save(directory.views_file)
            elif not data.shuffle_frames:
                # Those of an earlier evaluation would be scored as if they were of this one.
                directory.views_file.unlink(missing_ok=True)
            if not data.shuffle_frames:
                _plot_scores(directory, report, class_names)
                mistakes = worst_mistakes(probabilities, num_views, videos)
                _plot_mistakes(directory, mistakes, experiment, videos, workers)
            logging.info(result_line(report, **how, frames_shuffled=data.shuffle_frames))
    ledger.check(data.max_failure_share)
    return report


def _predictor(experiment, model, strategy) -> ViewPredictor:
    replicas = num_replicas(strategy)
    wanted = experiment.evaluation_batch_size
    if wanted % replicas:
        raise UserError(
            f"data.evaluation_batch_size={wanted} cannot be split evenly over {replicas} replicas"
        )
    return ViewPredictor(
        model,
        batch_size=wanted // process_shard(strategy)[1],
        strategy=strategy,
        multi_label=experiment.data.multi_label,
        ensemble_method=experiment.data.ensemble_method,
    )


def validator(experiment, model, videos, strategy, ledger, workers):
    """Scores the model as it stands on one centre view of each video; `None` without videos."""
    if videos is None:
        return None
    predictor = _predictor(experiment, model, strategy)
    own = own_ledger(ledger)
    views = _views_of_share(
        experiment,
        videos,
        process_shard(strategy),
        batch_size=predictor.batch_size,
        ledger=own,
        workers=workers,
        num_clips=1,
        num_crops=1,
    )
    lost = own.entries() if views is None else ()

    def validate() -> EvaluationReport | MultiLabelReport:
        own.clear()
        for entry in lost:
            own.record(**entry)
        return _report(*_probabilities(predictor, views, videos, ledger), videos, ledger)

    return validate


def _views_of_share(experiment, videos, shard, *, ledger, **options) -> tf.data.Dataset | None:
    """The views of this machine's share of the videos, by their numbers among all videos.

    `None` where it has no video, or none that can be decoded: those of the others may do.
    """
    index, number = shard
    if number == 1:
        return validation_views(experiment, videos, ledger=ledger, **options)
    share = range(index, len(videos), number)
    if not share:
        return None
    try:
        views = validation_views(experiment, videos.subset(share), ledger=ledger, **options)
    except UserError:
        if len(ledger.failures) < len(share):
            raise
        return None
    numbers = tf.constant(share, tf.int64)
    return views.map(lambda clips, video: (clips, tf.gather(numbers, video)))


def _probabilities(predictor, views, videos: VideoList, ledger: OutcomeLedger, collect=None):
    """Probabilities (videos, classes), and the number of views of each video."""
    with own_ledger(ledger).user_errors():
        probabilities, num_views = predictor.scores_by_video(views, len(videos), collect)
    gather_outcomes(ledger)
    if not num_views.any():
        raise ledger.nothing_decoded()
    return probabilities, num_views


def _report(
    probabilities, num_views, videos: VideoList, ledger: OutcomeLedger
) -> EvaluationReport | MultiLabelReport:
    make = make_multi_label_report if videos.multi_label else make_report
    return make(probabilities, num_views, videos, ledger.failures, ledger.partial)


def _plot_scores(directory: ModelDirectory, report, class_names):
    from mvit_tf.analysis import plots

    directory.plots.mkdir(exist_ok=True)
    if isinstance(report, MultiLabelReport):
        path = directory.plots / "average_precision.png"
        plots.plot_average_precisions(report.per_class, path)
    else:
        path = directory.plots / "per_class_accuracy.png"
        plots.plot_class_accuracies(report.per_class, path)
        logging.info(f"plotted     {path}")
        path = directory.plots / "confusion_matrix.png"
        plots.plot_confusion_matrix(report.confusion_matrix, class_names, path)
    logging.info(f"plotted     {path}")


def _plot_mistakes(directory: ModelDirectory, mistakes, experiment, videos, workers):
    path = directory.plots / "worst_mistakes.png"
    if not mistakes:
        path.unlink(missing_ok=True)
        return
    plot_mistakes(mistakes, experiment, videos, workers, path)
    logging.info(f"plotted     {path}")
