"""Prints the most probable classes of each video.

MODEL is a model directory of training (its best checkpoint), an export directory or one version
of it, or a .keras file. A named model with weights goes without it: --model NAME --weights SET.

A video that cannot be decoded is named with the reason, the others are predicted all the same,
and the exit status is then 2.
"""

import argparse
import json
import sys

from mvit_tf.cli.arguments import positive_int
from mvit_tf.errors import UserError
from mvit_tf.urls import without_secrets

NAME = "predict"
SUMMARY = "the most probable classes of videos, by a trained, exported or published model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        f"{parser.prog} [--json] [--top N] MODEL VIDEO...\n"
        f"       {parser.prog} [--json] [--top N] --model NAME --weights SET_OR_FILE VIDEO..."
    )
    parser.add_argument("paths", metavar="MODEL, VIDEO", nargs="+", help="a model, video files")
    parser.add_argument(
        "--model", metavar="NAME", help="a named model (`mvit describe` lists them), with --weights"
    )
    parser.add_argument(
        "--weights",
        metavar="SET_OR_FILE",
        help="a published set (`mvit weights` lists them), downloaded on first use, or its file",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="one JSON object a video and line, with the probabilities of all classes",
    )
    parser.add_argument(
        "--top",
        type=positive_int,
        default=5,
        metavar="N",
        help="how many classes to print (default 5)",
    )


def run(arguments: argparse.Namespace) -> None:
    predictor, videos = _predictor_and_videos(arguments)

    from mvit_tf.data.video.decoding import DecodeError

    failed = 0
    for path in videos:
        video = without_secrets(path)
        try:
            (prediction,) = predictor.predict_videos([path])
        except DecodeError as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr)
            if arguments.json:
                print(json.dumps({"video": video, "error": error.outcome, "detail": error.detail}))
            continue
        if arguments.json:
            print(json.dumps({"video": video, "probabilities": dict(prediction.top())}))
        else:
            print(format_prediction(video, prediction.top(arguments.top)))
    if failed:
        raise UserError(f"{failed} of {len(videos)} videos could not be decoded")


def _predictor_and_videos(arguments: argparse.Namespace):
    if (arguments.model is None) != (arguments.weights is None):
        raise UserError("--model and --weights go together")
    if arguments.model is not None:
        from mvit_tf.export.predictor import ModelPredictor
        from mvit_tf.factory import create_model

        model = create_model(arguments.model, weights=arguments.weights)
        return ModelPredictor(model), arguments.paths
    model, *videos = arguments.paths
    if not videos:
        raise UserError(f"no video after {model}; or is that one, and --model NAME is missing?")
    from mvit_tf.export.predictor import open_predictor

    return open_predictor(model), videos


def format_prediction(video: str, ranked: list[tuple[str, float]]) -> str:
    """A video's name and below it its (class name, probability) pairs, one a line."""
    lines = [f"  {probability:6.1%}  {name}" for name, probability in ranked]
    return "\n".join([video, *lines])
