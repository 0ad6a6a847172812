"""Measures models, or with --input the loading of videos, beside other implementations.

Each contestant runs in a process of its own with the same weights, input and number of threads;
all are warmed up, then take single iterations in turn. Those in PyTorch take part where they are
installed: pip install '.[compare]'. Before anything is timed, all have to agree on the numbers.

  mvit benchmark --quick                      see it work, on a tiny model
  mvit benchmark                              the full comparison; hours on two cores
  mvit benchmark --growth                     time and memory over frames and batch
  mvit benchmark --input [FILE_OR_FOLDER...]  clips per second from video files
  KERAS_BACKEND=jax mvit benchmark --device gpu --dtype bfloat16
"""

import argparse
import os
from pathlib import Path

from mvit_tf.cli.arguments import positive_int

NAME = "benchmark"
SUMMARY = "time and memory of models and of video loading, beside other implementations"

_MODELS = "mvit_b_16x4,mvitv2_s_16x4"
_PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", metavar="NAMES", type=_words, default=_words(_MODELS),
        help=f"with commas between them (default: {_MODELS}; the first alone for --growth "
        "and --input)",
    )  # fmt: skip
    parser.add_argument(
        "--mode", metavar="MODES", type=_choices("forward", "train"),
        default=["forward", "train"], help="forward, train or both (default: forward,train)",
    )  # fmt: skip
    parser.add_argument(
        "--batch", metavar="SIZES", type=lambda text: [positive_int(t) for t in _words(text)],
        help="clips in an iteration (default: 1,4 forward and 2,4 in training)",
    )  # fmt: skip
    parser.add_argument(
        "--dtype", metavar="TYPES", type=_choices("float32", "bfloat16"),
        default=["float32", "bfloat16"], help="(default: float32,bfloat16)",
    )  # fmt: skip
    parser.add_argument(
        "--contestants", metavar="NAMES", type=_words,
        help="of ours, ours-frozen, ours-remat, ours-xla, ours-saved-model, ours-jax, torchvision, "
        "pytorchvideo, timm, and the last three with -compile; ratios are over the first "
        "(default: all but XLA's)",
    )  # fmt: skip
    parser.add_argument(
        "--rounds", metavar="N", type=positive_int, default=None,
        help="timed iterations of each (default: 9; 2 with --quick)",
    )  # fmt: skip
    parser.add_argument(
        "--threads", metavar="N", type=positive_int, default=_PROCESSORS,
        help="processors each may use (default: all)",
    )  # fmt: skip
    parser.add_argument("--frames", metavar="T", type=positive_int, help="frames in a clip")
    parser.add_argument("--size", metavar="PIXELS", type=positive_int, help="height and width")
    parser.add_argument(
        "--device", choices=("cpu", "gpu"), default="cpu",
        help="gpu: ours on JAX beside the others on CUDA (default: cpu)",
    )  # fmt: skip
    parser.add_argument("--growth", action="store_true", help="over frames and batch")
    parser.add_argument(
        "--input", metavar="SOURCE", nargs="*",
        help="measure loading, of these files or folders; without any, videos are made",
    )  # fmt: skip
    parser.add_argument(
        "--output", metavar="FOLDER", type=Path, default=Path("benchmark"),
        help="for results.json and pictures (default: benchmark)",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="a tiny model and few iterations")


def run(arguments: argparse.Namespace) -> None:
    from mvit_tf.benchmark import run as benchmark

    rounds = arguments.rounds or (2 if arguments.quick else 9)
    settings = benchmark.Settings(
        **{
            name: getattr(arguments, name)
            for name in ("mode", "batch", "dtype", "threads", "frames", "size", "device")
        },
        models=arguments.model,
        contestants=arguments.contestants,
        rounds=rounds,
        output=arguments.output,
        quick=arguments.quick,
    )
    if arguments.input is not None:
        benchmark.run_input(settings, arguments.input)
    elif arguments.growth:
        benchmark.run_growth(settings)
    else:
        benchmark.run_models(settings)


def _words(text: str) -> list[str]:
    words = [word for word in text.split(",") if word]
    if not words:
        raise argparse.ArgumentTypeError(f"must be names with commas between them, got {text!r}")
    return words


def _choices(*legal: str):
    def parse(text):
        words = _words(text)
        wrong = [word for word in words if word not in legal]
        if wrong:
            raise argparse.ArgumentTypeError(f"must be of {', '.join(legal)}, got {text!r}")
        return words

    return parse
