"""Times models or the loading of videos beside other implementations, from a checkout.

Each implementation runs in a process of its own with the same weights, input and number of
threads; all are warmed up, then take single iterations in turn. Those in PyTorch take part where
they are installed: pip install '.[compare]'. Before anything is timed, all have to agree on the
numbers. Ratios are to the first one named, round by round.

  python -m benchmarks model --implementations ours,torchvision,torchvision-compile
  python -m benchmarks model --implementations ours,ours@../before --mode train --batch 2
  python -m benchmarks model --frames 8,16,32 --batch 1 --implementations ours,ours-remat
  python -m benchmarks input --implementations ours,pytorchvideo,torchcodec [FILE_OR_FOLDER...]
  python -m benchmarks decoders | memory | growth | augmentation
  python -m benchmarks serve [MODEL] --requests 10000 --clients 16
  KERAS_BACKEND=jax python -m benchmarks model --device gpu --implementations ours-jax,torchvision
"""

import argparse
import contextlib
import itertools
import json
import os
import tempfile
from pathlib import Path

from benchmarks import cases, decoding, inputs, models, report, serve_load
from benchmarks.implementations import NAMES, find_implementation
from mvit_tf.cli.arguments import list_of, one_of, positive_int
from mvit_tf.cli.startup import quiet_tensorflow, run_cli, run_program

_PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def build_parser():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--rounds", metavar="N", type=positive_int, default=9, help="timed iterations (9)"
    )
    common.add_argument("--threads", metavar="N", type=positive_int, default=_PROCESSORS,
                        help="processors each may use (all)")  # fmt: skip
    common.add_argument("--output", metavar="FILE", type=Path, help="write all results as JSON")
    common.add_argument("--tiny", action="store_true", help="a tiny model, to see it work")
    parts = parser.add_subparsers(metavar="PART", required=True)

    model = parts.add_parser("model", parents=[common], help="models, every combination")
    model.add_argument("--model", type=list_of(str), default=["mvit_b_16x4"], help="(mvit_b_16x4)")
    model.add_argument("--mode", type=list_of(one_of(*cases.MODES)), default=["forward"],
                       help="of forward, train (forward)")  # fmt: skip
    model.add_argument(
        "--batch", type=list_of(positive_int), default=[1], help="clips in an iteration (1)"
    )
    model.add_argument("--dtype", type=list_of(one_of(*cases.DTYPES)), default=["float32"],
                       help="of float32, bfloat16 (float32)")  # fmt: skip
    model.add_argument(
        "--frames", type=list_of(positive_int), default=[None], help="(the model's own)"
    )
    model.add_argument(
        "--size", type=list_of(positive_int), default=[None], help="(the model's own)"
    )
    model.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    model.add_argument(
        "--implementations",
        type=list_of(str),
        default=["ours"],
        help=f"of {', '.join(NAMES)}; ours@FOLDER is another checkout's (ours)",
    )
    model.set_defaults(run=run_models)

    loading = parts.add_parser("input", parents=[common], help="from video files to clips")
    loading.add_argument("sources", metavar="SOURCE", nargs="*",
                         help="files and folders; without any, videos are made")  # fmt: skip
    loading.add_argument("--model", default="mvit_b_16x4", help="that waits for the clips")
    loading.add_argument(
        "--batch", type=positive_int, default=2, help="clips in its training step (2)"
    )
    loading.add_argument("--implementations", type=list_of(str), default=["ours"],
                         help=f"of {', '.join(inputs.LOADER_NAMES)}, ours@FOLDER")  # fmt: skip
    loading.add_argument(
        "--no_training", action="store_true", help="leave out the training that waits for clips"
    )
    loading.set_defaults(run=run_inputs)

    parts.add_parser(
        "decoders", parents=[common], help="threads and processes, FFmpeg threads one and more"
    ).set_defaults(run=run_decoders)
    parts.add_parser(
        "memory", parents=[common], help="peak memory of loading: 4K, 1080p, 240p"
    ).set_defaults(run=run_memory)
    growth = parts.add_parser("growth", parents=[common], help="memory over many decodes")
    growth.add_argument("--decodes", type=positive_int, default=10_000, help="how many (10000)")
    growth.set_defaults(run=run_growth)
    parts.add_parser(
        "augmentation", parents=[common], help="what RandAugment to erasing cost a clip"
    ).set_defaults(run=run_augmentation)
    load = parts.add_parser(
        "serve", parents=[common], help="load on `mvit serve`, with bad requests in it"
    )
    load.add_argument("served", metavar="MODEL", nargs="?", help="(a tiny one, made here)")
    load.add_argument("--requests", type=positive_int, default=10_000, help="(10000)")
    load.add_argument("--clients", type=positive_int, default=16, help="at once (16)")
    load.add_argument("--bad_share", type=float, default=0.05, help="of ten kinds (0.05)")
    load.add_argument("--video", metavar="FILE", type=Path, help="that is sent (one made here)")
    load.add_argument("--max_upload", type=positive_int, default=1_000_000, help="(1000000)")
    load.add_argument("--max_queue", type=positive_int, default=64, help="(64)")
    load.set_defaults(run=serve_load.run)
    return parser


def run_models(arguments):
    implementations = [find_implementation(name) for name in arguments.implementations]
    axes = ("model", "mode", "batch", "dtype", "frames", "size")
    wanted = [
        cases.Case(*values[:4], arguments.device, *values[4:], tiny=arguments.tiny)
        for values in itertools.product(*(getattr(arguments, axis) for axis in axes))
    ]
    for case in wanted:
        case.config()  # mistakes show before anything is started
    results = []
    with tempfile.TemporaryDirectory(prefix="mvit-benchmark-") as folder:
        for case in wanted:
            options = {"rounds": arguments.rounds, "threads": arguments.threads}
            results.append(models.run_case(case, implementations, folder=Path(folder), **options))
            print(f"\n{report.format_case(results[-1])}", flush=True)
    return results


def run_inputs(arguments):
    loaders = [inputs.find_loader(name) for name in arguments.implementations]
    case = cases.Case(arguments.model, "train", arguments.batch, tiny=arguments.tiny)
    results = []
    with tempfile.TemporaryDirectory(prefix="mvit-benchmark-") as folder:
        for name, files in inputs.video_sets(arguments.sources, Path(folder), tiny=arguments.tiny):
            options = {
                "rounds": arguments.rounds,
                "threads": arguments.threads,
                "training": not arguments.no_training,
            }
            results.append(inputs.run_video_set(name, files, case, loaders, **options))
            print(f"\n{inputs.format_result(results[-1])}", flush=True)
    return results


def run_decoders(arguments):
    with _folder() as folder:
        result = decoding.run_decoders(folder, rounds=arguments.rounds, tiny=arguments.tiny)
    print(f"\n{decoding.format_decoders(result)}", flush=True)
    return result


def run_memory(arguments):
    with _folder() as folder:
        result = decoding.run_memory(folder, threads=arguments.threads, tiny=arguments.tiny)
    print(f"\n{decoding.format_memory(result)}", flush=True)
    return result


def run_growth(arguments):
    with _folder() as folder:
        result = decoding.run_growth(folder, decodes=arguments.decodes)
    print(f"\n{decoding.format_growth(result)}", flush=True)
    return result


def run_augmentation(arguments):
    result = decoding.run_augmentation(
        rounds=arguments.rounds,
        threads=arguments.threads,
        input_size=(4, 32, 32) if arguments.tiny else (16, 224, 224),
        tiny=arguments.tiny,
    )
    print(f"\n{decoding.format_augmentation(result)}", flush=True)
    return result


@contextlib.contextmanager
def _folder():
    with tempfile.TemporaryDirectory(prefix="mvit-benchmark-") as folder:
        yield Path(folder)


def main(argv=None):
    quiet_tensorflow()
    arguments = build_parser().parse_args(argv)
    return run_cli(lambda: run(arguments))


def run(arguments):
    facts = report.machine(arguments.threads)
    print(report.format_machine(facts), flush=True)
    results = arguments.run(arguments)
    if arguments.output:
        text = json.dumps({"machine": facts, "results": results}, indent=2)
        arguments.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_program(main)
