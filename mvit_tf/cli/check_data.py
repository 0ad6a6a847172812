"""Decodes every video of a folder or list from its first frame to its last.

Prints the videos that cannot be decoded and how many ended how. Where there are any of them the
exit status is 2; training would leave them out.
"""

import argparse
import collections
import os
from concurrent.futures import ThreadPoolExecutor, as_completed

from mvit_tf.cli.arguments import positive_int
from mvit_tf.console import format_table, progress
from mvit_tf.errors import UserError

NAME = "check-data"
SUMMARY = "decode every video of a folder or list, and name those that fail"

# Frames held at once while a video is decoded: 100 MB a thread at 1080p.
_FRAMES_AT_ONCE = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a folder with one folder of videos per class, or a file of `path label` lines",
    )
    parser.add_argument(
        "--root", metavar="FOLDER", help="where relative paths of a list start from"
    )
    parser.add_argument(
        "--separator", metavar="TEXT", help="what stands between path and label (white space)"
    )
    parser.add_argument(
        "--threads",
        type=positive_int,
        default=os.cpu_count(),
        metavar="N",
        help="videos decoded at once (default: the number of processors)",
    )
    parser.add_argument(
        "--output", metavar="FILE", help="write every outcome to a file, one JSON object a line"
    )


def run(arguments: argparse.Namespace) -> None:
    from mvit_tf.data.decoding import DecodeError
    from mvit_tf.data.outcomes import OutcomeLedger
    from mvit_tf.data.video_list import load_video_list

    videos = load_video_list(
        arguments.source, root=arguments.root, separator=arguments.separator
    )
    ledger = OutcomeLedger()
    with ThreadPoolExecutor(arguments.threads) as pool, progress("decoding") as show:
        futures = {pool.submit(decode_whole_video, path): path for path in videos.paths}
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                try:
                    future.result()
                    ledger.record(futures[future])
                except DecodeError as error:
                    ledger.record(error.path, error.outcome, error.detail)
                show(done, len(futures))
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    if arguments.output:
        ledger.write(arguments.output)
    print(format_outcomes(ledger.outcomes))
    if ledger.failures:
        raise UserError(f"{arguments.source}: {ledger.summary()}")


def decode_whole_video(path: str) -> None:
    """Decodes every frame of a video; keeps none.

    Raises:
        DecodeError: it cannot be decoded to its end.
    """
    from mvit_tf.data.decoding import open_video

    with open_video(path) as reader:
        for start in range(0, reader.info.num_frames, _FRAMES_AT_ONCE):
            reader.frames_at_indices(range(start, start + _FRAMES_AT_ONCE))


def format_outcomes(outcomes: dict[str, tuple[str, str]]) -> str:
    """A table of the failures, then one of how many videos ended how.

    Args:
        outcomes: path -> (outcome, detail), as `OutcomeLedger.outcomes`.
    """
    failures = sorted(
        (outcome, path, detail) for path, (outcome, detail) in outcomes.items() if outcome != "ok"
    )
    counts = collections.Counter(outcome for outcome, _ in outcomes.values()).most_common()
    tables = [format_table(("outcome", "video", "reason"), failures)] if failures else []
    rows = [(outcome, f"{count:,}") for outcome, count in counts]
    tables.append(format_table(("outcome", "videos"), rows, numbers=("videos",)))
    return "\n\n".join(tables)
