"""Decoding in threads and processes, its memory, and what augmentation costs."""

import contextlib
import itertools
from pathlib import Path

import numpy as np

from benchmarks import videos
from benchmarks.processes import Worker, WorkerError, take_turns
from mvit_tf.console import format_table

_WORKLOAD = "benchmarks.decoding_workload"
_CLIPS, _TINY_CLIPS = 24, 4
_DECODERS, _FFMPEG_THREADS = (1, 2), (1, 2)
# Name, (height, width), seconds.
_SIZES = (("4K", (2160, 3840), 3.0), ("1080p", (1080, 1920), 5.0), ("240p", (240, 320), 10.0))
_TINY_SIZES = (("240p", (240, 320), 2.0),)
_CLIP_COUNTS, _TINY_CLIP_COUNTS = (1, 5, 10), (2,)
_USES = ("train", "evaluate", "predict", "predict export")
_MEMORY_FILES = 2
_FIRST_MARK = 1000
_AUGMENTED_CLIPS, _TINY_AUGMENTED_CLIPS = 20, 2
_AUGMENTATIONS = {
    "flip": {},
    "RandAugment": {"rand_augment": "rand-m7-n4-mstd0.5-inc1"},
    "RandAugment, erasing": {
        "rand_augment": "rand-m7-n4-mstd0.5-inc1",
        "random_erasing": 0.25,
    },
    "RandAugment, jitter, erasing": {
        "rand_augment": "rand-m7-n4-mstd0.5-inc1",
        "color_jitter": 0.4,
        "random_erasing": 0.25,
    },
    "blur of every clip": {"blur": 1.0},
}


def run_decoders(folder: Path, *, rounds: int, tiny: bool) -> dict:
    """Clips decoded in threads and in worker processes, with FFmpeg's own threads and without.

    Returns:
        JSON data: `rates` (clips a second), `cpu_rates` (clips a second of processor time) of each
        round by the way to decode.
    """
    count, seconds = (1, 2.0) if tiny else (4, 10.0)
    made = videos.write_small_h264(folder, count, seconds=seconds)
    clips = _TINY_CLIPS if tiny else _CLIPS
    files = [made[index % len(made)] for index in range(clips)]
    workers = {}
    with contextlib.ExitStack() as stack:
        for in_processes, decoders, ffmpeg in itertools.product(
            (False, True), _DECODERS, _FFMPEG_THREADS
        ):
            place = "processes" if in_processes else "threads"
            name = f"{decoders} in {place}, FFmpeg threads {ffmpeg}"
            workers[name] = stack.enter_context(Worker(threads=max(_DECODERS)))
            workers[name].prepare(
                f"{_WORKLOAD}:build",
                {
                    "files": files,
                    "decoders": decoders,
                    "in_processes": in_processes,
                    "ffmpeg_threads": ffmpeg,
                },
            )
        answers, failures = take_turns(workers, rounds)
    return {
        "rates": {name: [clips / a["seconds"] for a in own] for name, own in answers.items()},
        "cpu_rates": {
            name: [clips / a["cpu_seconds"] for a in own] for name, own in answers.items()
        },
        "left_out": failures,
    }


def format_decoders(result: dict) -> str:
    """The table of what `run_decoders` returns."""
    first = next(iter(result["rates"].values()))
    rows = [
        (
            name,
            f"{np.median(rates):.1f}",
            f"{np.median(np.divide(rates, first)):.2f}x",
            f"{np.median(result['cpu_rates'][name]):.1f}",
        )
        for name, rates in result["rates"].items()
        if name not in result["left_out"]
    ]
    header = ("decoders", "clips/s", "to the first", "clips/s per core")
    lines = [format_table(header, rows, numbers=header[1:])]
    lines += [f"left out: {name}: {reason}" for name, reason in result["left_out"].items()]
    return "\n".join(lines)


def run_memory(folder: Path, *, threads: int, tiny: bool) -> dict:
    """Peak memory of loading videos of several sizes; each case in a process of its own.

    Returns:
        JSON data: `cases`, of each `size`, `use`, `clips` and the bytes of
        `memory_workload.peak`.
    """
    cases = []
    for name, size, seconds in _TINY_SIZES if tiny else _SIZES:
        files = videos.write_large_h264(folder / name, _MEMORY_FILES, size=size, seconds=seconds)
        for use, clips in itertools.product(_USES, _TINY_CLIP_COUNTS if tiny else _CLIP_COUNTS):
            options = {"use": use, "files": files, "clips": clips, "threads": threads}
            with Worker(threads=threads) as worker:
                used = worker.call("benchmarks.memory_workload:peak", options)
            cases.append({"size": name, "use": use, "clips": clips, **used})
    return {"cases": cases}


def format_memory(result: dict) -> str:
    """The table of what `run_memory` returns."""
    rows = [
        (
            case["size"],
            case["use"],
            f"{case['clips']}",
            f"{case['start'] / 1e9:.2f}",
            f"{case['process'] / 1e9:.2f}",
            f"{case['workers'] / 1e9:.2f}",
            f"{(case['process'] + case['workers'] - case['start']) / 1e9:.2f}",
        )
        for case in result["cases"]
    ]
    header = (
        "video", "use", "clips", "imported, GB", "process, GB", "workers, GB", "of loading, GB"
    )  # fmt: skip
    return format_table(header, rows, numbers=header[2:])


def run_growth(folder: Path, *, decodes: int) -> dict:
    """Resident memory over many decodes, a tenth of them of a damaged file.

    Returns:
        JSON data by the place, "one process" and "a decode worker": what
        `decoding_workload.memory_after_decodes` returns.
    """
    good = videos.write_small_h264(folder, 3, seconds=3.0)
    damaged = folder / "damaged.mp4"
    data = bytearray(Path(good[0]).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    damaged.write_bytes(data)
    first = min(_FIRST_MARK, max(decodes // 2, 1))
    options = {
        "files": [*good * 3, str(damaged)],
        "decodes": decodes,
        "marks": sorted({first, *(decodes * part // 4 for part in (2, 3)), decodes}),
    }
    result = {}
    for place, in_processes in (("one process", False), ("a decode worker", True)):
        with Worker(threads=1) as worker:
            result[place] = worker.call(
                f"{_WORKLOAD}:memory_after_decodes", {**options, "in_processes": in_processes}
            )
    return result


def format_growth(result: dict) -> str:
    """The table of what `run_growth` returns."""
    rows = [
        (place, f"{number}", f"{used / 1e6:.1f}", f"{(used - own['memory'][0][1]) / 1e6:+.1f}")
        for place, own in result.items()
        for number, used in own["memory"]
    ]
    header = ("in", "decodes", "resident, MB", "since the first line of it")
    return format_table(header, rows, numbers=header[1:])


def run_augmentation(*, rounds: int, threads: int, input_size: tuple, tiny: bool) -> dict:
    """What augmentations cost, measured in turn.

    Returns:
        JSON data: `seconds` and `cpu_seconds` of every clip, by the augmentation, and `left_out`.
    """
    clips = _TINY_AUGMENTED_CLIPS if tiny else _AUGMENTED_CLIPS
    workers, left_out = {}, {}
    with contextlib.ExitStack() as stack:
        for name, fields in _AUGMENTATIONS.items():
            worker = stack.enter_context(Worker(threads=threads))
            options = {"input_size": list(input_size), "clips": clips, "augmentation": fields}
            try:
                worker.prepare("benchmarks.augmentation_workload:build", options)
                workers[name] = worker
            except WorkerError as error:
                left_out[name] = str(error)
        answers, failures = take_turns(workers, rounds)
    result = {"left_out": {**left_out, **failures}}
    for key in ("seconds", "cpu_seconds"):
        result[key] = {
            name: list(itertools.chain.from_iterable(a["result"][key] for a in own))
            for name, own in answers.items()
        }
    return result


def format_augmentation(result: dict) -> str:
    """The table of what `run_augmentation` returns."""
    rows = []
    for name, seconds in result["seconds"].items():
        if name in result["left_out"]:
            continue
        wall, cpu = np.array(seconds) * 1000, np.array(result["cpu_seconds"][name]) * 1000
        rows.append(
            (name, *(f"{f(t):.1f}" for t in (wall, cpu) for f in (np.mean, np.median, _p90)))
        )
    header = ("ms a clip", "mean", "median", "p90", "cpu mean", "cpu median", "cpu p90")
    lines = [format_table(header, rows, numbers=header[1:])]
    lines += [f"left out: {name}: {reason}" for name, reason in result["left_out"].items()]
    return "\n".join(lines)


def _p90(values):
    return np.percentile(values, 90)
