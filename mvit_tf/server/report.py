"""What the page shows of a video: classes, the frames that were used, time line, heat map."""

import contextlib
import dataclasses
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mvit_tf.data.clips import ClipFrames, whole_clips
from mvit_tf.data.video.decode_workers import DecodeWorkers
from mvit_tf.data.video.decoding import DecodeError
from mvit_tf.errors import UserError
from mvit_tf.server.untrusted import untrusted_clip_parts

# The page shows frames no larger than this.
_WIDEST = 320


@dataclasses.dataclass
class VideoReport:
    """What is known of a video so far.

    Attributes:
        classes: dict of class name to probability.
        frames: (uint8 (h, w, 3), caption) of the middle clip.
        timeline: path of a PNG.
        heat: PIL image.
        status: one line, of what was done or why it was not.
        failed: whether there is nothing to show.
    """

    classes: dict = dataclasses.field(default_factory=dict)
    frames: list = dataclasses.field(default_factory=list)
    timeline: str | None = None
    heat: object = None
    status: str = ""
    failed: bool = False


class VideoReporter:
    """Makes `VideoReport`s of videos that may be anything.

    Each video is decoded in a process of its own, which ends with the time limit.

    Args:
        predictor: VideoPredictor.
        folder: for the time lines; what shows them deletes them.
        time_limit: seconds for each video.

    Attributes:
        folder: likewise.
    """

    def __init__(self, predictor, folder: Path, time_limit: float):
        self._predictor, self.folder, self._time_limit = predictor, folder, time_limit
        # Only a Keras model can be explained; what else holds a model has none in memory.
        self._model = getattr(predictor, "model", None)

    @property
    def explains(self) -> bool:
        """Whether reports have a heat map."""
        return self._model is not None

    def reports(self, path: str) -> Iterator[VideoReport]:
        """What is known of a video, more each time: classes and frames, time line, heat map."""
        report = VideoReport()
        try:
            with _time_limited_workers(self._time_limit) as workers:
                clip = self._predict(report, path, workers)
                yield report
                self._draw_timeline(report, path, workers)
                yield report
        except (_TooLong, UserError) as error:
            # What was found before that stays.
            report.failed, report.status = not report.classes, _reason(error)
            yield report
            return
        if self.explains and not self._predictor.metadata.image:
            self._explain(report, clip)
            yield report

    def thumbnail(self, path: str) -> np.ndarray | None:
        """A frame from the middle of a video, or None where it has none."""
        sampling = self._predictor.metadata.sampling
        with contextlib.suppress(DecodeError, _TooLong):
            with _time_limited_workers(self._time_limit) as workers:
                parts = workers.run(untrusted_clip_parts, path, sampling, 1)
                (clip,) = whole_clips(parts)
            return _small(clip[len(clip) // 2])
        return None

    def _predict(self, report, path, workers):
        metadata = self._predictor.metadata
        facts, rows = [], []
        middle = metadata.num_clips // 2
        parts = workers.run(untrusted_clip_parts, path, metadata.sampling, metadata.num_clips)
        for number, clip in enumerate(whole_clips(_noting_facts(parts, facts))):
            rows.append(self._predictor.predict_frames(clip[np.newaxis])[0])
            if number == middle:
                chosen = clip
        combine = np.max if metadata.ensemble_method == "max" else np.mean
        probabilities = combine(rows, axis=0)
        report.classes = {
            name: float(value)
            for name, value in zip(metadata.class_names, probabilities, strict=True)
        }
        moments = facts[0].moments[middle]
        report.frames = [
            (_small(frame), f"{moment:.2f} s")
            for frame, moment in zip(chosen, moments, strict=True)
        ]
        count = len(rows)
        shorter = ", shorter than a clip" * facts[0].padded
        report.status = (
            f"{facts[0].width}x{facts[0].height}{shorter}: {count} clip{'s' * (count > 1)} of "
            f"{len(moments)} frame{'s' * (len(moments) > 1)}"
        )
        return chosen

    def _draw_timeline(self, report, path, workers):
        if self._predictor.metadata.image:
            return
        from mvit_tf.prediction.scan import scan_video
        from mvit_tf.prediction.timeline import plot_timeline

        scan = scan_video(self._predictor, path, workers=workers)
        # One name for each report: the page may still have to send another's.
        descriptor, file = tempfile.mkstemp(".png", "timeline-", self.folder)
        os.close(descriptor)
        plot_timeline(scan, file)
        report.timeline = file

    def _explain(self, report, clip):
        from mvit_tf.explain import explain_clip
        from mvit_tf.explain.overlays import heat_grid

        try:
            report.heat = heat_grid(explain_clip(self._model, clip))
        except UserError as error:
            report.status += f"; no heat map: {error}"


class _TooLong(Exception):
    def __init__(self, seconds):
        super().__init__(f"given up after {seconds:g} s: the video is long, or hard to decode")


def _reason(error):
    if isinstance(error, DecodeError):  # Not the path, which is the server's own.
        return f"not a video that can be decoded: {error.detail}"
    return str(error)


@contextlib.contextmanager
def _time_limited_workers(seconds):
    """One `DecodeWorkers` that is closed after so long; what fails then is a `_TooLong`."""
    with DecodeWorkers(1, time_limit=seconds) as workers:
        ended = threading.Event()

        def end():
            ended.set()
            workers.close()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield workers
        except Exception as error:
            if ended.is_set():
                raise _TooLong(seconds) from error
            raise
        finally:
            timer.cancel()


def _noting_facts(parts, facts):
    with contextlib.closing(parts):
        for item in parts:
            if isinstance(item, ClipFrames):
                facts.append(item)
            yield item


def _small(frame):
    """A frame of at most 320 pixels across."""
    from PIL import Image

    picture = Image.fromarray(frame)
    picture.thumbnail((_WIDEST, _WIDEST))
    return np.asarray(picture)
