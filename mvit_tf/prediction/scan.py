"""A video of any length, looked at window by window in bounded memory."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mvit_tf.data.video.decode_workers import DecodeWorkers, in_this_process
from mvit_tf.data.video.decoding import DecodeError
from mvit_tf.errors import UserError
from mvit_tf.export.predictor import VideoPredictor
from mvit_tf.prediction.read_ahead import read_ahead
from mvit_tf.prediction.spans import Span, find_spans
from mvit_tf.prediction.windows import FramesPart, SlidingWindows, window_frames
from mvit_tf.urls import without_secrets

_DIGITS = 6


@dataclass(frozen=True, eq=False)
class VideoScan:
    """What a model says along a video.

    Attributes:
        path: of the video.
        times: float64 (N, 2), start and end of each window in seconds after the first frame.
        probabilities: float32 (N, K).
        spans: see `find_spans`.
        class_names: the K classes.
        multi_label: whether each class has a probability of its own.
        threshold: from which probability on a window shows a class.
        stride: seconds from a window to the next.
        duration: of the video, in seconds.
        fps: average frames a second.
        start_time: the first frame's time on the file's own clock, in seconds.
        problems: what is wrong with the video, and where; its damaged frames are passed over.
    """

    path: str
    times: np.ndarray
    probabilities: np.ndarray
    spans: list[Span]
    class_names: tuple[str, ...]
    multi_label: bool
    threshold: float
    stride: float
    duration: float
    fps: float
    start_time: float
    problems: tuple[str, ...] = ()

    def to_dict(self) -> dict:
        """As plain data, for JSON: seconds and scores to six decimals."""
        return {
            "video": without_secrets(self.path),
            "duration": round(self.duration, _DIGITS),
            "start_time": round(self.start_time, _DIGITS),
            "fps": round(self.fps, _DIGITS),
            "stride": round(self.stride, _DIGITS),
            "threshold": self.threshold,
            "windows": len(self.times),
            "spans": [
                {
                    "start": round(span.start, _DIGITS),
                    "end": round(span.end, _DIGITS),
                    "label": span.label,
                    "score": round(span.score, _DIGITS),
                }
                for span in self.spans
            ],
            "problems": list(self.problems),
        }


def scan_video(
    predictor: VideoPredictor,
    path: str | os.PathLike,
    *,
    stride: float | None = None,
    threshold: float = 0.5,
    workers: DecodeWorkers | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> VideoScan:
    """Predicts the sliding windows of a video, which is decoded once and never held whole.

    In memory are the frames of the windows that overlap at one moment, and some more that are
    decoded ahead.

    Args:
        predictor: the model.
        path: the file, or a URL.
        stride: seconds from a window to the next; half a clip by default, a second of an image
            model. One longer than a clip leaves gaps.
        threshold: see `find_spans`.
        workers: processes to decode in; by default a thread of this one.
        on_progress: called with the windows done and their number.

    Raises:
        DecodeError: not one window can be decoded, or, of outcome "bad_frames", the model refuses
            the frames.
        UserError: a stride or threshold out of range.
    """
    if not 0 <= threshold <= 1:
        raise UserError(f"threshold={threshold:g}: must lie between 0 and 1")
    path, metadata = os.fspath(path), predictor.metadata
    SlidingWindows(metadata.sampling, 30.0, 1, stride)  # refuses a stride before anything is read
    run = in_this_process if workers is None else workers.run
    decoded = run(window_frames, path, metadata.sampling, stride)
    with read_ahead(_prepared(predictor, decoded)) as items:
        video = next(items)
        info = video.info
        windows = SlidingWindows(metadata.sampling, info.fps, info.num_frames, stride)
        problems = []
        try:
            found = list(_predicted(predictor, windows, items, problems, on_progress))
        except DecodeError:
            raise
        except UserError as error:
            raise DecodeError(path, "bad_frames", str(error)) from error
    if not found:
        raise DecodeError(path, "decode_error", "; ".join(problems) or "no window can be decoded")
    times = np.array([windows.time(number) for number in range(len(found))], np.float64)
    probabilities = np.stack(found)
    spans = find_spans(
        times,
        probabilities,
        metadata.class_names,
        threshold=threshold,
        multi_label=metadata.multi_label,
    )
    return VideoScan(
        path=path,
        times=times,
        probabilities=probabilities,
        spans=spans,
        class_names=metadata.class_names,
        multi_label=metadata.multi_label,
        threshold=threshold,
        stride=windows.stride,
        duration=info.duration,
        fps=info.fps,
        start_time=video.start_time,
        problems=tuple(problems),
    )


def _prepared(predictor, decoded):
    """What `window_frames` yields, with the frames as the predictor keeps them."""
    with contextlib.closing(decoded):
        for item in decoded:
            if isinstance(item, FramesPart):
                item = FramesPart(item.indices, predictor.prepare(item.frames))
            if item is not None:
                yield item


def _predicted(predictor, windows, items, problems, on_progress):
    """Yields float32 (K,) of each window whose frames come, in order."""
    held, number, batch = {}, 0, []
    for item in items:
        if not isinstance(item, FramesPart):
            problems += item
            continue
        for index, frame in zip(item.indices, item.frames, strict=True):
            held[index] = frame
            while number < len(windows) and windows.indices(number).max() <= index:
                batch.append(np.stack([held[i] for i in windows.indices(number).tolist()]))
                number += 1
                if number < len(windows):
                    first = windows.indices(number).min()
                    held = {i: frame for i, frame in held.items() if i >= first}
                if len(batch) == predictor.batch_size:
                    yield from predictor.predict_prepared(np.stack(batch))
                    batch = []
                    on_progress(number, len(windows))
    if batch:
        yield from predictor.predict_prepared(np.stack(batch))
    on_progress(number, len(windows))
