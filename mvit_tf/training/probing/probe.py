"""The linear probe: the head alone, trained to its optimum on features that are computed once.

The features are those of the views that evaluation takes of each video, and with `data.flip` of
their mirror images. How strongly the head is held small (L2) is chosen on videos of the training
side that are held out in turn, by groups as the validation is.
"""

import dataclasses
import json

import keras
import numpy as np
from absl import logging
from scipy.special import expit, softmax

from mvit_tf.data.lists.splits import split_validation
from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.errors import UserError
from mvit_tf.files import write_json_lines, write_text_atomically
from mvit_tf.models import MViT
from mvit_tf.training.evaluation.evaluation import EvaluationReport, make_report
from mvit_tf.training.evaluation.multi_label_report import MultiLabelReport, make_multi_label_report
from mvit_tf.training.experiments.clips import decode_workers
from mvit_tf.training.experiments.description import describe, say_remarks
from mvit_tf.training.experiments.experiment import Experiment
from mvit_tf.training.experiments.sections import TrainSection
from mvit_tf.training.experiments.videos import labelled_videos, train_and_validation
from mvit_tf.training.optimization.freezing import warn_of_random_weights
from mvit_tf.training.probing.features import Features, video_features
from mvit_tf.training.probing.logistic_regression import (
    LinearHead,
    fit_logistic_regression,
    standardisation,
)
from mvit_tf.training.storage.checkpoints import Progress
from mvit_tf.training.storage.initial_weights import initial_weights, load_initial_weights
from mvit_tf.training.storage.model_directory import ModelDirectory

# Strengths of L2 to choose from, the strongest first: each optimum is the start of the next.
L2_STRENGTHS = tuple(10.0**power for power in np.arange(2, -4.5, -0.5))
# Where no videos can be held out.
DEFAULT_L2 = 1e-2
_HELD_OUT_SHARE = 0.2
# Of the section `train`.
_USED_KEYS = (
    "probe", "batch_size", "class_weights", "dtype", "seed", "devices", "distribution_strategy",
)  # fmt: skip
_HELD_OUT_TIMES = 5
# To choose a strength the heads need not be exact.
_ROUGH, _EXACT = 1e-4, 1e-6


@dataclasses.dataclass(frozen=True)
class Probe:
    """A fitted head, and how its L2 was chosen.

    Attributes:
        head: takes features as they are.
        l2: the strength chosen.
        held_out_losses: loss on held-out videos by strength; empty where none could be.
    """

    head: LinearHead
    l2: float
    held_out_losses: dict[float, float]


def train_probe(experiment: Experiment, directory: ModelDirectory):
    """Trains the head of an experiment's model, and writes the model directory.

    Run again it takes the features that are there, computes those of new videos, and trains the
    head anew. The features are computed on one device.
    """
    labelled = labelled_videos(experiment)
    changes = directory.check(experiment, labelled.class_names)
    done = directory.checkpoints.newest() is not None
    saved = directory.saved_split() if done else None
    train, validation = train_and_validation(experiment, labelled, saved)
    keras.utils.set_random_seed(experiment.train.seed)
    # No `TrainingModel`: it takes no training steps.
    model = MViT(
        experiment.model_config(train.num_classes),
        name=experiment.model.name,
        dtype=experiment.train.dtype,
    )
    if experiment.model.initial_weights is None:
        warn_of_random_weights("train.probe keeps")
    else:
        load_initial_weights(model, initial_weights(experiment), reset_head=True)
    describe(experiment, model, train, validation, addition="; the head alone is trained")
    _describe_features(experiment)
    say_remarks(labelled, train, validation, look_into_files=not done)
    for change in changes:
        logging.info(f"changed     {change}")
    unused = _unused_keys(experiment.train)
    if unused:
        logging.warning(f"train.probe computes the head at once, without {', '.join(unused)}")
    directory.keep_split(train, validation)
    directory.claim(experiment, train.class_names)

    ledgers = {"training": OutcomeLedger(), "validation": OutcomeLedger()}
    entries = []

    def features_of(videos, side, mirrored):
        ledger = ledgers[side]
        features = video_features(
            experiment,
            model,
            videos,
            directory.path / "features",
            mirrored=mirrored,
            ledger=ledger,
            workers=workers,
        )
        named = {**ledger.failures, **ledger.partial}
        entries.extend(
            {"epoch": 0, "set": side, **entry}
            for entry in ledger.entries()
            if entry["path"] in named
        )
        write_json_lines(directory.outcomes_file, entries)
        ledger.check(experiment.data.max_failure_share)
        return features

    with decode_workers(experiment) as workers:
        features = features_of(train, "training", experiment.data.flip)
        held_out = None if validation is None else features_of(validation, "validation", False)
    logging.info(f"decoding    {OutcomeLedger.union(ledgers.values()).summary()}")
    balanced = experiment.data.balanced_sampling or experiment.train.class_weights is not None
    probe = fit_probe(features, train, seed=experiment.data.seed, balanced=balanced)
    _write_choice(directory, probe, features)
    model.get_layer("head").set_weights(
        [probe.head.kernel.astype("float32"), probe.head.bias.astype("float32")]
    )
    score, loss = None, None
    if held_out is not None:
        report = score_features(experiment, probe.head, held_out, validation, ledgers["validation"])
        score, loss = report.score, report.loss
    directory.checkpoints.save(model, Progress().after_epoch(score, loss))
    scored = "no validation" if score is None else f"{score:.1%} on validation"
    logging.info(
        f"trained     the head on {len(features.rows)} views, L2 {probe.l2:.1e}; {scored}; "
        f"checkpoints in {directory.path}"
    )


def _unused_keys(settings: TrainSection) -> list[str]:
    """Keys that were set and play no part."""
    defaults = TrainSection().as_dict()
    return [
        f"train.{key}"
        for key, value in settings.as_dict().items()
        if key not in _USED_KEYS and value != defaults[key]
    ]


def fit_probe(
    features: Features, videos: VideoList, *, seed: int = 0, balanced: bool = False
) -> Probe:
    """The best linear head on features, in all strengths of L2.

    Args:
        features: of `videos`.
        videos: with their labels; those without features count for nothing.
        seed: of which videos are held out to choose the strength.
        balanced: weigh the classes, not the videos, alike.
    """
    targets = videos.label_matrix()[features.video_index].astype(float)
    weights = _weights(features, videos, balanced)
    held_out = _held_out_losses(features, videos, targets, weights, seed)
    l2 = min(held_out, key=held_out.get) if held_out else DEFAULT_L2
    everything = np.ones(len(targets), bool)
    ((_, head),) = _heads(features, targets, weights, everything, [l2], videos.multi_label, _EXACT)
    return Probe(head, l2, held_out)


def score_features(
    experiment: Experiment,
    head: LinearHead,
    features: Features,
    videos: VideoList,
    ledger: OutcomeLedger,
) -> EvaluationReport | MultiLabelReport:
    """What the evaluation of a model with this head would find, decoding again.

    Args:
        experiment: how the views of a video are put together.
        head: of the model.
        features: of `videos`, without mirror images.
        videos: with their labels.
        ledger: what became of them.
    """
    scores = _scores(
        head, features, len(videos), videos.multi_label, experiment.data.ensemble_method
    )
    make = make_multi_label_report if videos.multi_label else make_report
    views = features.num_views(len(videos))
    return make(scores, views, videos, ledger.failures, ledger.partial)


def _weights(features, videos, balanced):
    """Of each row: videos count alike whatever their views, or the classes do."""
    views = features.num_views(len(videos))
    of_video = np.divide(1.0, views, where=views > 0, out=np.zeros(len(videos)))
    if balanced:
        matrix = videos.label_matrix() * (views > 0)[:, np.newaxis]
        of_class = 1.0 / np.maximum(matrix.sum(axis=0), 1)
        # Of several labels the rarest; without any, as the commonest class.
        of_video *= np.where(matrix.any(axis=1), (matrix * of_class).max(axis=1), of_class.min())
    rows = of_video[features.video_index]
    return rows / rows.sum()


def _heads(features, targets, weights, chosen, strengths, multi_label, tolerance):
    """Yields (strength, head) trained on the chosen rows (bool)."""
    rows, own = features.rows[chosen].astype(float), weights[chosen] / weights[chosen].sum()
    mean, scale = standardisation(rows, own)
    standard, head = (rows - mean) / scale, None
    for strength in strengths:
        head = fit_logistic_regression(
            standard,
            targets[chosen],
            own,
            l2=strength,
            multi_label=multi_label,
            start=head,
            tolerance=tolerance,
        )
        yield strength, head.of_unscaled(mean, scale)


def _held_out_losses(features, videos, targets, weights, seed):
    """Loss by strength on videos that are held out in turn; empty where none can be."""
    losses = dict.fromkeys(L2_STRENGTHS, 0.0)
    decoded = np.flatnonzero(features.num_views(len(videos)))
    for turn in range(_HELD_OUT_TIMES):
        try:
            held_out = _split(videos, decoded, seed + turn)
        except UserError as error:
            logging.warning(f"L2 is {DEFAULT_L2:g}, as none can be held out to choose it: {error}")
            return {}
        tested = np.isin(features.video_index, held_out)
        for strength, head in _heads(
            features, targets, weights, ~tested, L2_STRENGTHS, videos.multi_label, _ROUGH
        ):
            scores = _scores(head, features, len(videos), videos.multi_label, "mean")[held_out]
            losses[strength] += _loss(scores, videos, held_out) / _HELD_OUT_TIMES
    return losses


def _split(videos, decoded, seed):
    """Indices of a share of the decoded videos, by groups as validation is."""
    # By number instead of path: what is held out is asked for by index.
    numbered = dataclasses.replace(
        videos.subset(decoded), paths=tuple(str(index) for index in decoded)
    )
    _, held_out = split_validation(numbered, _HELD_OUT_SHARE, seed)
    return np.array([int(path) for path in held_out.paths])


def _scores(head, features, num_videos, multi_label, ensemble_method):
    """Probabilities (videos, K), the views' put together as evaluation does."""
    logits = head(features.rows.astype(float))
    probabilities = expit(logits) if multi_label else softmax(logits, axis=1)
    scores = np.zeros((num_videos, logits.shape[1]))
    if ensemble_method == "max":
        np.maximum.at(scores, features.video_index, probabilities)
        return scores
    np.add.at(scores, features.video_index, probabilities)
    return scores / np.maximum(features.num_views(num_videos), 1)[:, np.newaxis]


def _loss(scores, videos, indices):
    """Mean negative log likelihood of the labels."""
    targets = videos.label_matrix()[indices]
    tiny = np.finfo(np.float32).tiny
    log_likelihood = targets * np.log(np.maximum(scores, tiny))
    if videos.multi_label:
        log_likelihood += ~targets * np.log(np.maximum(1 - scores, tiny))
    return -log_likelihood.sum(axis=1).mean()


def _write_choice(directory, probe, features):
    text = json.dumps(
        {
            "l2": probe.l2,
            "held_out_losses": {f"{l2:.3g}": loss for l2, loss in probe.held_out_losses.items()},
            "views": len(features.rows),
            "features": features.rows.shape[1],
        },
        indent=2,
    )
    write_text_atomically(directory.path / "probe.json", text + "\n")


def _describe_features(experiment):
    data = experiment.data
    views = f"{data.evaluation_clips} clips x {data.evaluation_crops} crops"
    mirrored = ", and their mirror images (data.flip)" if data.flip else ""
    logging.info(f"features    of {views} of each video{mirrored}")
