"""The arguments of commands that a model comes first in: MODEL, or --model NAME --weights SET."""

import argparse
import sys

from mvit_tf.cli.arguments import positive_int, positive_number
from mvit_tf.errors import UserError


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Adds `paths`, the model and what follows it, `--model` and `--weights`."""
    parser.add_argument(
        "paths", metavar="MODEL, PATH", nargs="*", help="a model; videos, folders, lists, URLs"
    )
    parser.add_argument(
        "--model", metavar="NAME", help="a named model (`mvit describe` lists them), with --weights"
    )
    parser.add_argument(
        "--weights",
        metavar="SET_OR_FILE",
        help="a published set (`mvit weights` lists them), downloaded on first use, or its file",
    )


def add_decoding_flags(parser: argparse.ArgumentParser) -> None:
    """Adds `--nested`, `--workers` and `--time_limit`."""
    parser.add_argument(
        "--nested", action="store_true", help="take the videos of folders within folders too"
    )
    parser.add_argument(
        "--workers",
        type=positive_int,
        metavar="N",
        help="processes that decode (default: one a processor, 4 at most)",
    )
    add_time_limit(parser)


def add_time_limit(parser: argparse.ArgumentParser) -> None:
    """Adds `--time_limit`."""
    parser.add_argument(
        "--time_limit",
        type=positive_number,
        default=120.0,
        metavar="SECONDS",
        help="without a frame, after which a video counts as one that cannot be decoded (120)",
    )


def open_model(arguments: argparse.Namespace, *, wanted: bool = True):
    """The predictor, and what comes after the model in `paths`.

    Args:
        arguments: with `paths`, `model` and `weights`.
        wanted: whether something has to come after the model.

    Raises:
        UserError: there is no model, or nothing after it.
    """
    if (arguments.model is None) != (arguments.weights is None):
        raise UserError("--model and --weights go together")
    if arguments.model is not None:
        if wanted and not arguments.paths:
            raise UserError("no video is given")
        from mvit_tf.export.predictor import ModelPredictor
        from mvit_tf.factory import create_model

        model = create_model(arguments.model, weights=arguments.weights)
        return ModelPredictor(model), arguments.paths
    if not arguments.paths:
        raise UserError("no model is given: MODEL, or --model NAME --weights SET")
    model, *sources = arguments.paths
    if wanted and not sources:
        raise UserError(f"no video after {model}; or is that one, and --model NAME is missing?")
    from mvit_tf.export.predictor import open_predictor

    return open_predictor(model), sources


def find_videos(arguments: argparse.Namespace, predictor, sources: list[str]) -> list:
    """The `VideoInput`s that are asked for; what was passed over is said on standard error.

    Args:
        arguments: with `nested`.
        predictor: whose classes the labels of lists are.
        sources: files, folders, lists and URLs.

    Raises:
        UserError: as of `mvit_tf.prediction.inputs.find_inputs`.
    """
    from mvit_tf.prediction.inputs import find_inputs

    metadata = predictor.metadata
    inputs = find_inputs(
        sources,
        class_names=metadata.class_names,
        multi_label=metadata.multi_label,
        image=metadata.image,
        nested=arguments.nested,
    )
    for note in inputs.notes:
        print(f"note: {note}", file=sys.stderr)
    if inputs.passed_over:
        kinds = ", ".join(f"{count} {kind}" for kind, count in inputs.passed_over.most_common())
        print(f"note: no videos, passed over: {kinds}", file=sys.stderr)
    return inputs.videos


def num_workers(wanted: int | None, num_videos: int) -> int:
    """How many decode workers there are for so many videos."""
    from mvit_tf.data.video.decode_workers import available_processors

    return max(min(wanted or min(available_processors(), 4), num_videos), 1)
