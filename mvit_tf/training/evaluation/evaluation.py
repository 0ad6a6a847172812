"""Multi-view evaluation: several clips and crops of each video, probabilities put together."""

import dataclasses
import json
import math
import os
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf

from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.files import write_text_atomically
from mvit_tf.remote_path import as_path
from mvit_tf.training.distributed.distribution import process_shard
from mvit_tf.training.distributed.worker_exchange import gather_scores
from mvit_tf.urls import without_secrets

_PADDING = -1


@dataclasses.dataclass(frozen=True)
class EvaluationReport:
    """Scores of a model on a list of videos.

    A video that could not be decoded has no score. It is missing from the shares "of decoded"
    and counts as wrong in the shares "of all".

    Attributes:
        num_videos: videos asked for.
        num_decoded: videos with at least one view.
        loss: mean over the decoded of -log(probability of the true class).
        top1_of_decoded, top1_of_all: shares in [0, 1] whose most probable class is the true one.
        top5_of_decoded, top5_of_all: shares whose true class is among the five most probable;
            `None` with five classes or fewer.
        per_class: for each class its name, videos, decoded, and accuracy of the decoded
            (`None` if it has none).
        confusion_matrix: counts of decoded videos; rows are true classes, columns predicted ones.
        missing: path and reason of each video that has no score.
        partial: path, damaged share of the frames asked for, and reason, of each video that was
            decoded but for some frames.
    """

    metric = "accuracy"

    num_videos: int
    num_decoded: int
    loss: float
    top1_of_decoded: float
    top1_of_all: float
    top5_of_decoded: float | None
    top5_of_all: float | None
    per_class: list[dict]
    confusion_matrix: list[list[int]]
    missing: list[dict]
    partial: list[dict] = dataclasses.field(default_factory=list)

    @property
    def score(self) -> float:
        """What the best epoch is told by."""
        return self.top1_of_decoded

    def write(self, path: str | os.PathLike, **context):
        """Writes the report as JSON, after `context` (what was evaluated and how)."""
        write_report(self, path, context)


def write_report(report, path: str | os.PathLike, context: dict):
    """Writes a report, a dataclass, as JSON after `context`; URLs in it without their secrets."""
    text = json.dumps({**context, **dataclasses.asdict(report)}, indent=2)
    write_text_atomically(as_path(path), without_secrets(text) + "\n")


class ViewPredictor:
    """Runs a model over the views of many videos; the replicas of a machine share each batch.

    Each batch is filled up to `batch_size` with empty views that are dropped again: the model
    is compiled for one shape only, and every replica has its share of the last batch. Several
    machines each have views of their own, and wait for each other only at the end.

    Args:
        model: frames (B, T, H, W, 3) to logits (B, K).
        batch_size: views a step, over all replicas of this machine together.
        strategy: what the model was built under; `None` for one device.
        multi_label: each class has a probability of its own (sigmoid instead of softmax).
        ensemble_method: "mean" of the views' probabilities, or "max" of each class.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        batch_size: int,
        strategy: tf.distribute.Strategy | None = None,
        multi_label: bool = False,
        ensemble_method: str = "mean",
    ):
        self._num_classes = model.output_shape[-1]
        self.batch_size = batch_size
        self._strategy = strategy
        self._several_machines = process_shard(strategy)[1] > 1
        self._ensemble_method = ensemble_method
        activation = tf.nn.sigmoid if multi_label else tf.nn.softmax

        def probabilities(views):
            return activation(tf.cast(model(views, training=False), tf.float32))

        if strategy is None:
            self._step = tf.function(probabilities)
        else:
            self._step = tf.function(lambda views: strategy.run(probabilities, args=(views,)))

    def scores_by_video(
        self,
        views: tf.data.Dataset | None,
        num_videos: int,
        collect: Callable[[np.ndarray, np.ndarray], None] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities of each video, by all of its views.

        Args:
            views: batches of (float32 (b, T, H, W, 3), video index (b,)), b at most `batch_size`.
                On several machines those of this one's share of the videos, and `None` of none.
            num_videos: videos that the indices count.
            collect: gets each view's video index (b,) and probabilities (b, K) too, as
                `mvit_tf.training.evaluation.saved_views.ViewCollector`.

        Returns:
            Probabilities (num_videos, K) float64, zeros where a video has no view, and the
            number of views of each video (num_videos,); those of all machines, on each.
        """
        totals = np.zeros((num_videos, self._num_classes))
        add = np.maximum if self._ensemble_method == "max" else np.add
        counts = np.zeros(num_videos, dtype=int)
        for batch, video_index in self._padded_batches(views) if views is not None else ():
            for probabilities, index in zip(
                self._local(self._step(batch)), self._local(video_index), strict=True
            ):
                index = index.numpy()
                real = index != _PADDING
                add.at(totals, index[real], probabilities.numpy()[real])
                np.add.at(counts, index[real], 1)
                if collect is not None:
                    collect(index[real], probabilities.numpy()[real])
        if self._ensemble_method == "mean":
            totals /= np.maximum(counts, 1)[:, None]
        return gather_scores(self._strategy, totals, counts)

    def _padded_batches(self, views: tf.data.Dataset):
        def pad(batch, video_index):
            lacking = self.batch_size - tf.shape(batch)[0]
            axes = batch.shape.rank - 1
            batch = tf.pad(batch, [[0, lacking]] + [[0, 0]] * axes)
            video_index = tf.pad(video_index, [[0, lacking]], constant_values=_PADDING)
            batch = tf.ensure_shape(batch, [self.batch_size, *[None] * axes])
            return batch, tf.ensure_shape(video_index, [self.batch_size])

        padded = views.map(pad).prefetch(1)
        if self._strategy is None:
            return padded
        if self._several_machines:
            # Distributing a dataset would let the machines wait for each other at each batch.
            return (self._split(*batch) for batch in padded)
        return self._strategy.experimental_distribute_dataset(padded)

    def _split(self, *batch):
        """Each tensor by rows over the replicas of this machine."""
        number = len(self._strategy.extended.worker_devices)

        def values(tensor):
            parts = iter(tf.split(tensor, number))
            return self._strategy.experimental_distribute_values_from_function(
                lambda _: next(parts)
            )

        return tuple(values(tensor) for tensor in batch)

    def _local(self, value):
        if self._strategy is None:
            return (value,)
        return self._strategy.experimental_local_results(value)


def shuffle_frames(views: tf.data.Dataset, *, seed: int) -> tf.data.Dataset:
    """Puts the frames of each view in a random order of its own, the same for the same seed.

    The order follows from the seed, the video and the number of the view among those of its
    video, whatever the batch size. What a model loses by it is what it had learned from motion
    (MViT paper, Table 9).

    Args:
        views: batches of (frames (b, T, H, W, 3), video index (b,)), video after video.
        seed: of the orders.
    """

    def number(before, batch):
        """The number of each view in its video; `before`: the last video and its views so far."""
        _, video_index = batch
        last_video, num_views = before
        first = tf.searchsorted(video_index, video_index, out_type=tf.int64)
        numbers = tf.range(tf.size(first, tf.int64)) - first
        numbers += tf.where(video_index == last_video, num_views, 0)
        return (video_index[-1], numbers[-1] + 1), (*batch, numbers)

    def shuffle(frames, video_index, numbers):
        def order(view):
            key = tf.random.fold_in(tf.constant([seed, 0], tf.int64), view[0])
            key = tf.random.fold_in(key, view[1])
            return tf.argsort(tf.random.stateless_uniform(tf.shape(frames)[1:2], key))

        orders = tf.map_fn(order, (video_index, numbers), fn_output_signature=tf.int32)
        return tf.gather(frames, orders, batch_dims=1), video_index

    none = tf.constant(-1, views.element_spec[1].dtype), tf.constant(0, tf.int64)
    return views.scan(none, number).map(shuffle)


def make_report(
    probabilities: np.ndarray,
    num_views: np.ndarray,
    videos: VideoList,
    failures: Mapping[str, tuple[str, str]],
    partial: Mapping[str, tuple[float, str]] | None = None,
) -> EvaluationReport:
    """Scores averaged probabilities against the labels.

    Args:
        probabilities: (videos, classes), rows of videos without views are ignored.
        num_views: (videos,), 0 for a video that could not be decoded.
        videos: paths, labels and class names.
        failures: outcome and detail of each video that failed, by its name, from the ledger.
        partial: damaged share and detail of each that lacks some frames, the same way.
    """
    labels = np.array(videos.labels)
    num_classes = len(videos.class_names)
    decoded = num_views > 0
    scores, truth = probabilities[decoded], labels[decoded]
    predicted = scores.argmax(axis=1)
    confusion = np.zeros((num_classes, num_classes), dtype=int)
    np.add.at(confusion, (truth, predicted), 1)

    # A class is ahead of the true one if it scores more; equal scores go by index, as in argmax.
    own = scores[np.arange(len(truth)), truth][:, None]
    earlier = np.arange(num_classes)[None, :] < truth[:, None]
    rank = ((scores > own) | ((scores == own) & earlier)).sum(axis=1)
    top1, top5 = int((rank < 1).sum()), int((rank < 5).sum())
    with_top5 = num_classes > 5
    log_probability = np.log(np.maximum(own[:, 0], np.finfo(np.float32).tiny))
    return EvaluationReport(
        num_videos=len(labels),
        num_decoded=len(truth),
        loss=float(-log_probability.mean()) if len(truth) else math.nan,
        top1_of_decoded=_share(top1, len(truth)),
        top1_of_all=_share(top1, len(labels)),
        top5_of_decoded=_share(top5, len(truth)) if with_top5 else None,
        top5_of_all=_share(top5, len(labels)) if with_top5 else None,
        per_class=[
            {
                "name": name,
                "videos": int((labels == index).sum()),
                "decoded": int(confusion[index].sum()),
                "accuracy": _share_or_none(confusion[index, index], confusion[index].sum()),
            }
            for index, name in enumerate(videos.class_names)
        ],
        confusion_matrix=confusion.tolist(),
        missing=missing_videos(videos, decoded, failures),
        partial=partial_videos(partial),
    )


def missing_videos(
    videos: VideoList, decoded: np.ndarray, failures: Mapping[str, tuple[str, str]]
) -> list[dict]:
    """Path and reason of each video that is not among the decoded (bool, one a video)."""
    return [
        {"path": videos.name(index), "reason": _reason(failures.get(videos.name(index)))}
        for index in np.flatnonzero(~decoded)
    ]


def partial_videos(partial: Mapping[str, tuple[float, str]] | None) -> list[dict]:
    """Path, damaged share and reason of each video that lacks some frames."""
    return [
        {"path": path, "damaged": damaged, "reason": detail}
        for path, (damaged, detail) in (partial or {}).items()
    ]


def _share(count, total) -> float:
    return float(count) / total if total else 0.0


def _share_or_none(count, total) -> float | None:
    return _share(count, total) if total else None


def _reason(failure: tuple[str, str] | None) -> str:
    if failure is None:
        return "no view"
    outcome, detail = failure
    return f"{outcome}: {detail}" if detail else outcome
