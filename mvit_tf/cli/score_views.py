"""Scores the views that an evaluation kept in other groupings, without running the model again.

  mvit score-views runs/mine                       all views, as the evaluation put them together
  mvit score-views runs/mine --clips 1 --crops 1   the middle clip's centre alone
  mvit score-views runs/mine --ensemble_method max
  mvit score-views runs/mine --by_file             all segments of a file together

To compare many, evaluate once with the most clips, for example
`mvit evaluate --model_dir=runs/mine --params_override=data.evaluation_clips=10`.
"""

import argparse

from mvit_tf.errors import UserError
from mvit_tf.remote_path import as_path

NAME = "score-views"
SUMMARY = "score an evaluation's saved views in other groupings"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "views", metavar="FOLDER", help="a model directory, or an evaluation_views.npz"
    )
    parser.add_argument(
        "--clips", type=_count, metavar="N", help="so many of each video's clips, evenly spread"
    )
    parser.add_argument(
        "--crops", type=int, choices=(1, 3), help="1: the centre of three crops alone"
    )
    parser.add_argument(
        "--ensemble_method",
        choices=("mean", "max"),
        help="what the probabilities of a video's views become (default: as evaluated)",
    )
    parser.add_argument(
        "--by_file", action="store_true", help="score all segments of a file together"
    )
    parser.add_argument(
        "--output", metavar="FILE", help="write the scores, as in evaluation.json, to this file"
    )


def run(arguments: argparse.Namespace) -> None:
    from mvit_tf.training.evaluation.result_line import result_line
    from mvit_tf.training.evaluation.saved_views import SavedViews, views_file

    views = SavedViews.load(views_file(arguments.views))
    grouping = {
        "clips": arguments.clips or views.about["clips"],
        "crops": arguments.crops or views.about["crops"],
        "ensemble_method": arguments.ensemble_method or views.about["ensemble_method"],
        "by_file": arguments.by_file,
    }
    report = views.report(**grouping)
    how = {name: views.about[name] for name in ("model", "data", "epoch")} | grouping
    print(result_line(report, **how))
    if arguments.output is not None:
        output = as_path(arguments.output)
        try:
            report.write(output, **how)
        except OSError as error:
            raise UserError(f"--output={output} cannot be written: {error.strerror}") from error


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number
