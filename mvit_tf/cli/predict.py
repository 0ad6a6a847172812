"""Prints the most probable classes of each video, from an exported SavedModel alone.

A video that cannot be decoded is named with the reason, the others are predicted all the same,
and the exit status is then 2.
"""

import argparse
import json
import sys

from mvit_tf.cli.arguments import positive_int
from mvit_tf.errors import UserError

NAME = "predict"
SUMMARY = "the most probable classes of videos, from an exported model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "export",
        metavar="EXPORT",
        help="an export directory (MODEL_DIR/export: its highest version) or one version of it",
    )
    parser.add_argument("videos", metavar="VIDEO", nargs="+", help="a video file")
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
    from mvit_tf.data.decoding import DecodeError
    from mvit_tf.export.predictor import SavedModelPredictor

    predictor = SavedModelPredictor(arguments.export)
    class_names = predictor.metadata.class_names
    failed = 0
    for video in arguments.videos:
        try:
            probabilities = predictor.predict_video(video)
        except DecodeError as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr)
            if arguments.json:
                print(json.dumps({"video": video, "error": error.outcome, "detail": error.detail}))
            continue
        ranked = sorted(
            zip(class_names, map(float, probabilities), strict=True),
            key=lambda pair: pair[1],
            reverse=True,
        )
        if arguments.json:
            print(json.dumps({"video": video, "probabilities": dict(ranked)}))
        else:
            print(format_prediction(video, ranked[: arguments.top]))
    if failed:
        raise UserError(f"{failed} of {len(arguments.videos)} videos could not be decoded")


def format_prediction(video: str, ranked: list[tuple[str, float]]) -> str:
    """A video's name and below it its (class name, probability) pairs, one a line."""
    lines = [f"  {probability:6.1%}  {name}" for name, probability in ranked]
    return "\n".join([video, *lines])
