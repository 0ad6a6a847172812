"""Says what videos, long videos along their time, or a live source show.

  mvit predict MODEL a.mp4 folder list.csv https://host/b.mp4
  mvit predict MODEL match.mp4 --spans --output match_spans
  mvit predict MODEL --live /dev/video0

MODEL is a model directory of training (its best checkpoint), an export directory or one version
of it, an export for LiteRT, ONNX Runtime or OpenVINO, a .keras file, or a preset (also
hf://user/name). A named model with weights goes without it: --model NAME --weights SET.

Of a folder the videos in it are taken, of a list those it names; if the list has labels too, the
accuracy is printed at the end. "-" reads paths from standard input, one a line.

Of a multi-label model the classes with a probability of at least --threshold are printed.

A video that cannot be decoded is named with the reason, the others are predicted all the same,
and the exit status is then 2. Decoding happens in processes of their own, so that this holds too
for a video that crashes the decoder or makes it hang.
"""

import argparse
import collections
import contextlib
import sys

from mvit_tf.cli.arguments import positive_int, positive_number
from mvit_tf.cli.predictors import (
    add_decoding_flags,
    add_model_flags,
    find_videos,
    num_workers,
    open_model,
)
from mvit_tf.console import progress
from mvit_tf.errors import UserError
from mvit_tf.prediction.output import FORMATS, PredictionFormat, line_writer

NAME = "predict"
SUMMARY = "what videos show, by a trained, exported or published model; spans of time, live"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_flags(parser)
    parser.usage = (
        f"{parser.prog} [options] MODEL PATH...\n"
        f"       {parser.prog} [options] --model NAME --weights SET_OR_FILE PATH...\n"
        f"       {parser.prog} [options] MODEL --live SOURCE"
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="table (default): the classes of each video; jsonl: an object a video, with the "
        "probabilities of all classes; csv: a row for each video and class",
    )
    parser.add_argument("--json", action="store_true", help="the same as --format jsonl")
    parser.add_argument(
        "--output",
        metavar="PATH",
        help="write what else is printed into this file, line by line as it comes; with --spans: "
        "write the spans, a time line and an annotated mp4 of each video into this folder",
    )
    parser.add_argument(
        "--top",
        type=positive_int,
        metavar="N",
        help="how many classes to print (default 5; 1 with --live)",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.5,
        metavar="P",
        help="of a multi-label model, print the classes that are at least so probable, --top at "
        "most; with --spans, of any model, make spans of them (default 0.5)",
    )
    parser.add_argument(
        "--batch_size",
        type=positive_int,
        default=1,
        metavar="N",
        help="clips of a video in one call of the model (default 1; more for a GPU)",
    )
    add_decoding_flags(parser)
    along = parser.add_argument_group("along a long video, or live")
    along.add_argument(
        "--spans",
        action="store_true",
        help="slide over each video and say from when to when it shows what",
    )
    along.add_argument(
        "--stride",
        type=positive_number,
        metavar="SECONDS",
        help="from a window to the next (default: half a clip; 1 of an image model)",
    )
    along.add_argument(
        "--live",
        metavar="SOURCE",
        help="a camera (/dev/video0), a stream's URL (rtsp, http, udp, ...) or a file, which is "
        "played at its own speed: a line a stride, until the source ends or Ctrl-C",
    )
    along.add_argument(
        "--max_lag",
        type=positive_number,
        metavar="SECONDS",
        help="with --live: give no answer that is older (default: three calls of the model and 1)",
    )
    along.add_argument(
        "--patience",
        type=positive_number,
        default=10.0,
        metavar="SECONDS",
        help="with --live: without a frame, after which to connect again, five times (10)",
    )


def run(arguments: argparse.Namespace) -> None:
    if not 0 <= arguments.threshold <= 1:
        raise UserError(f"--threshold={arguments.threshold:g}: must lie between 0 and 1")
    if arguments.json and arguments.format not in (None, "jsonl"):
        raise UserError(f"--json is --format jsonl; leave it out for {arguments.format}")
    if arguments.live and arguments.spans:
        raise UserError("--live has no end to make spans of: leave out --spans")
    if arguments.max_lag is not None and not arguments.live:
        raise UserError("--max_lag goes with --live")
    if arguments.stride is not None and not (arguments.spans or arguments.live):
        raise UserError("--stride goes with --spans or --live")
    name = "jsonl" if arguments.json else arguments.format or "table"
    top = arguments.top or (1 if arguments.live else 5)
    form = PredictionFormat(name, top=top, threshold=arguments.threshold)
    predictor, sources = open_model(arguments, wanted=not arguments.live)
    predictor.batch_size = arguments.batch_size
    if arguments.live:
        if sources:
            raise UserError(f"--live takes one source and no videos, got {sources[0]} too")
        _run_live(arguments, predictor, form)
        return

    videos = find_videos(arguments, predictor, sources)
    if arguments.spans:
        from mvit_tf.prediction.span_files import write_spans

        write_spans(
            predictor,
            videos,
            form,
            folder=arguments.output,
            stride=arguments.stride,
            threshold=arguments.threshold,
            time_limit=arguments.time_limit,
        )
    else:
        _predict(arguments, predictor, videos, form)


def _predict(arguments, predictor, videos, form):
    from mvit_tf.export.predictor import Prediction
    from mvit_tf.prediction.videos import of_each_video
    from mvit_tf.urls import without_secrets

    metadata, failed, score = predictor.metadata, 0, collections.Counter()

    def predict(video, workers):
        return predictor.predict_video(video.path, segment=video.segment, workers=workers)

    answers = of_each_video(
        predict,
        videos,
        num_workers=num_workers(arguments.workers, len(videos)),
        time_limit=arguments.time_limit,
    )
    shown = arguments.output or not sys.stdout.isatty()
    with line_writer(arguments.output, form.header) as write, _progress(shown) as show:
        for done, (video, probabilities, error) in enumerate(answers, start=1):
            show(done, len(videos))
            if error is not None:
                failed += 1
                print(f"error: {error}", file=sys.stderr)
                write(form.failure(video, error))
                continue
            path = without_secrets(video.path)
            prediction = Prediction(path, probabilities, metadata.class_names, metadata.multi_label)
            write(form.prediction(video, prediction))
            if video.labels and not metadata.multi_label:
                ranked = [name for name, _ in prediction.top(5)]
                score["videos"] += 1
                score["top-1"] += ranked[0] in video.labels
                score["top-5"] += any(name in video.labels for name in ranked)
    if score["videos"]:
        top_1, top_5 = (score[name] / score["videos"] for name in ("top-1", "top-5"))
        best_of = f", top-5 {top_5:.1%}" if len(metadata.class_names) > 5 else ""
        print(f"top-1 {top_1:.1%}{best_of} of {score['videos']} labelled videos", file=sys.stderr)
    if failed:
        raise UserError(f"{failed} of {len(videos)} videos could not be predicted")


def _progress(shown):
    """Progress, where it does not come between the lines that are printed."""
    return progress("videos") if shown else contextlib.nullcontext(lambda done, total: None)


def _run_live(arguments, predictor, form):
    from mvit_tf.prediction.live import LivePredictor

    live = LivePredictor(
        predictor,
        arguments.live,
        stride=arguments.stride,
        max_lag=arguments.max_lag,
        patience=arguments.patience,
        tell=lambda line: print(f"note: {line}", file=sys.stderr, flush=True),
    )
    print(
        f"one clip takes {live.call_seconds:.2f} s; a line every {live.stride:.2f} s at most, with "
        f"a lag of {live.max_lag:.2f} s at most; Ctrl-C ends",
        file=sys.stderr,
        flush=True,
    )
    try:
        with line_writer(arguments.output, form.header) as write:
            for answer in live.answers():
                write(form.live(answer))
    finally:
        counts = live.counts
        print(f"{_lines_in_words(counts)}; {_dropped_in_words(counts)}", file=sys.stderr)


def _lines_in_words(counts):
    if not counts.lines:
        return "no line"
    mean = counts.total_lag / counts.lines
    return (
        f"{counts.lines} line{'' if counts.lines == 1 else 's'}, with a lag of {mean:.2f} s in the "
        f"mean and {counts.longest_lag:.2f} s at most"
    )


def _dropped_in_words(counts):
    return (
        f"{counts.strides} strides passed over, {counts.late} answers too late; of {counts.frames} "
        f"frames {counts.dropped} dropped; {counts.reconnections} reconnections"
    )
