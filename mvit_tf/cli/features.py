"""Writes the embeddings of videos, and draws which look alike to the model.

  mvit features MODEL videos/ --nested --output features.npz --neighbours sheet.png

MODEL and the videos are those of `mvit predict`. An embedding is what the model's head reads,
or, with --layer stage_1, stage_2, ..., the mean over the token grid after that stage.

What is done is kept in FILE.partial: the same command goes on after an end of any kind. A video
that cannot be decoded is named and left out, and the exit status is then 2.
"""

import argparse
import sys

from mvit_tf.cli.predictors import (
    add_decoding_flags,
    add_model_flags,
    find_videos,
    num_workers,
    open_model,
)
from mvit_tf.console import progress
from mvit_tf.errors import UserError

NAME = "features"
SUMMARY = "embeddings of videos to .npz or TFRecord, and a contact sheet of nearest neighbours"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_flags(parser)
    parser.usage = f"{parser.prog} MODEL PATH... --output FILE.npz|FILE.tfrecord [options]"
    parser.add_argument(
        "--output", metavar="FILE", required=True, help="a .npz or .tfrecord file to write"
    )
    parser.add_argument(
        "--layer",
        default="pooled",
        metavar="NAME",
        help="pooled (default), or stage_1, stage_2, ...",
    )
    parser.add_argument(
        "--per_clip", action="store_true", help="a row for each clip, not their mean of each video"
    )
    parser.add_argument(
        "--neighbours",
        metavar="PNG",
        help="draw videos, each with those nearest to it by the cosine of their embeddings",
    )
    add_decoding_flags(parser)


def run(arguments: argparse.Namespace) -> None:
    if arguments.neighbours and arguments.per_clip:
        raise UserError("--neighbours compares videos: leave out --per_clip")
    from mvit_tf.data.video.decode_workers import DecodeWorkers
    from mvit_tf.prediction.features import check_file_name, check_local_file, extract_features
    from mvit_tf.prediction.neighbours import plot_neighbours
    from mvit_tf.urls import without_secrets

    check_file_name(arguments.output)
    if arguments.neighbours:
        check_local_file(arguments.neighbours)
    predictor, sources = open_model(arguments)
    videos = find_videos(arguments, predictor, sources)
    failures = []

    def failed(error):
        failures.append(error)
        print(f"error: {error}", file=sys.stderr)

    with progress("videos") as show:
        found = extract_features(
            predictor,
            videos,
            arguments.output,
            layer=arguments.layer,
            per_clip=arguments.per_clip,
            num_workers=num_workers(arguments.workers, len(videos)),
            time_limit=arguments.time_limit,
            on_progress=show,
            on_failure=failed,
        )
    rows, width = found.features.shape
    print(f"{arguments.output}: {rows} embeddings of {width} numbers, {arguments.layer}")
    if arguments.neighbours:
        paths = {without_secrets(video.path): video.path for video in videos}
        with DecodeWorkers(1, time_limit=arguments.time_limit) as workers:
            plot_neighbours(
                found.names,
                found.features,
                arguments.neighbours,
                workers=workers,
                paths=[paths.get(name, name) for name in found.names],
            )
        print(arguments.neighbours)
    if failures:
        raise UserError(f"{len(failures)} of {len(videos)} videos have no embedding")
