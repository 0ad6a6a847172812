"""What is refused before the first run of a study."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mvit_tf.data.pipeline import steps_per_epoch
from mvit_tf.errors import UserError
from mvit_tf.files import write_text_atomically
from mvit_tf.studies.runs import Run
from mvit_tf.studies.study import VIDEOS, Study, Variant
from mvit_tf.studies.videos import StudyVideos
from mvit_tf.training.experiments.experiment import Experiment, flat_items, load_experiment

FILE = "study.json"


def check_folder(
    output: Path,
    study: Study,
    videos: StudyVideos | None,
    experiments: Mapping[str, Experiment],
):
    """Writes down what is compared, or refuses another study than the folder's.

    What was written of a variant binds once a run of it has a checkpoint, and that of the videos
    once any has: a variant that failed at once can be mended, and others be added.

    Args:
        output: folder of the study.
        study: the study.
        videos: somebody's own; None where the study makes them.
        experiments: what is trained, of `Study.experiments`.

    Raises:
        UserError: the folder holds another study, or what is none.
    """
    now = _described(study, videos, experiments)
    file = output / FILE
    others = sorted(path.name for path in output.iterdir() if not path.name.startswith("."))
    if others and not file.is_file():
        raise UserError(
            f"--output={output} holds {others[0]} and no study; choose a folder of its own"
        )
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    begun = _begun(output)
    before = {part: keys for part, keys in before.items() if part in begun}
    for part, keys in before.items():
        if part in now and keys != now[part]:
            raise UserError(
                f"{output} holds another study: {_difference(part, keys, now[part])}; choose "
                "another --output or take back the change"
            )
    write_text_atomically(file, json.dumps({**before, **now}, indent=2) + "\n")


def check_runs(runs: Sequence[Run], videos: StudyVideos):
    """Refuses a run that has too few videos for a batch.

    Raises:
        UserError: naming the run.
    """
    for run in runs:
        experiment = load_experiment(run.config_file, run.overrides)
        train = videos.training_list(run.label_share, run.seed)
        try:
            steps_per_epoch(
                train, experiment.train.batch_size, experiment.data.repeated_augmentation
            )
        except UserError as error:
            raise UserError(f"{run.name}: {error}") from error


def _begun(output: Path) -> set[str]:
    """The variants with a run that has a checkpoint or is finished, and "videos" if there are."""
    runs = output / "runs"
    kept = [*runs.glob("*/seed_*/checkpoints/*.weights.h5"), *runs.glob("*/seed_*.json")]
    variants = {path.relative_to(runs).parts[0] for path in kept}
    return {*variants, VIDEOS} if variants else set()


def _described(study, videos, experiments) -> dict[str, dict[str, Any]]:
    """By part, a variant or "videos", what tells one study from another."""
    variants = {
        name: {
            **flat_items(experiment),
            "label_share": study.variants.get(name, Variant()).label_share,
        }
        for name, experiment in experiments.items()
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
    return json.loads(json.dumps({VIDEOS: source, **variants}))


def _digest(videos: StudyVideos) -> str:
    """Of paths, labels and times of the videos."""
    lists = [
        (part.class_names, part.paths, part.labels, part.segments)
        for part in (videos.train, videos.test)
    ]
    return hashlib.sha256(json.dumps(lists).encode("utf-8", "surrogateescape")).hexdigest()


def _difference(part: str, there, here) -> str:
    key = next(key for key in {**there, **here} if there.get(key) != here.get(key))
    if key == "digest":
        return f"the videos of {here['data']}, or their labels, were others then"
    return f"{part}: {key} is {there.get(key)!r} there, {here.get(key)!r} now"
