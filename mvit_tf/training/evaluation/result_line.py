"""An evaluation in a line, and its scores in words."""

from mvit_tf.training.evaluation.evaluation import EvaluationReport
from mvit_tf.training.evaluation.multi_label_report import MultiLabelReport
from mvit_tf.training.experiments.experiment import Experiment
from mvit_tf.urls import without_query


def data_name(experiment: Experiment) -> str:
    """What an experiment's evaluation is on, in a word or two: "val.csv", "held out of videos"."""
    data = experiment.data
    held_out = data.validation is None and not (data.tfds_name and data.validation_split)
    source = (data.tfds_name or data.train) if held_out else (data.validation or data.tfds_name)
    name = without_query(source or "").rstrip("/").rpartition("/")[-1]
    if held_out:
        return f"videos held out of {name}"
    return f"{name} ({data.validation_split})" if data.validation_split else name


def result_line(
    report: EvaluationReport | MultiLabelReport,
    *,
    model: str,
    data: str,
    clips: int,
    crops: int,
    ensemble_method: str,
    epoch: int,
    frames_shuffled: bool = False,
    by_file: bool = False,
) -> str:
    """Model, data, score and views.

    Returns:
        For example "result      mvit_b_16x4 on val.csv: top-1 78.4% top-5 93.5%, 5 clips x 1 crop
        of 1,234 videos (2 missing), epoch 37".
    """
    if isinstance(report, MultiLabelReport):
        scores = f"mAP {report.mean_average_precision_of_decoded:.1%}"
    else:
        scores = f"top-1 {report.top1_of_decoded:.1%}"
        if report.top5_of_decoded is not None:
            scores += f" top-5 {report.top5_of_decoded:.1%}"
    missing = report.num_videos - report.num_decoded
    views = f"{_number(clips, 'clip')} x {_number(crops, 'crop')}"
    if ensemble_method != "mean":
        views += f" ({ensemble_method})"
    return (
        f"result      {model} on {data}: {scores}, {views} of "
        f"{_number(report.num_videos, 'file' if by_file else 'video')}"
        + (f" ({missing:,} missing)" if missing else "")
        + (", frames shuffled" if frames_shuffled else "")
        + f", epoch {epoch}"
    )


def scores_in_words(report: EvaluationReport | MultiLabelReport) -> str:
    """The scores of the decoded videos, and of all where some are missing."""
    missing = report.num_videos - report.num_decoded
    if isinstance(report, MultiLabelReport):
        classes = sum(entry["average_precision"] is not None for entry in report.per_class)
        of_all = report.mean_average_precision_of_all
        of_all = f" ({of_all:.1%} of all {report.num_videos})" if missing else ""
        return (
            f"mAP {report.mean_average_precision_of_decoded:.1%}{of_all} over {classes} classes, "
            f"loss {report.loss:.3f}"
        )
    top5 = "" if report.top5_of_decoded is None else f", top-5 {report.top5_of_decoded:.1%}"
    of_all = f" ({report.top1_of_all:.1%} of all {report.num_videos})" if missing else ""
    return f"top-1 {report.top1_of_decoded:.1%}{of_all}{top5}, loss {report.loss:.3f}"


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"
