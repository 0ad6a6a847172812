"""The second part of the benchmark: from video files to batches of clips."""

import contextlib
import dataclasses
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from mvit_tf.benchmark import contest, report, videos
from mvit_tf.benchmark.statistics import summarise
from mvit_tf.errors import UserError

# Clips in an epoch: enough that filling and emptying the pipeline counts little.
_CLIPS, _QUICK_CLIPS = 48, 4
_LOADER_BATCH = 4
_TRAINING_STEPS = 3
_FILES = 6


def video_sets(sources: Sequence[str], folder: Path, *, quick: bool):
    """Yields (name, files) of the videos to load.

    Args:
        sources: files, and folders to search; without any, videos are made.
        folder: where to write those.
        quick: make few and short ones.

    Raises:
        UserError: a source that is not there, or a folder without videos.
    """
    if sources:
        files = [file for source in sources for file in _find(Path(source))]
        yield "given files", files[:_QUICK_CLIPS] if quick else files
        return
    options = {"count": 2, "seconds": 3.0} if quick else {"count": _FILES}
    yield "UCF101-like, 320x240 MPEG-4 in AVI", videos.write_ucf101_like(folder, **options)
    yield "Kinetics-like, 340x256 H.264 in MP4", videos.write_kinetics_like(folder, **options)


def run_video_set(
    name: str,
    files: Sequence[str],
    *,
    config,
    batch: int,
    dtype: str,
    rounds: int,
    threads: int,
    quick: bool = False,
) -> dict:
    """Measures the loading of some videos.

    Args:
        name: of the set.
        files: the videos.
        config: MViTConfig of the clips, and of the model that waits for them.
        batch: clips in a training step.
        dtype: of the training step.
        rounds: timed epochs of each loader.
        threads: processors for each.
        quick: few clips and steps.

    Returns:
        JSON data: `loaders`, `stages` (seconds a clip on one thread) and `training` (seconds
        waiting and in all), and `left_out` with the reasons.
    """
    clips = _QUICK_CLIPS if quick else _CLIPS
    epoch = [str(files[index % len(files)]) for index in range(max(clips, len(files)))]
    clip = {"files": epoch, "input_size": list(config.input_size)}
    left_out = {}
    loaders = _run_loaders(clip, rounds, threads, left_out)
    ours = "mvit_tf.benchmark.input_workload:build"
    stages = _run_alone(
        contest.Worker(ours, {"kind": "stages", **clip}, threads=1), 1, "stages", left_out
    )
    options = {
        "kind": "training",
        "files": epoch,
        "config": dataclasses.asdict(config),
        "dtype": dtype,
        "batch": batch,
        "steps": 1 if quick else _TRAINING_STEPS,
    }
    worker = contest.Worker(ours, options, threads=threads)
    training = _run_alone(worker, rounds, "training", left_out)
    return {
        "name": name,
        "files": len(set(epoch)),
        "clips_an_epoch": len(epoch),
        "threads": threads,
        "loaders": loaders,
        "stages": stages and stages[0],
        "training": training
        and {
            "batch": batch,
            "dtype": dtype,
            "waiting": sum(answer["waiting"] for answer in training),
            "total": sum(answer["total"] for answer in training),
        },
        "left_out": left_out,
    }


def format_result(result: dict) -> str:
    """Tables of what `run_video_set` returns."""
    rows = [
        (
            name,
            f"{loader['summary']['median']:.2f}",
            f"{loader['summary']['lower_quartile']:.2f}-{loader['summary']['upper_quartile']:.2f}",
            f"{loader['over_first']:.2f}x",
            f"{loader['clips']}",
        )
        for name, loader in result["loaders"].items()
    ]
    headings = ("", "clips/s per core", "quartiles", "over first", "clips an epoch")
    lines = [f"{result['name']}: {result['files']} files, {result['threads']} threads"]
    lines += report.format_table(headings, rows)
    if result["stages"]:
        stages = ", ".join(
            f"{stage} {1000 * seconds:.1f}" for stage, seconds in result["stages"].items()
        )
        lines.append(f"ours, ms a clip on one thread: {stages}")
    if result["training"]:
        training = result["training"]
        lines.append(
            f"training step, batch {training['batch']}, {training['dtype']}: "
            f"{training['waiting'] / training['total']:.1%} of the time waiting for data"
        )
    lines += [f"left out: {name}: {reason}" for name, reason in result["left_out"].items()]
    return "\n".join(lines)


def _run_loaders(clip, rounds, threads, left_out):
    """Clips a second and core of each loader, epochs in turn."""
    options = {**clip, "batch": _LOADER_BATCH}
    workers = {
        "ours": contest.Worker(
            "mvit_tf.benchmark.input_workload:build",
            {"kind": "pipeline", **options},
            threads=threads,
        )
    }
    if importlib.util.find_spec("pytorchvideo") and importlib.util.find_spec("torch"):
        workers["pytorchvideo"] = contest.Worker(
            "mvit_tf.benchmark.pytorchvideo_input:build", options, threads=threads
        )
    else:
        left_out["pytorchvideo"] = "not installed"
    with contextlib.ExitStack() as stack:
        ready = {}
        for name, worker in workers.items():
            try:
                stack.enter_context(worker).prepare()
                ready[name] = worker
            except contest.WorkerError as error:
                left_out[name] = str(error)
        answers, failures = contest.take_turns(list(ready.values()), rounds)
    loaders = {}
    for index, name in enumerate(ready):
        if index in failures:
            left_out[name] = str(failures[index])
            continue
        rates = [answer["result"] / answer["seconds"] / threads for answer in answers[index]]
        loaders[name] = {
            "clips_per_second_per_core": rates,
            "summary": dataclasses.asdict(summarise(rates)),
            "clips": answers[index][-1]["result"],
        }
    for loader in loaders.values():
        first = next(iter(loaders.values()))["summary"]["median"]
        loader["over_first"] = loader["summary"]["median"] / first
    return loaders


def _run_alone(worker, rounds, what, left_out):
    """The results of one worker's iterations, or None where it fails."""
    try:
        with worker:
            worker.prepare()
            return [worker.ask("step")["result"] for _ in range(rounds)]
    except contest.WorkerError as error:
        left_out[what] = str(error)
        return None


def _find(source):
    from mvit_tf.data.video_list import VIDEO_EXTENSIONS

    if source.is_file():
        return [str(source)]
    if not source.is_dir():
        raise UserError(f"no file or folder {source}")
    files = sorted(
        str(path) for path in source.rglob("*") if path.suffix.lower() in VIDEO_EXTENSIONS
    )
    if not files:
        raise UserError(f"{source} holds no videos ({', '.join(VIDEO_EXTENSIONS)})")
    return files
