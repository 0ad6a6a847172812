"""A study from its first run to its table; started again, it goes on where it was.

videos/ or --data         what is trained and scored on
study.json                what is compared; another study is refused
runs/VARIANT/seed_N/      model directory of a run
runs/VARIANT/seed_N.json  its scores, once it is finished; .log: what it said
lists/                    videos of a share of the labels
results.md, results.json  the table of the runs that are finished; results.png
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import logging

from mvit_tf.analysis.complexity import complexity
from mvit_tf.errors import UserError
from mvit_tf.files import held_file, is_disk_full, write_text_atomically
from mvit_tf.studies import report as reports
from mvit_tf.studies.checks import check_folder, check_runs, check_starts
from mvit_tf.studies.runs import Run, execute, plan_runs
from mvit_tf.studies.study import Study, check_free_keys
from mvit_tf.studies.videos import StudyVideos, make_videos, open_videos, warn_of_both_sides
from mvit_tf.training.experiments.experiment import Experiment
from mvit_tf.training.loop.fitting import full_disk_told

_LOCK = ".study"


def seeds_of(study: Study, count: int | None) -> tuple[int, ...]:
    """The first seeds of a study, and beyond its own the numbers that follow."""
    count = len(study.seeds) if count is None else count
    following = range(max(study.seeds) + 1, max(study.seeds) + 1 + count)
    return (*study.seeds, *following)[:count]


def conduct(
    study: Study,
    output: str | os.PathLike,
    *,
    data: str | os.PathLike | None = None,
    num_seeds: int | None = None,
    params: str = "",
) -> dict:
    """Runs what is not finished of a study, and writes its table after each run.

    Args:
        study: the study.
        output: folder of everything.
        data: somebody's own videos, see `open_videos`; None makes the study's.
        num_seeds: runs of each variant; None is the study's own number.
        params: keys over those of every run, in the form of --params_override.

    Returns:
        The report, see `mvit_tf.studies.report.make_report`.

    Raises:
        UserError: a run failed, the disk is full, `output` holds another study or what is none,
            `params` sets what the study sets for each run, a run could not begin, or the study
            makes no videos and none are given; nothing that was done is lost.
    """
    check_free_keys(params, "--params_override")
    experiments = study.experiments(params)
    if study.own_videos and data is None:
        raise UserError(f"the study {study.name} makes no videos; give yours by --data")
    output = Path(os.path.abspath(output))
    seeds = seeds_of(study, num_seeds)
    with full_disk_told(output), _locked(output):
        videos = None if data is None else open_videos(data)
        check_folder(output, study, videos, experiments)
        if videos is None:
            videos = make_videos(study, output / "videos")
        else:
            warn_of_both_sides(videos)
        runs = plan_runs(study, videos, seeds, output, params)
        check_runs(runs, videos)
        check_starts(runs, videos)
        costs = {name: _cost(experiments[name], videos) for name in study.variants}
        expected = _expected_minutes(study, experiments)
        words = _in_words(videos, data, params)

        def report():
            results = [result for run in runs if (result := run.result()) is not None]
            return reports.make_report(
                study, results, costs, videos=words, guessing=videos.guessing, num_seeds=len(seeds)
            )

        for number, run in enumerate(runs, start=1):
            if run.result() is None:
                _say_next(run, number, runs, expected)
                execute(run)
                _say_result(run)
                write_report(report(), output)
        found = report()
        write_report(found, output)
    return found


def write_report(report: Mapping, output: Path):
    """Writes results.json, results.md and results.png."""
    from mvit_tf.studies.picture import plot_study

    try:
        write_text_atomically(output / "results.json", reports.to_json(report))
        write_text_atomically(output / "results.md", reports.to_markdown(report))
        if any("accuracy" in row for row in report["variants"]):
            plot_study(report, output / "results.png")
    except OSError as error:
        if is_disk_full(error):
            raise
        reason = error.strerror or error
        raise UserError(f"{output}/results.* cannot be written: {reason}") from error


@contextlib.contextmanager
def _locked(output: Path):
    """Makes the folder and keeps every other study out of it meanwhile."""
    if output.exists() and not output.is_dir():
        raise UserError(f"--output={output} is a file")
    with contextlib.ExitStack() as stack:
        try:
            output.mkdir(parents=True, exist_ok=True)
            stack.enter_context(held_file(output / _LOCK))
        except BlockingIOError as error:
            raise UserError(
                f"another study is running in {output}; wait for it, or choose another --output"
            ) from error
        except OSError as error:
            raise UserError(f"--output={output} cannot be written: {error.strerror}") from error
        yield


def _cost(experiment: Experiment, videos: StudyVideos) -> dict[str, float]:
    cost = complexity(experiment.model_config(videos.num_classes))
    return {"gmacs": cost.macs / 1e9, "mparams": cost.params / 1e6}


def _in_words(videos: StudyVideos, data, params: str) -> str:
    what = "moving shapes" if data is None else videos.source.name
    keys = f"; with {params}" if params else ""
    return f"{what}, {videos.num_classes} classes, {len(videos.train):,} videos to train on{keys}"


def _expected_minutes(study: Study, experiments: Mapping[str, Experiment]) -> dict[str, float]:
    """Of a run by what is trained, before any was: with epochs that the study's minutes are not
    of, as many times as long."""
    planned = study.experiments("")
    return {
        name: study.minutes_of(name) * experiment.train.epochs / planned[name].train.epochs
        for name, experiment in experiments.items()
    }


def _minutes_left(runs: Sequence[Run], expected: Mapping[str, float]) -> float:
    """As expected of the runs that are left, times how much longer the finished ones took."""
    results = [(expected[run.variant], run.result()) for run in runs]
    left = sum(minutes for minutes, result in results if result is None)
    done = sum(minutes for minutes, result in results if result is not None)
    took = sum(result["seconds"] / 60 for _, result in results if result is not None)
    return left * (took / done if took else 1)


def _say_next(run: Run, number: int, runs: Sequence[Run], expected: Mapping[str, float]):
    goes_on = " goes on" if run.model_dir.is_dir() else ""
    logging.info(
        f"run         {number} of {len(runs)}: {run.name}{goes_on}; about "
        f"{max(round(_minutes_left(runs, expected)), 1)} min left in all"
    )


def _say_result(run: Run):
    result = run.result()
    scores = [
        f"{name.replace('_', ' ')} {result[name]:.1%}"
        for name in ("accuracy", "shuffled")
        if name in result
    ]
    logging.info(
        f"finished    {run.name}: {', '.join(scores) or 'no labels, no score'}, "
        f"{result['seconds']} s"
    )
