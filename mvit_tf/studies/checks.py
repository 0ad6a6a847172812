"""What is refused before the first run of a study."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mvit_tf.conversion.loading import load_encoder
from mvit_tf.data.lists.content import checksum, of_all
from mvit_tf.data.pipeline import steps_per_epoch
from mvit_tf.errors import UserError
from mvit_tf.files import write_text_atomically
from mvit_tf.studies.runs import Run, read_kept
from mvit_tf.studies.study import PRETRAINING, VIDEOS, Study, Variant
from mvit_tf.studies.videos import StudyVideos
from mvit_tf.training.experiments.experiment import Experiment, flat_items, load_experiment
from mvit_tf.training.optimization.training_model import build_training_model

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
    remedy = "bring it back, or choose another --output"
    before = read_kept(file, remedy) if file.is_file() else {}
    begun = _begun(output)
    before = {part: keys for part, keys in before.items() if part in begun}
    for part, keys in before.items():
        if part in now and (difference := _difference(part, keys, now[part])):
            raise UserError(
                f"{output} holds another study: {difference}; choose another --output or take "
                "back the change"
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


def check_starts(runs: Sequence[Run], videos: StudyVideos):
    """Refuses a variant whose model does not fit the pre-training that it starts from.

    Raises:
        UserError: naming the run, with the likely cause.
    """
    before = next((run for run in runs if run.variant == PRETRAINING), None)
    if before is None or before.result() is not None:
        return
    pretrained = _model(before, videos)
    for run in runs:
        if run.pretrained and run.seed == before.seed:
            load_encoder(_model(run, videos), pretrained, f"{run.name}: the pre-training")


def _model(run, videos):
    experiment = load_experiment(run.config_file, run.overrides)
    return build_training_model(experiment, videos.num_classes)


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
            "data": None,
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
    """Of paths, labels, times and content of the videos."""
    lists = [
        (part.class_names, part.paths, part.labels, part.segments)
        for part in (videos.train, videos.test)
    ]
    content = of_all(checksum, [*videos.train.paths, *videos.test.paths])
    text = json.dumps([lists, content])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _difference(part: str, there, here) -> str | None:
    """The first key that tells them apart, in words; None where none does."""
    key = next((key for key in {**there, **here} if there.get(key) != here.get(key)), None)
    if key is None:
        return None
    if key == "digest":
        return f"the videos of {here['data']}, or their labels, were others then"
    one, other = there.get(key), here.get(key)
    if isinstance(one, dict) and isinstance(other, dict):
        return _difference(f"{part}: {key}", one, other)
    return f"{part}: {key} is {one!r} there, {other!r} now"
