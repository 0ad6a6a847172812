"""Repeats a comparison of the papers on small data: trains each variant with several seeds.

  mvit study                       the studies, and what each costs
  mvit study frame_order           trains and scores all its runs, and draws the table
  mvit study frame_order --data my_videos --params_override=data.flip=true

Without --data it makes its own videos. Each run has a model directory of its own below --output;
stopped, by Ctrl-C too, the same command goes on: finished runs are kept, and the one that was
stopped goes on at its step. What the tables say is in docs/studies.md.
"""

import argparse
import contextlib
import shlex
import sys
from pathlib import Path

from mvit_tf.cli.arguments import positive_int
from mvit_tf.cli.startup import INTERRUPTED_STATUS, interrupted_by
from mvit_tf.console import format_table
from mvit_tf.interruption import STOP_SIGNALS, Interrupted

NAME = "study"
SUMMARY = "repeat a comparison of the papers on small data, with several seeds"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "study",
        metavar="NAME",
        nargs="?",
        help="a study of the package or a YAML file; without it they are listed",
    )
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        help="where everything is written and gone on from (default: study_runs/NAME)",
    )
    parser.add_argument(
        "--data",
        metavar="SOURCE",
        help="your own videos: a folder with class folders in train/ and test/, or a list with a "
        "column 'split'",
    )
    parser.add_argument(
        "--seeds",
        metavar="N",
        type=positive_int,
        help="runs of each variant (default: the study's own number, 3)",
    )
    parser.add_argument(
        "--params_override",
        metavar="KEYS",
        default="",
        help="over the experiment of every run, as of `mvit train`",
    )


def run(arguments: argparse.Namespace) -> int | None:
    try:
        # Here and not deeper: a signal while TensorFlow is imported ends in the same words.
        with interrupted_by(*STOP_SIGNALS):
            if arguments.study is None:
                _list_studies()
            else:
                _run_study(arguments)
    except KeyboardInterrupt as error:
        said = "interrupted; the same command goes on"
        print(f"\n{said}: {shlex.join(['mvit', *sys.argv[1:]])}", file=sys.stderr)
        return error.exit_status if isinstance(error, Interrupted) else INTERRUPTED_STATUS
    return None


def _list_studies():
    from mvit_tf.studies.study import load_study, package_studies

    rows = []
    for path in package_studies().values():
        study = load_study(path)
        runs = len(study.seeds) * len(study.names)
        minutes = study.expected_minutes(len(study.seeds))
        rows.append((study.name, study.title, study.paper, str(runs), f"{minutes:.0f}"))
    header = ("study", "compares", "published", "runs", "minutes")
    print(format_table(header, rows, numbers=("runs", "minutes")))
    total = sum(float(row[-1]) for row in rows)
    print(f"\nAll together {total / 60:.1f} hours. Minutes are of two processors that are idle.")


def _run_study(arguments):
    import tensorflow as tf

    from mvit_tf.studies.conduct import conduct
    from mvit_tf.studies.report import to_markdown
    from mvit_tf.studies.study import find_study, load_study

    study = load_study(find_study(arguments.study))
    # The GPUs are for the runs, which are processes of their own. Where TensorFlow has begun, in a
    # process that does more than this command, it is too late.
    with contextlib.suppress(RuntimeError):
        tf.config.set_visible_devices([], "GPU")
    output = Path(arguments.output or Path("study_runs") / study.name)
    report = conduct(
        study,
        output,
        data=arguments.data,
        num_seeds=arguments.seeds,
        params=arguments.params_override,
    )
    print(f"\n{to_markdown(report)}")
    print(f"{output}: results.md, results.json, results.png, runs")
