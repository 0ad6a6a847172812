"""Draws where in videos a model found the evidence for a class.

MODEL is a model directory of training (its best checkpoint), a .keras file or a preset (also
hf://user/name). A named model with weights goes without it: --model NAME --weights SET. An export
cannot be explained: it no longer has the layers.

Of each video the clip in its middle is explained, or the one from --start on. FOLDER gets a
picture of its frames, each with its heat below it (NAME_heat.png), and a video with both side by
side (NAME_heat.mp4).

A video that cannot be decoded is named with the reason, the others are explained all the same,
and the exit status is then 2.
"""

import argparse
import sys
from pathlib import Path

from mvit_tf.cli.predictors import add_model_flags, add_time_limit, open_model
from mvit_tf.errors import UserError, did_you_mean
from mvit_tf.urls import without_secrets

NAME = "explain"
SUMMARY = "heat maps of where in videos a model found the evidence for a class"

METHODS = ("relevance", "rollout", "grad_cam")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_flags(parser)
    parser.usage = (
        f"{parser.prog} [--method METHOD] [--class NAME] [--output FOLDER] MODEL VIDEO...\n"
        f"       {parser.prog} [...] --model NAME --weights SET_OR_FILE VIDEO..."
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        default=METHODS[0],
        help="relevance (the default) and grad_cam are of one class; rollout is where the model "
        "looks, whatever the class",
    )
    parser.add_argument(
        "--class",
        dest="class_name",
        metavar="NAME",
        help="the class to explain (default: the most probable one)",
    )
    parser.add_argument(
        "--start",
        type=float,
        metavar="SECONDS",
        help="where in the video the clip begins (default: the clip in the middle)",
    )
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        default="explained",
        help="where the pictures and videos are written (default: explained)",
    )
    add_time_limit(parser)


def run(arguments: argparse.Namespace) -> None:
    model, videos = _model_and_videos(arguments)

    from mvit_tf.data.video.decode_workers import DecodeWorkers
    from mvit_tf.data.video.decoding import DecodeError
    from mvit_tf.explain.explanation import explain_preprocessed
    from mvit_tf.explain.overlays import write_heat_grid, write_heat_video
    from mvit_tf.explain.video_clip import read_clip
    from mvit_tf.export.metadata import model_metadata

    metadata = model_metadata(model)
    class_index = _class_index(arguments.class_name, metadata.class_names)
    folder = _made_folder(arguments.output)
    names = _file_names(videos)
    failed = 0
    with DecodeWorkers(1, time_limit=arguments.time_limit) as workers:
        for path, name in zip(videos, names, strict=True):
            try:
                clip, fps = read_clip(path, metadata, start=arguments.start, workers=workers)
            except DecodeError as error:
                failed += 1
                print(f"error: {error}", file=sys.stderr)
                continue
            explanation = explain_preprocessed(
                model, clip, method=arguments.method, class_index=class_index
            )
            picture, film = folder / f"{name}.png", folder / f"{name}.mp4"
            try:
                write_heat_grid(explanation, picture)
                if len(explanation.frames) > 1:
                    write_heat_video(explanation, film, fps)
            except OSError as error:
                raise UserError(f"--output={folder} cannot be written: {error.strerror}") from error
            print(without_secrets(path))
            print(
                f"  {explanation.probability:6.1%}  {explanation.class_name}  {picture}", flush=True
            )
    if failed:
        raise UserError(f"{failed} of {len(videos)} videos could not be decoded")


def _model_and_videos(arguments):
    from mvit_tf.export.predictor import ModelPredictor

    predictor, videos = open_model(arguments)
    if not isinstance(predictor, ModelPredictor):
        raise UserError(
            f"{arguments.paths[0]} is an export, which no longer has the layers whose attention is "
            "drawn: give the model directory or the .keras file that it was exported from"
        )
    return predictor.model, videos


def _class_index(name, class_names):
    if name is None:
        return None
    if name not in class_names:
        raise UserError(f"--class={name}: no class of the model; {did_you_mean(name, class_names)}")
    return class_names.index(name)


def _made_folder(path):
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output={path} cannot be written: {error.strerror}") from error
    return folder


def _file_names(videos):
    """A name for the pictures of each video: its own, with a number where several share it."""
    names, taken = [], set()
    for path in videos:
        # In the folder of the videos themselves it must not be theirs.
        stem = f"{Path(without_secrets(path)).stem}_heat"
        name, number = stem, 2
        while name in taken:
            name, number = f"{stem}_{number}", number + 1
        taken.add(name)
        names.append(name)
    return names
