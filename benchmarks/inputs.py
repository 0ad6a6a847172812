"""From video files to batches of clips: loaders in turn, ours by stages, and training on it."""

import contextlib
import dataclasses
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import torchcodec_input, videos
from benchmarks.cases import Case
from benchmarks.implementations import find_implementation
from benchmarks.processes import Worker, WorkerError, take_turns
from mvit_tf.console import format_table
from mvit_tf.errors import UserError

# Clips in an epoch: enough that filling and emptying the pipeline counts little.
_CLIPS, _TINY_CLIPS = 48, 4
_LOADER_BATCH = 4
_TRAINING_STEPS, _TINY_TRAINING_STEPS = 3, 1
_FILES, _TINY_FILES, _TINY_SECONDS = 6, 2, 3.0
_OURS = "benchmarks.input_workload:build"
# Name of a loader: who makes it, with which options.
_LOADERS = {
    "ours": (_OURS, {"kind": "pipeline"}),
    "ours-threads": (_OURS, {"kind": "pipeline", "in_processes": False}),
    "ours-randaugment": (
        _OURS,
        {"kind": "pipeline", "rand_augment": "rand-m7-n4-mstd0.5-inc1", "random_erasing": 0.25},
    ),
    "pytorchvideo": ("benchmarks.pytorchvideo_input:build", {}),
    "torchcodec": ("benchmarks.torchcodec_input:build", {"seek_mode": "exact"}),
    "torchcodec-approximate": ("benchmarks.torchcodec_input:build", {"seek_mode": "approximate"}),
}
LOADER_NAMES = tuple(_LOADERS)


@dataclasses.dataclass(frozen=True)
class Loader:
    """One that can be measured.

    Attributes:
        name: as on the command line and in tables.
        factory: "module:function" that makes it, see `benchmarks.worker`.
        options: keyword arguments of that function.
        package: for ours, another checkout to take it from.
    """

    name: str
    factory: str
    options: dict
    package: str | None = None


def find_loader(name: str) -> Loader:
    """The loader of a name; `ours...@FOLDER` is that of another checkout.

    Raises:
        UserError: an unknown name, or a folder without the package.
    """
    base, at, checkout = name.partition("@")
    if base not in _LOADERS or (at and not base.startswith("ours")):
        raise UserError(f"no loader {name!r}; there are {', '.join(LOADER_NAMES)}, ours@FOLDER")
    package = find_implementation(f"ours@{checkout}").package if at else None
    return Loader(name, *_LOADERS[base], package)


def video_sets(sources: list[str], folder: Path, *, tiny: bool):
    """Yields (name, files) of the videos to load.

    Args:
        sources: files, and folders to search; without any, videos are made.
        folder: where to write those.
        tiny: make few and short ones.

    Raises:
        UserError: a source that is not there, or a folder without videos.
    """
    if sources:
        files = [file for source in sources for file in _find(Path(source))]
        yield "given files", files[:_TINY_CLIPS] if tiny else files
        return
    options = {"count": _TINY_FILES, "seconds": _TINY_SECONDS} if tiny else {"count": _FILES}
    yield "UCF101-like, 320x240 MPEG-4 in AVI", videos.write_ucf101_like(folder, **options)
    yield "320x240 H.264 in MP4", videos.write_small_h264(folder, **options)
    yield "Kinetics-like, 340x256 H.264 in MP4", videos.write_kinetics_like(folder, **options)


def run_video_set(
    name: str,
    files: list[str],
    case: Case,
    loaders: list[Loader],
    *,
    rounds: int,
    threads: int,
    training: bool = True,
) -> dict:
    """Measures the loading of some videos.

    Args:
        name: of the set.
        files: the videos.
        case: the clips, and the training step that waits for them.
        loaders: of `find_loader`.
        rounds: timed epochs of each loader.
        threads: processors for each.
        training: measure a training that waits for the clips too.

    Returns:
        JSON data: `rates` (clips a second of processor time, of each epoch), `wall_rates` (clips
        a second of the clock) and `clips` (in an epoch) by name, `stages` (seconds a clip on one
        thread), `training` (seconds waiting and in all) and `left_out` with the reasons.
    """
    clips = max(_TINY_CLIPS if case.tiny else _CLIPS, len(files))
    epoch = [str(files[index % len(files)]) for index in range(clips)]
    input_size = list(case.config().input_size)
    result = {"name": name, "files": len(set(epoch)), "threads": threads, "left_out": {}}
    result |= _run_loaders(
        loaders,
        {"files": epoch, "input_size": input_size, "batch": _LOADER_BATCH},
        rounds,
        threads,
        result["left_out"],
    )
    steps = _TINY_TRAINING_STEPS if case.tiny else _TRAINING_STEPS
    for what, own_rounds, own_threads, options in (
        ("stages", 1, 1, {"files": epoch, "input_size": input_size}),
        ("training", rounds, threads,
         {"files": epoch, "case": dataclasses.asdict(case), "steps": steps}),
    )[: 1 + training]:  # fmt: skip
        try:
            with Worker(threads=own_threads) as worker:
                worker.prepare(_OURS, {"kind": what, **options})
                own = [worker.ask("step")["result"] for _ in range(own_rounds)]
            result[what] = {key: sum(each[key] for each in own) for key in own[0]}
        except WorkerError as error:
            result["left_out"][what] = str(error)
    return result


def format_result(result: dict) -> str:
    """Tables of what `run_video_set` returns."""
    rows = []
    first = next(iter(result["rates"].values()), None)
    for name, rates in result["rates"].items():
        lower, median, upper = np.percentile(rates, [25, 50, 75])
        ratio = np.median(np.divide(rates, first))
        quartiles = f"{lower:.2f}-{upper:.2f}"
        wall, clips = np.median(result["wall_rates"][name]), f"{result['clips'][name]}"
        rows.append((name, f"{median:.2f}", quartiles, f"{ratio:.2f}x", f"{wall:.2f}", clips))
    header = (
        "", "clips/s per core", "quartiles", "to the first", "clips/s in all", "clips an epoch"
    )  # fmt: skip
    lines = [f"{result['name']}: {result['files']} files, {result['threads']} threads"]
    lines.append(format_table(header, rows, numbers=header[1:]))
    if "stages" in result:
        stages = ", ".join(f"{name} {1000 * s:.1f}" for name, s in result["stages"].items())
        lines.append(f"ours, ms a clip on one thread: {stages}")
    if "training" in result:
        share = result["training"]["waiting"] / result["training"]["total"]
        lines.append(f"training step: {share:.1%} of the time waiting for data")
    lines += [f"left out: {name}: {reason}" for name, reason in result["left_out"].items()]
    return "\n".join(lines)


def _run_loaders(loaders, options, rounds, threads, left_out):
    workers = {}
    with contextlib.ExitStack() as stack:
        libraries = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for each in loaders:
            environment = {}
            if each.name.startswith("torchcodec"):
                environment["LD_LIBRARY_PATH"] = torchcodec_input.library_path(libraries)
            worker = Worker(threads=threads, package=each.package, environment=environment)
            try:
                stack.enter_context(worker).prepare(each.factory, {**options, **each.options})
                workers[each.name] = worker
            except WorkerError as error:
                left_out[each.name] = str(error)
        answers, failures = take_turns(workers, rounds)
    left_out.update(failures)
    answers = {name: own for name, own in answers.items() if name not in failures}
    # By processor time: what else the machine does then counts less.
    rates, wall_rates = (
        {name: [each["result"] / each[time] for each in own] for name, own in answers.items()}
        for time in ("cpu_seconds", "seconds")
    )
    clips = {name: own[-1]["result"] for name, own in answers.items()}
    return {"rates": rates, "wall_rates": wall_rates, "clips": clips}


def _find(source):
    from mvit_tf.data.lists.entries import VIDEO_EXTENSIONS

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
