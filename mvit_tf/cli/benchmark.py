"""Tells how fast a model predicts and trains on this machine, in how much memory, and which
batch is likely to fit.

Every line is measured in a process of its own, with random weights and frames.

  mvit benchmark mvit_b_16x4 --mode train --batch 1,2,4 --frames 8,16 --dtype float32,bfloat16
"""

import argparse

from mvit_tf.analysis.speed import (
    MODES,
    POLICIES,
    Measurement,
    Setting,
    largest_batch,
    measure_batches,
)
from mvit_tf.cli.arguments import list_of, one_of, positive_int
from mvit_tf.console import format_table, progress

NAME = "benchmark"
SUMMARY = "speed and memory of a model on this machine, and which batch fits"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="its name, for example mvit_b_16x4")
    parser.add_argument(
        "--mode", metavar="MODES", type=list_of(one_of(*MODES)), default=list(MODES),
        help="forward, train or both (default: forward,train)",
    )  # fmt: skip
    parser.add_argument(
        "--batch", metavar="SIZES", type=list_of(positive_int), default=[1, 2, 4],
        help="clips in a step (default: 1,2,4)",
    )  # fmt: skip
    parser.add_argument(
        "--frames", metavar="COUNTS", type=list_of(positive_int), default=[None],
        help="frames in a clip (default: the model's own)",
    )  # fmt: skip
    parser.add_argument(
        "--dtype", metavar="TYPES", type=list_of(one_of(*POLICIES)), default=["float32"],
        help="of float32, bfloat16 (default: float32)",
    )  # fmt: skip
    parser.add_argument("--remat", action="store_true", help="rematerialisation in training")
    parser.add_argument(
        "--steps", metavar="N", type=positive_int, default=5, help="timed steps (default: 5)"
    )


def run(arguments: argparse.Namespace) -> None:
    series = [
        Setting(model=arguments.model, mode=mode, dtype=dtype, frames=frames,
                remat=arguments.remat and mode == "train")
        for mode in arguments.mode
        for frames in arguments.frames
        for dtype in arguments.dtype
    ]  # fmt: skip
    for setting in series:
        setting.config()  # mistakes show before anything is measured
    results = {setting: {} for setting in series}
    total = len(series) * len(arguments.batch)
    try:
        with progress("measuring") as show:
            show(0, total)
            for setting, own in results.items():
                for batch, it in measure_batches(setting, arguments.batch, arguments.steps):
                    own[batch] = it
                    show(sum(map(len, results.values())), total)
    finally:
        # After Ctrl-C too: minutes went into what is there.
        if any(results.values()):
            print(format_results(results))


def format_results(results: dict[Setting, dict[int, Measurement]]) -> str:
    """A table of the measurements, and one of the batches that are likely to fit.

    Args:
        results: for each setting, batch -> measurement.
    """
    rows, fits, memory = [], [], 0
    for setting, measurements in results.items():
        shape = "x".join(map(str, setting.config().input_shape[:-1]))
        series = (setting.mode, shape, setting.dtype)
        for batch, own in measurements.items():
            if own.failure is None:
                numbers = (f"{own.step_seconds:.3f}", f"{batch / own.step_seconds:.2f}",
                           f"{own.peak_bytes / 1e9:.2f}", f"{own.first_seconds:.1f}")  # fmt: skip
            else:
                numbers = ("-", "-", own.failure, "-")
            rows.append((*series, str(batch), *numbers))
        peaks = {batch: own.peak_bytes for batch, own in measurements.items() if not own.failure}
        available = max((own.available_bytes or 0 for own in measurements.values()), default=0)
        largest = largest_batch(peaks, available or None)
        fits.append((*series, "-" if largest is None else str(largest)))
        memory = max(memory, available)
    header = ("mode", "input", "dtype", "batch", "s a step", "clips/s", "peak GB", "first step s")
    tables = [format_table(header, rows, numbers=header[3:])]
    if any(fit[-1] != "-" for fit in fits):
        tables.append(format_table((*header[:3], "largest batch"), fits, numbers=["largest batch"]))
        tables.append(
            "Largest batch: an estimate from how the peak grows with the batch, for the "
            f"{memory / 1e9:.1f} GB that are available now."
        )
    else:
        tables.append("Which batch fits can be estimated from the peaks of two batches or more.")
    return "\n\n".join(tables)
