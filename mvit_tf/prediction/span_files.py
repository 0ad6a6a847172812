"""What `mvit predict --spans` prints and writes of each video."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mvit_tf.console import progress
from mvit_tf.data.video.decode_workers import DecodeWorkers
from mvit_tf.data.video.decoding import DecodeError
from mvit_tf.errors import UserError
from mvit_tf.export.predictor import VideoPredictor
from mvit_tf.files import write_text_atomically
from mvit_tf.folders import make_folder
from mvit_tf.prediction.annotated import annotate_video
from mvit_tf.prediction.inputs import VideoInput
from mvit_tf.prediction.output import PredictionFormat, line_writer
from mvit_tf.prediction.scan import VideoScan, scan_video
from mvit_tf.prediction.timeline import plot_timeline
from mvit_tf.urls import is_url, without_query, without_secrets


def write_spans(
    predictor: VideoPredictor,
    videos: Sequence[VideoInput],
    form: PredictionFormat,
    *,
    folder: str | None = None,
    stride: float | None = None,
    threshold: float = 0.5,
    time_limit: float = 120.0,
) -> None:
    """Scans one video after the other, prints its spans, and writes them with their pictures.

    Args:
        predictor: the model.
        videos: each is scanned once and as a whole, whatever segments a list names.
        form: how spans are printed.
        folder: where `NAME.spans.json`, `NAME.timeline.png` and `NAME.annotated.mp4` of each
            video are written; nowhere when `None`.
        stride, threshold: see `scan_video`.
        time_limit: seconds without a frame after which a video cannot be decoded.

    Raises:
        UserError: the folder cannot be used, or, at the end, videos could not be predicted.
    """
    paths = list(dict.fromkeys(video.path for video in videos))
    folder = None if folder is None else _make_folder(folder)
    failed, names = 0, set()
    with (
        line_writer(None, form.header) as write,
        DecodeWorkers(1, time_limit=time_limit) as workers,
    ):
        for path in paths:
            try:
                with progress("windows") as show:
                    scan = scan_video(
                        predictor,
                        path,
                        stride=stride,
                        threshold=threshold,
                        workers=workers,
                        on_progress=show,
                    )
                write(form.spans(scan))
                for problem in scan.problems:
                    print(f"warning: {without_secrets(path)}: {problem}", file=sys.stderr)
                if folder is not None:
                    _write_files(scan, folder / _free_name(path, names), workers)
            except DecodeError as error:
                failed += 1
                print(f"error: {error}", file=sys.stderr)
                write(form.failure(VideoInput(path), error))
    if failed:
        raise UserError(f"{failed} of {len(paths)} videos could not be predicted")


def write_spans_json(scan: VideoScan, file: str | os.PathLike) -> None:
    """Writes `VideoScan.to_dict` as JSON."""
    write_text_atomically(Path(file), json.dumps(scan.to_dict(), indent=2) + "\n")


def _write_files(scan, start, workers):
    for write, file in (
        (write_spans_json, f"{start}.spans.json"),
        (plot_timeline, f"{start}.timeline.png"),
    ):
        try:
            write(scan, file)
        except OSError as error:
            raise UserError(f"{file} cannot be written: {error.strerror or error}") from None
    with progress("annotated frames") as show:
        annotate_video(scan, f"{start}.annotated.mp4", workers=workers, on_progress=show)


def _make_folder(folder):
    if is_url(folder):
        raise UserError(f"--output={without_secrets(folder)}: give a folder of this machine")
    folder = Path(folder)
    make_folder(folder)
    return folder


def _free_name(path, names):
    """The video's name without its suffix; with a number where two videos share it."""
    stem = Path(os.path.basename(without_query(path))).stem or "video"
    name, number = stem, 1
    while name in names:
        number += 1
        name = f"{stem}-{number}"
    names.add(name)
    return name
