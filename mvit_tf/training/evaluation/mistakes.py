"""The worst mistakes of a model: which videos, and how they look to it."""

import dataclasses
import os

import numpy as np

from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.data.transforms import denormalise
from mvit_tf.data.video.decode_workers import DecodeWorkers
from mvit_tf.errors import UserError
from mvit_tf.training.experiments.clips import validation_views, with_time
from mvit_tf.training.experiments.experiment import Experiment

_LEAST = np.finfo(np.float32).tiny
# Labels and predictions named of a video of a multi-label set.
_NAMED = 2


@dataclasses.dataclass(frozen=True)
class Mistake:
    """A video that a model takes for something else.

    Attributes:
        video: its index.
        loss: cross-entropy; of a multi-label set binary, mean over the classes.
        text: true and predicted classes with their probabilities, and the file's name, in lines.
    """

    video: int
    loss: float
    text: str


def worst_mistakes(
    probabilities: np.ndarray, num_views: np.ndarray, videos: VideoList, number: int = 12
) -> list[Mistake]:
    """The wrongly classified videos with the highest loss, the highest first.

    A video of a multi-label set is wrong where a class is on the wrong side of one half.

    Args:
        probabilities: (videos, classes).
        num_views: (videos,); those with none are left out.
        videos: paths, labels and class names.
        number: the most to return.
    """
    truth = videos.label_matrix()
    if videos.multi_label:
        wrong = ((probabilities >= 0.5) != truth).any(axis=1)
        right = np.where(truth, probabilities, 1 - probabilities)
        losses = -np.log(np.maximum(right, _LEAST)).mean(axis=1)
    else:
        wrong = probabilities.argmax(axis=1) != np.array(videos.labels)
        losses = -np.log(np.maximum((probabilities * truth).sum(axis=1), _LEAST))
    found = np.flatnonzero(wrong & (num_views > 0))
    worst = found[np.argsort(-losses[found], kind="stable")][:number]
    return [
        Mistake(int(video), float(losses[video]), _text(video, probabilities[video], videos))
        for video in worst
    ]


def plot_mistakes(
    mistakes: list[Mistake],
    experiment: Experiment,
    videos: VideoList,
    workers: DecodeWorkers | None,
    png_path: str | os.PathLike,
):
    """Draws a strip of frames of each mistake, from the middle clip as the model sees it.

    Only these videos are decoded again; one that cannot be is shown as missing.

    Args:
        mistakes: at least one.
        experiment: how clips are taken and prepared.
        videos: what the mistakes are of.
        workers: to decode in.
        png_path: the picture to write.
    """
    from mvit_tf.analysis.plots import plot_clips

    clips = [None] * len(mistakes)
    try:
        views = validation_views(
            experiment,
            videos.subset([mistake.video for mistake in mistakes]),
            batch_size=1,
            ledger=OutcomeLedger(),
            workers=workers,
            num_clips=1,
            num_crops=1,
        )
        for frames, number in views.as_numpy_iterator():
            clip = with_time(experiment, frames)[0]
            clips[number[0]] = denormalise(clip, experiment.preprocessing())
    except UserError:  # By now not one of them can be decoded.
        pass
    plot_clips(clips, [mistake.text for mistake in mistakes], png_path)


def _text(video: int, probabilities: np.ndarray, videos: VideoList) -> str:
    labels = videos.labels_of(video)
    others = [index for index in probabilities.argsort()[::-1] if index not in labels]
    if videos.multi_label:
        others = [index for index in others if probabilities[index] >= 0.5]
    said = [
        f"{kind} {videos.class_names[index]} {probabilities[index]:.0%}"
        for kind, shown in (
            ("true", labels),
            ("not" if videos.multi_label else "taken for", others),
        )
        for index in shown[: _NAMED if videos.multi_label else 1]
    ]
    return "\n".join([*said, os.path.basename(videos.name(video))])
