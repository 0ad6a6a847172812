"""Writes the videos of a folder or list into TFRecord files, from which training reads faster.

  mvit prepare my_videos prepared                       then: data.train=prepared
  mvit prepare all.csv prepared --name=train --split=train

Interrupted, the same command goes on with the files that are missing. The exit status is 0 when
the set is complete, though videos failed, each named in its manifest; 2 where more failed than
--max_failure_share, or after another mistake; 130 when interrupted. See docs/records.md.
"""

import argparse
import shlex
import signal
import sys

from mvit_tf.cli.arguments import positive_int
from mvit_tf.cli.startup import INTERRUPTED_STATUS, interrupted_by
from mvit_tf.console import format_table, progress
from mvit_tf.urls import without_secrets

NAME = "prepare"
SUMMARY = "write the videos of a folder or list into TFRecord files"

_MOST_NAMED = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a folder with one folder of videos per class, or a list, as for data.train",
    )
    parser.add_argument("output", metavar="OUTPUT", help="the folder to write into")
    parser.add_argument(
        "--name",
        default="videos",
        help="what the names of the files begin with: NAME-00000-of-00010.tfrecord "
        "(default: videos)",
    )
    for flag, metavar, what in (
        ("root", "FOLDER", "where relative paths of a list start from"),
        ("separator", "TEXT", "what stands between path and label (white space)"),
        ("label_map", "FILE", "the class names in index order, as data.label_map"),
        ("split", "NAME", "take the lines of SOURCE with this split"),
    ):
        parser.add_argument(f"--{flag}", metavar=metavar, help=what)
    parser.add_argument(
        "--multi_label",
        action="store_true",
        help="a video may have any number of labels, as data.multi_label",
    )
    parser.add_argument(
        "--nested", action="store_true", help="take the videos of folders within class folders too"
    )
    parser.add_argument(
        "--frames",
        choices=("jpeg", "video"),
        default="jpeg",
        help="what a record holds: its frames as JPEG, or the file as it is (default: jpeg)",
    )
    parser.add_argument(
        "--short_side",
        type=int,
        default=256,
        metavar="PIXELS",
        help="larger frames are made so small; 0 keeps all (default: 256)",
    )
    parser.add_argument(
        "--fps",
        type=float,
        default=0.0,
        metavar="RATE",
        help="frames a second where a video has more; 0 keeps all (default: 0)",
    )
    parser.add_argument(
        "--quality", type=int, default=90, metavar="1-95", help="of the JPEG frames (default: 90)"
    )
    parser.add_argument(
        "--shards",
        type=positive_int,
        metavar="N",
        help="how many files (default: one for 64 videos)",
    )
    parser.add_argument(
        "--workers",
        type=positive_int,
        metavar="N",
        help="processes that decode (default: the number of processors)",
    )
    parser.add_argument(
        "--time_limit",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="a decoder that gives no frame for so long is stopped (default: 120)",
    )
    parser.add_argument(
        "--max_failure_share",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="of videos that may fail (default: 0.05)",
    )
    parser.add_argument(
        "--runner",
        metavar="RUNNER",
        help="make the files by Apache Beam with this runner, such as DirectRunner or "
        "DataflowRunner, instead of by processes of this machine",
    )
    parser.add_argument(
        "--pipeline_options",
        metavar="OPTIONS",
        default="",
        help="options of the runner: --pipeline_options='--direct_num_workers=4'",
    )


def run(arguments: argparse.Namespace) -> int | None:
    from mvit_tf.data.lists.class_names import load_label_map
    from mvit_tf.data.lists.video_list import load_video_list
    from mvit_tf.data.records.beam import BeamShards
    from mvit_tf.data.records.encoding import Encoding
    from mvit_tf.data.records.index import record_files
    from mvit_tf.data.records.plan import make_plan
    from mvit_tf.data.records.prepare import LocalShards, prepare
    from mvit_tf.data.video.decode_workers import available_processors
    from mvit_tf.errors import UserError

    if not 0 <= arguments.max_failure_share <= 1:
        raise UserError(f"--max_failure_share={arguments.max_failure_share:g} must be from 0 to 1")
    if arguments.pipeline_options and arguments.runner is None:
        raise UserError("--pipeline_options are those of --runner, which is not given")
    encoding = Encoding(
        frames=arguments.frames,
        short_side=arguments.short_side,
        fps=arguments.fps,
        quality=arguments.quality,
    )
    if record_files(arguments.source) is not None:
        raise UserError(f"{arguments.source} is a record set already")
    videos = load_video_list(
        arguments.source,
        root=arguments.root,
        separator=arguments.separator,
        class_names=None if arguments.label_map is None else load_label_map(arguments.label_map),
        split=arguments.split,
        nested=arguments.nested,
        multi_label=arguments.multi_label,
    )
    plan = make_plan(
        videos,
        arguments.source,
        arguments.output,
        name=arguments.name,
        encoding=encoding,
        root=arguments.root,
        num_shards=arguments.shards,
    )
    if arguments.runner is None:
        count = arguments.workers or available_processors()
        make_shards = LocalShards(count, arguments.time_limit)
    else:
        options = shlex.split(arguments.pipeline_options)
        make_shards = BeamShards(arguments.runner, options, arguments.time_limit)
    try:
        with interrupted_by(signal.SIGINT, signal.SIGTERM), progress("preparing") as show:
            manifest, found = prepare(
                plan, make_shards, max_failure_share=arguments.max_failure_share, show=show
            )
    except KeyboardInterrupt:
        command = without_secrets(shlex.join(["mvit", *sys.argv[1:]]))
        print(f"\ninterrupted; the same command goes on: {command}", file=sys.stderr)
        return INTERRUPTED_STATUS
    print(_report(plan, manifest, found))
    return None


def _report(plan, manifest, found):
    counts = manifest.counts()
    failures = [one for shard in manifest.shards for one in shard.failures]
    lines = []
    if failures:
        rows = [(one.outcome, one.source, one.detail) for one in failures[:_MOST_NAMED]]
        lines += [format_table(("outcome", "video", "reason"), rows), ""]
    if len(failures) > _MOST_NAMED:
        lines += [f"and {len(failures) - _MOST_NAMED} more, all in {plan.manifest_path}", ""]
    size = sum(shard.size for shard in manifest.shards)
    files = f"{plan.num_shards} file" + ("s" if plan.num_shards > 1 else "")
    there = f", {found} of them there already" if found else ""
    lines += [
        f"{counts['records']:,} records of {counts['videos']:,} videos, {counts['frames']:,} "
        f"frames, {size / 1e6:,.1f} MB in {files}{there}",
        f"train on them with data.train={plan.manifest_path}",
    ]
    return "\n".join(lines)
