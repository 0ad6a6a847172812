"""What is refused before the first run of a study."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mvit_tf.conversion.loading import load_encoder
from mvit_tf.data.pipeline import steps_per_epoch
from mvit_tf.errors import UserError
from mvit_tf.files import write_text_atomically
from mvit_tf.studies.runs import Run
from mvit_tf.studies.study import PRETRAINING, Study, Variant
from mvit_tf.studies.videos import StudyVideos
from mvit_tf.training.experiments.experiment import flat_items, load_experiment, merge_overrides
from mvit_tf.training.optimization.training_model import build_training_model

FILE = "study.json"


def check_folder(output: Path, study: Study, videos: StudyVideos | None, params: str):
    """Writes down what is compared, or refuses another study than the folder's.

    What was written binds once a run has a checkpoint; until then it is replaced.

    Args:
        output: folder of the study.
        study: the study.
        videos: somebody's own; None where the study makes them.
        params: keys over those of every run, in the form of --params_override.

    Raises:
        UserError: the folder holds another study, or what is none.
    """
    now = _described(study, videos, params)
    file = output / FILE
    others = sorted(path.name for path in output.iterdir() if not path.name.startswith("."))
    if others and not file.is_file():
        raise UserError(
            f"--output={output} holds {others[0]} and no study; choose a folder of its own"
        )
    if file.is_file() and _has_begun(output):
        before = json.loads(file.read_text(encoding="utf-8"))
        for part in {**before, **now}:
            if before.get(part) != now.get(part):
                raise UserError(
                    f"{output} holds another study: {_difference(part, before, now)}; choose "
                    "another --output or take back the change"
                )
    write_text_atomically(file, json.dumps(now, indent=2) + "\n")


def check_runs(runs: Sequence[Run], videos: StudyVideos):
    """Refuses a run that could not begin: too few videos for a batch, or a model that does not
    fit the pre-training that it starts from.

    Args:
        runs: of a study, those of the first seed first.
        videos: to train and score on.

    Raises:
        UserError: naming the run.
    """
    _check_batches(runs, videos)
    before = next((run for run in runs if run.variant == PRETRAINING), None)
    if before is not None and before.result() is None:
        pretrained = _model(before, videos)
        for run in runs:
            if run.pretrained and run.seed == before.seed:
                load_encoder(_model(run, videos), pretrained, f"{run.name}: the pre-training")


def _model(run, videos):
    experiment = load_experiment(run.config_file, run.overrides)
    return build_training_model(experiment, videos.num_classes)


def _check_batches(runs, videos):
    for run in runs:
        experiment = load_experiment(run.config_file, run.overrides)
        train = videos.training_list(run.label_share, run.seed)
        try:
            steps_per_epoch(
                train, experiment.train.batch_size, experiment.data.repeated_augmentation
            )
        except UserError as error:
            raise UserError(f"{run.name}: {error}") from error


def _has_begun(output: Path) -> bool:
    kept = ("checkpoints/*.weights.h5", "../seed_*.json")
    return any(any(output.glob(f"runs/*/seed_*/{name}")) for name in kept)


def _described(study, videos, params) -> dict[str, dict[str, Any]]:
    """By part, a variant or "videos", what tells one study from another."""
    variants = {
        name: {
            **flat_items(
                load_experiment(study.base, merge_overrides(study.overrides_of(name), params))
            ),
            "label_share": study.variants.get(name, Variant()).label_share,
        }
        for name in [*([PRETRAINING] if study.pretraining else []), *study.variants]
    }
    if videos is None:
        source = {
            "shapes": dataclasses.asdict(study.shapes),
            "videos_per_class": dataclasses.asdict(study.videos_per_class),
        }
    else:
        source = {
            "data": str(videos.source),
            "train": len(videos.train),
            "test": len(videos.test),
            "digest": _digest(videos),
        }
    # As it is read back.
    return json.loads(json.dumps({"videos": source, **variants}))


def _digest(videos: StudyVideos) -> str:
    """Of paths, labels and times of the videos."""
    lists = [
        (part.class_names, part.paths, part.labels, part.segments)
        for part in (videos.train, videos.test)
    ]
    return hashlib.sha256(json.dumps(lists).encode("utf-8", "surrogateescape")).hexdigest()


def _difference(part: str, before, now) -> str:
    if part not in now:
        return f"its {part} is not in this one"
    if part not in before:
        return f"this one's {part} is not in it"
    there, here = before[part], now[part]
    key = next(key for key in {**there, **here} if there.get(key) != here.get(key))
    if key == "digest":
        return f"the videos of {os.fspath(here['data'])}, or their labels, were others then"
    return f"{part}: {key} is {there.get(key)!r} there, {here.get(key)!r} now"
