"""Writes a model as a SavedModel, for TF Serving and `mvit predict`, or for another runtime.

  mvit export --model_dir=runs/mine                             a model trained here
  mvit export --model mvit_b_16x4 --weights kinetics400 --output exports/mvit
  mvit export --model mine.keras --output exports/mine          also a preset, or hf://user/name
  mvit export --model_dir=runs/mine --format litert --dtype int8
  mvit export --model_dir=runs/mine --compare VIDEO_OR_FOLDER   every format beside Keras

A format that cannot hold the model, or whose answer differs from Keras', is refused with the
reason and leaves nothing behind.
"""

import argparse
import json
import sys
from pathlib import Path

from absl import logging

from mvit_tf.cli.arguments import positive_int
from mvit_tf.cli.startup import interrupted_by
from mvit_tf.cli.train import add_experiment_flags, run_experiment
from mvit_tf.errors import UserError
from mvit_tf.export.formats.names import DTYPES, FORMATS, SAVED_MODEL, check_dtype
from mvit_tf.folders import check_folder
from mvit_tf.interruption import STOP_SIGNALS, Interrupted
from mvit_tf.remote_path import as_path, reached
from mvit_tf.urls import is_url

NAME = "export"
SUMMARY = "a trained or published model as a SavedModel, for LiteRT, ONNX or OpenVINO"

_ALL_DTYPES = tuple(dict.fromkeys(dtype for dtypes in DTYPES.values() for dtype in dtypes))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_experiment_flags(parser, required=False)
    parser.add_argument(
        "--model",
        metavar="NAME_OR_FILE",
        help="export this model, not a --model_dir: a name, with --weights, a .keras file, or a "
        "preset (also hf://user/name)",
    )
    parser.add_argument(
        "--weights",
        metavar="SET_OR_FILE",
        help="for --model: a published set (`mvit weights` lists them) or a file",
    )
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        help="where the export goes; needed with --model, but for --compare, which then keeps "
        "nothing (default of a --model_dir: export/ in it, or export-FORMAT-DTYPE)",
    )
    # === Formats ===
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default=SAVED_MODEL,
        help="what to write; all but the SavedModel need the extra of their name (default: "
        f"{SAVED_MODEL})",
    )
    parser.add_argument(
        "--dtype",
        choices=_ALL_DTYPES,
        help="of weights or computing, as far as the format has it (default: of a SavedModel as "
        "the model computes, else float32)",
    )
    parser.add_argument(
        "--batch_size",
        type=positive_int,
        metavar="N",
        help="clips of a call of litert, onnx and openvino, where it is fixed (default 1)",
    )
    parser.add_argument(
        "--compare",
        nargs="+",
        metavar="VIDEO_OR_FOLDER",
        help="make every format that is installed, run clips of these videos through each, and "
        "print size, differences to Keras and time",
    )
    parser.add_argument("--json", action="store_true", help="for --compare: print JSON")
    # === Serving ===
    parser.add_argument(
        "--views_in_graph",
        action="store_true",
        help="also take whole videos: the graph makes the clips and crops of evaluation itself",
    )
    parser.add_argument(
        "--model_name",
        metavar="NAME",
        help="under which TensorFlow Serving is to serve it (default: the folder's name)",
    )


def run(arguments: argparse.Namespace) -> int | None:
    _check(arguments)
    if arguments.output is not None:
        check_folder(as_path(arguments.output))
    if _as_saved_model(arguments) and arguments.model is None and arguments.output is None:
        command = ["mvit", *sys.argv[1:]]
        return run_experiment("export", arguments, command, **_serving_options(arguments))

    try:
        with interrupted_by(*STOP_SIGNALS):
            _export(arguments)
    except Interrupted as error:
        print("\ninterrupted; the same command starts again", file=sys.stderr)
        return error.exit_status
    return None


def _export(arguments):
    """What does not go by the modes of training."""
    model, options = _model_and_options(arguments)
    if arguments.compare is not None:
        _compare(arguments, model, options)
        return
    output = arguments.output
    if _as_saved_model(arguments):
        from mvit_tf.export.saved_model import export_model

        with reached(as_path(output)):
            target = export_model(model, output, **options, **_serving_options(arguments))
    else:
        from mvit_tf.export.formats.export import default_output, export_format

        dtype = arguments.dtype or "float32"
        if output is None:
            output = default_output(arguments.model_dir, arguments.format, dtype)
        with reached(as_path(output)):
            target = export_format(
                model,
                output,
                arguments.format,
                dtype=dtype,
                batch_size=arguments.batch_size or 1,
                **options,
                **_serving_options(arguments),
            )
    logging.info(f"exported    {arguments.model or arguments.model_dir} to {target}")


def _check(arguments):
    if arguments.model is None:
        _refuse(arguments, ("weights",), "goes with --model")
        if arguments.model_dir is None:
            raise UserError("give --model_dir, or --model with --weights and --output")
    else:
        names = ("model_dir", "config_file", "params_override")
        _refuse(arguments, names, "does not go with --model")
        if arguments.compare is None and arguments.output is None:
            raise UserError("--output is missing: --model takes it")
    if arguments.compare is None:
        _refuse(arguments, ("json",), "goes with --compare")
    else:
        _refuse(arguments, ("dtype", "batch_size"), "does not go with --compare")
        if arguments.format != SAVED_MODEL:
            raise UserError("--format does not go with --compare, which makes all of them")
    if arguments.format == SAVED_MODEL:
        _refuse(arguments, ("batch_size",), "goes with --format litert, onnx or openvino")
    if arguments.compare is not None or arguments.format != SAVED_MODEL:
        _refuse(arguments, ("model_name",), "goes with a SavedModel")
    if not _as_saved_model(arguments):
        why = "goes with a SavedModel in the model's own dtype"
        _refuse(arguments, ("views_in_graph",), why)
    if arguments.dtype is not None:
        check_dtype(arguments.format, arguments.dtype)


def _as_saved_model(arguments) -> bool:
    """Whether the model is to be written as it is, which needs nothing of the formats."""
    return arguments.compare is None and arguments.format == SAVED_MODEL and arguments.dtype is None


def _model_and_options(arguments):
    """The model, and what its experiment says of the clips of a video."""
    if arguments.model is not None:
        return _named_model(arguments.model, arguments.weights), {}

    with reached(as_path(arguments.model_dir)):
        return _trained_model(arguments)


def _named_model(model, weights):
    from mvit_tf.factory import create_model
    from mvit_tf.models import list_models

    if weights is not None:
        return create_model(model, weights=weights)
    if model in list_models():
        raise UserError(f"--weights is missing: --model={model} takes it")
    from mvit_tf.export.predictor import load_keras_model

    return load_keras_model(model)


def _trained_model(arguments):
    from mvit_tf.cli.configs import find_config
    from mvit_tf.training.experiments.experiment import load_experiment
    from mvit_tf.training.storage.model_directory import ModelDirectory
    from mvit_tf.training.storage.trained_model import load_trained_model

    directory = ModelDirectory(arguments.model_dir)
    config_file = arguments.config_file and find_config(arguments.config_file)
    experiment = load_experiment(
        config_file or directory.saved_experiment(), arguments.params_override
    )
    directory.check_same_model(experiment)
    model, _ = load_trained_model(experiment, directory)
    options = {
        "num_clips": experiment.data.evaluation_clips,
        "ensemble_method": experiment.data.ensemble_method,
    }
    if arguments.views_in_graph:
        options["num_crops"] = experiment.data.evaluation_crops
    return model, options


def _compare(arguments, model, options):
    from mvit_tf.export.formats.compare import compare_formats, format_table

    rows = compare_formats(
        model,
        list(_videos(arguments.compare, images=len(model.input_shape) == 4)),
        output=arguments.output,
        report=lambda line: print(line, file=sys.stderr, flush=True),
        **options,
    )
    if arguments.json:
        print(json.dumps([row.to_dict() for row in rows], indent=2))
    else:
        print(format_table(rows))


def _videos(paths, *, images):
    """The files, and the videos below the folders, or the images for a model of images."""
    from mvit_tf.data.lists.entries import is_image, is_video

    wanted, kind = (is_image, "image") if images else (is_video, "video")
    for path in paths:
        path = path if is_url(path) else Path(path)
        if is_url(path) or not path.is_dir():
            yield path
            continue
        found = sorted(file for file in path.rglob("*") if wanted(file.name))
        if not found:
            raise UserError(f"no {kind} below {path}; give files, or a folder that has some")
        yield from found


def _serving_options(arguments: argparse.Namespace) -> dict:
    """What was asked for of `export_model`."""
    asked = {name: getattr(arguments, name) for name in ("views_in_graph", "model_name")}
    return {name: value for name, value in asked.items() if value}


def _refuse(arguments: argparse.Namespace, names: tuple[str, ...], why: str) -> None:
    for name in names:
        if getattr(arguments, name):
            raise UserError(f"--{name} {why}")
