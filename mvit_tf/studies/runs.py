"""The runs of a study: each variant with each seed, in a process and a model directory of its own.

A run that is finished has a file beside its model directory; one that is not goes on where its
model directory is.
"""

import dataclasses
import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from mvit_tf.errors import UserError
from mvit_tf.files import write_text_atomically
from mvit_tf.interruption import STOP_SIGNALS
from mvit_tf.module_process import module_command, module_environment
from mvit_tf.studies.study import PRETRAINING, Study, Variant
from mvit_tf.studies.videos import StudyVideos
from mvit_tf.training.experiments.experiment import merge_overrides
from mvit_tf.training.storage.model_directory import ModelDirectory

# What a process of one run executes, see there.
_MODULE = "mvit_tf.cli.study_run"
# Of the log of a failed run, how much is looked at.
_TAIL_BYTES = 20_000


@dataclasses.dataclass(frozen=True)
class Run:
    """One training, and how its model is scored.

    Attributes:
        variant: name, or `PRETRAINING`.
        seed: of weights, order and augmentation.
        model_dir: its model directory.
        label_share: share of each class's training videos that is trained on.
        pretrained: whether it starts from the pre-training of its seed.
        config_file: the experiment.
        overrides: over it, with videos and seed.
        evaluations: overrides of each evaluation by the name of its score; none of a pre-training.
    """

    variant: str
    seed: int
    model_dir: Path
    label_share: float
    pretrained: bool
    config_file: Path
    overrides: str
    evaluations: dict[str, str]

    @property
    def name(self) -> str:
        return f"{self.variant}, seed {self.seed}"

    @property
    def result_file(self) -> Path:
        return self.model_dir.with_name(f"{self.model_dir.name}.json")

    @property
    def log_file(self) -> Path:
        return self.model_dir.with_name(f"{self.model_dir.name}.log")

    def result(self) -> dict | None:
        """What is kept of a finished run; None of one that is not."""
        if not self.result_file.is_file():
            return None
        result = read_kept(self.result_file, "delete it, and the run is scored again")
        if not {"variant", "seed", "seconds", *self.evaluations} <= result.keys():
            raise UserError(
                f"{self.result_file} is of another study; delete it, and the run is scored again"
            )
        return result

    def keep_result(self, seconds: float):
        """Writes down that the run is finished: its scores, 0 to 1, and the time since it began
        or was last gone on with."""
        directory = ModelDirectory(self.model_dir)
        scores = {}
        for name in self.evaluations:
            file = directory.evaluation_file(shuffled=name == "shuffled")
            scores[name] = json.loads(file.read_text(encoding="utf-8"))["top1_of_all"]
        if "shuffled" in scores:
            scores["cost_of_shuffling"] = scores["accuracy"] - scores["shuffled"]
        result = {"variant": self.variant, "seed": self.seed, **scores, "seconds": round(seconds)}
        write_text_atomically(self.result_file, json.dumps(result, indent=2) + "\n")


def read_kept(file: Path, remedy: str) -> dict:
    """A JSON file of a study's folder.

    Raises:
        UserError: it is damaged; what to do about it.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise UserError(f"{file} is damaged; {remedy}")
    return values


def plan_runs(
    study: Study, videos: StudyVideos, seeds: Sequence[int], output: Path, params: str = ""
) -> list[Run]:
    """All runs of a study, the first seed of every variant before the second of any.

    Args:
        study: the study.
        videos: to train and score on.
        seeds: of the runs.
        output: folder of the study.
        params: keys over those of every run, in the form of --params_override.
    """
    return [
        _run(study, videos, name, seed, output, params) for seed in seeds for name in study.names
    ]


def _run(study, videos, name, seed, output, params) -> Run:
    variant = study.variants.get(name, Variant())
    share, data, model = variant.label_share, {"seed": seed}, {}
    if variant.pretrained:
        model_dir = output / "runs" / PRETRAINING / f"seed_{seed}"
        model = {"initial_weights": str(model_dir), "reset_head": True}
    data |= videos.training_keys(share, seed, output / "lists")
    own = {"model": model, "data": data, "train": {"seed": seed}}
    scored = {}
    if name != PRETRAINING:
        scored["accuracy"] = videos.test_keys()
        if study.shuffled:
            scored["shuffled"] = {**videos.test_keys(), "shuffle_frames": True}
    return Run(
        name,
        seed,
        output / "runs" / name / f"seed_{seed}",
        share,
        variant.pretrained,
        study.base,
        merge_overrides(study.overrides_of(name), params, json.dumps(own)),
        {score: json.dumps({"data": keys}) for score, keys in scored.items()},
    )


def execute(run: Run):
    """Trains and scores one run to its end, in a process of its own.

    The process ends, its step saved, when its standard input does: with this process, however
    that ends. Its output is appended to the run's log.

    Args:
        run: that is not finished.

    Raises:
        UserError: it failed; what it said, in a line.
        KeyboardInterrupt: a signal came; the run is stopped and saved.
    """
    run.model_dir.parent.mkdir(parents=True, exist_ok=True)
    job = {
        "model_dir": str(run.model_dir),
        "config_file": str(run.config_file),
        "overrides": run.overrides,
        "evaluations": run.evaluations,
    }
    started = time.monotonic()
    with open(run.log_file, "ab") as log:
        process = subprocess.Popen(
            module_command(_MODULE, json.dumps(job)),
            env=module_environment(),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            # Ctrl-C on a terminal is for the study, which then ends the run.
            process_group=0,
        )
        try:
            process.wait()
        finally:
            _end(process)
    if process.returncode:
        raise UserError(f"{run.name}: {_why(run, process.returncode)}")
    run.keep_result(time.monotonic() - started)


def _end(process):
    """Lets the process save its step and end; a second signal to this one ends it at once."""
    try:
        process.stdin.close()
        process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise


def _why(run: Run, status: int) -> str:
    """Why a run failed, by what it said last."""
    with open(run.log_file, "rb") as log:
        log.seek(max(0, run.log_file.stat().st_size - _TAIL_BYTES))
        lines = log.read().decode("utf-8", errors="replace").splitlines()
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if status == 2 and said:
        return said[-1]
    if status < 0 and -status not in STOP_SIGNALS:
        return f"its process was killed by signal {-status} (9: often out of memory)"
    last = next((line.strip() for line in reversed(lines) if line.strip()), "no word")
    return f"ended with status {status}: {last}; more in {run.log_file}"
