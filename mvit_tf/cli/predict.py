"""Prints the most probable classes of each video.

MODEL is a model directory of training (its best checkpoint), an export directory or one version
of it, or a .keras file. A named model with weights goes without it: --model NAME --weights SET.

Of a multi-label model the classes with a probability of at least --threshold are printed.

A video that cannot be decoded is named with the reason, the others are predicted all the same,
and the exit status is then 2. Decoding happens in a process of its own, so that this holds too for
a video that crashes the decoder or makes it hang.
"""

import argparse
import json
import sys

from mvit_tf.cli.arguments import positive_int, positive_number
from mvit_tf.errors import UserError
from mvit_tf.urls import without_secrets

NAME = "predict"
SUMMARY = "the most probable classes of videos, by a trained, exported or published model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        f"{parser.prog} [--json] [--top N] [--time_limit SECONDS] MODEL VIDEO...\n"
        f"       {parser.prog} [...] --model NAME --weights SET_OR_FILE VIDEO..."
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
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.5,
        metavar="P",
        help="of a multi-label model, print the classes that are at least so probable (default "
        "0.5), --top at most",
    )
    parser.add_argument(
        "--time_limit",
        type=positive_number,
        default=120.0,
        metavar="SECONDS",
        help="without a frame, after which a video counts as one that cannot be decoded (120)",
    )


def run(arguments: argparse.Namespace) -> None:
    if not 0 <= arguments.threshold <= 1:
        raise UserError(f"--threshold={arguments.threshold:g}: must lie between 0 and 1")
    predictor, videos = _predictor_and_videos(arguments)

    from mvit_tf.data.video.decode_workers import DecodeWorkers
    from mvit_tf.data.video.decoding import DecodeError

    failed = 0
    with DecodeWorkers(1, time_limit=arguments.time_limit) as workers:
        for path in videos:
            video = without_secrets(path)
            try:
                (prediction,) = predictor.predict_videos([path], workers=workers)
            except DecodeError as error:
                failed += 1
                print(f"error: {error}", file=sys.stderr)
                if arguments.json:
                    entry = {"video": video, "error": error.outcome, "detail": error.detail}
                    print(json.dumps(entry), flush=True)
                continue
            if arguments.json:
                values = {"video": video, "probabilities": dict(prediction.top())}
                if prediction.multi_label:
                    found = prediction.at_least(arguments.threshold)
                    values["classes"] = [name for name, _ in found]
                line = json.dumps(values)
            elif prediction.multi_label:
                found = prediction.at_least(arguments.threshold)[: arguments.top]
                none = f"no class at {arguments.threshold:.0%} or more; the nearest are"
                nearest = prediction.top(arguments.top)
                line = format_prediction(video if found else f"{video}: {none}", found or nearest)
            else:
                line = format_prediction(video, prediction.top(arguments.top))
            print(line, flush=True)
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
