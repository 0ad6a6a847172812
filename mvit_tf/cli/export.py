"""Writes a model as a SavedModel, for TF Serving and `mvit predict`.

mvit export --model_dir=runs/mine                             a model trained here
mvit export --model mvit_b_16x4 --weights kinetics400 --output exports/mvit
"""

import argparse
import sys

from absl import logging

from mvit_tf.cli.train import add_experiment_flags, run_experiment
from mvit_tf.errors import UserError

NAME = "export"
SUMMARY = "a trained or published model as a SavedModel"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_experiment_flags(parser, required=False)
    parser.add_argument("--model", metavar="NAME", help="export this model, not a --model_dir")
    parser.add_argument(
        "--weights",
        metavar="SET_OR_FILE",
        help="for --model: a published set (`mvit weights` lists them) or a file",
    )
    parser.add_argument("--output", metavar="FOLDER", help="for --model: the export directory")
    serving = parser.add_argument_group("serving")
    serving.add_argument(
        "--views_in_graph",
        action="store_true",
        help="also take whole videos: the graph makes the clips and crops of evaluation itself",
    )
    serving.add_argument(
        "--model_name",
        metavar="NAME",
        help="under which TensorFlow Serving is to serve it (default: the folder's name)",
    )


def run(arguments: argparse.Namespace) -> int | None:
    if arguments.model is None:
        _refuse(arguments, ("weights", "output"), "goes with --model")
        if arguments.model_dir is None:
            raise UserError("give --model_dir, or --model with --weights and --output")
        options = _serving_options(arguments)
        return run_experiment("export", arguments, ["mvit", *sys.argv[1:]], **options)
    _refuse(arguments, ("model_dir", "config_file", "params_override"), "does not go with --model")
    for name in ("weights", "output"):
        if getattr(arguments, name) is None:
            raise UserError(f"--{name} is missing: --model takes it")

    from mvit_tf.export.saved_model import export_model
    from mvit_tf.factory import create_model

    model = create_model(arguments.model, weights=arguments.weights)
    version = export_model(model, arguments.output, **_serving_options(arguments))
    logging.info(f"exported    {arguments.model} to {version}")
    return None


def _serving_options(arguments: argparse.Namespace) -> dict:
    """What was asked for of `export_model`."""
    asked = {name: getattr(arguments, name) for name in ("views_in_graph", "model_name")}
    return {name: value for name, value in asked.items() if value}


def _refuse(arguments: argparse.Namespace, names: tuple[str, ...], why: str) -> None:
    for name in names:
        if getattr(arguments, name):
            raise UserError(f"--{name} {why}")
