"""Scores the best weights of a model directory on its validation videos, several views of each.

  mvit evaluate --model_dir=runs/mine
  mvit evaluate --model_dir=runs/mine --params_override=data.validation=OTHER_VIDEOS
"""

import argparse
import sys

from mvit_tf.cli.train import add_experiment_flags, run_experiment

NAME = "evaluate"
SUMMARY = "score a trained model on its validation videos"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_experiment_flags(parser)


def run(arguments: argparse.Namespace) -> int | None:
    return run_experiment("eval", arguments, ["mvit", *sys.argv[1:]])
