"""What a model says of a live source, with a lag that is bounded."""

import collections
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from mvit_tf.data.sampling import ClipSampling
from mvit_tf.data.video.decode_workers import DecodeWorkers
from mvit_tf.data.video.decoding import DecodeError
from mvit_tf.errors import UserError
from mvit_tf.export.predictor import Prediction, VideoPredictor
from mvit_tf.prediction.live_source import check_source, live_frames

_IMAGE_STRIDE = 1.0
# The default of `max_lag`: so many calls of the model, and seconds beside them.
_CALLS_OF_LAG, _SECONDS_OF_LAG = 3.0, 1.0
# Seconds to wait before connecting again: doubled with each try, up to the last.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 8.0


@dataclass(frozen=True)
class LivePrediction:
    """What the model says of the newest clip.

    Attributes:
        time: seconds from the source's first frame to the clip's newest one.
        prediction: its `path` is the source.
        lag: seconds from that frame's coming to this answer.
    """

    time: float
    prediction: Prediction
    lag: float


@dataclass
class LiveCounts:
    """What became of a live source.

    Attributes:
        lines: answers given.
        total_lag, longest_lag: of these, in seconds.
        late: answers that would have broken the bound, and were not given.
        strides: strides that were passed over, as the model was still busy.
        frames: frames that came, of those that clips are made of.
        dropped: frames that no clip took, or that were not decoded, to catch up.
        reconnections: how often the source was connected to again.
    """

    lines: int = 0
    total_lag: float = 0.0
    longest_lag: float = 0.0
    late: int = 0
    strides: int = 0
    frames: int = 0
    dropped: int = 0
    reconnections: int = 0


class LivePredictor:
    """Answers once a stride with the probabilities of the newest clip of a live source.

    A thread keeps the newest frames, as many as a clip has; older ones are dropped and counted.
    The model takes the newest clip whenever it is free and a stride has passed; strides that pass
    while it is busy are counted. So nothing waits, and an answer lags by one call of the model and
    the time between two frames of a clip. The bound `max_lag` is kept by giving no answer that is
    older.

    Args:
        predictor: the model; called once here, to see how long it takes.
        source: a camera such as "/dev/video0", a URL, or a file, which is played.
        stride: seconds from an answer to the next; half a clip by default, a second of an image
            model.
        max_lag: seconds; by default three calls of the model and a second.
        patience: seconds without data after which the source is connected to again.
        reconnections: how often in a row that is tried.
        tell: called with a line about the connection.

    Attributes:
        max_lag, stride: as above.
        call_seconds: how long the model takes of one clip.
        counts: LiveCounts so far.

    Raises:
        UserError: no such source, or the model is slower than `max_lag`.
    """

    def __init__(
        self,
        predictor: VideoPredictor,
        source: str,
        *,
        stride: float | None = None,
        max_lag: float | None = None,
        patience: float = 10.0,
        reconnections: int = 5,
        tell: Callable[[str], None] = lambda line: None,
    ):
        check_source(source)
        self._predictor, self._source = predictor, source
        self._patience, self._reconnections, self._tell = patience, reconnections, tell
        sampling = predictor.metadata.sampling
        self._spacing = frame_spacing(sampling)
        half = self._spacing * sampling.num_frames / 2
        self.stride = stride or (_IMAGE_STRIDE if sampling.num_frames == 1 else half)
        self.call_seconds = _call_seconds(predictor)
        if max_lag is None:
            max_lag = _SECONDS_OF_LAG + _CALLS_OF_LAG * self.call_seconds
        elif max_lag <= self.call_seconds:
            raise UserError(
                f"max_lag={max_lag:g}: one clip takes {self.call_seconds:.2f} s on this machine; "
                "allow more, or take a smaller model"
            )
        self.max_lag = max_lag
        self.counts = LiveCounts()

    def answers(self) -> Iterator[LivePrediction]:
        """Yields answers until the source ends.

        Raises:
            DecodeError: the source cannot be opened, or does not come back.
        """
        metadata = self._predictor.metadata
        frames = _NewestFrames(metadata.sampling.num_frames, self._spacing, self.counts)
        limit = 2 * self._patience + 30
        with DecodeWorkers(1, time_limit=limit) as workers, contextlib.closing(frames):
            threading.Thread(target=self._read, args=(workers, frames), daemon=True).start()
            due = None
            while (clip := frames.newest_clip(due)) is not None:
                (probabilities,) = self._predictor.predict_prepared(clip.frames[np.newaxis])
                lag = time.monotonic() - clip.captured
                if due is not None:
                    passed = int((clip.time - due) / self.stride)
                    self.counts.strides += passed
                    due += passed * self.stride
                due = (clip.time if due is None else due) + self.stride
                if lag > self.max_lag:
                    self.counts.late += 1
                    continue
                self.counts.lines += 1
                self.counts.total_lag += lag
                self.counts.longest_lag = max(self.counts.longest_lag, lag)
                prediction = Prediction(
                    self._source, probabilities, metadata.class_names, metadata.multi_label
                )
                yield LivePrediction(clip.time, prediction, lag)

    def _read(self, workers, frames):
        """Hands frames on until the source ends for good; runs in a thread."""
        tries, came = 0, False
        arguments = (self._source, self._spacing, self._patience, self.max_lag / 2)
        while not frames.closed:
            try:
                with contextlib.closing(workers.run(live_frames, *arguments)) as items:
                    for frame in items:
                        if frames.closed:
                            return
                        if frame is None:
                            continue
                        tries, came = 0, True
                        prepared = self._predictor.prepare(frame.picture)
                        frames.add(frame, prepared)
                frames.end(None)
                return
            except DecodeError as error:
                tries += 1
                if frames.closed or not came or tries > self._reconnections:
                    frames.end(error)
                    return
                self._tell(f"{error}: connecting again ({tries} of {self._reconnections})")
                self.counts.reconnections += 1
                frames.start_anew()
                frames.wait_closed(min(_FIRST_PAUSE * 2 ** (tries - 1), _LONGEST_PAUSE))
            except Exception as error:  # It must not end unheard in this thread.
                frames.end(error)
                return


def frame_spacing(sampling: ClipSampling) -> float:
    """Seconds from a frame of a clip to the next."""
    if sampling.rule == "linspace" and sampling.num_frames > 1:
        span = sampling.num_frames * sampling.sampling_rate - 1
        step = max(span / (sampling.num_frames - 1), 1.0)
    else:
        step = sampling.sampling_rate
    return step / sampling.target_fps


def _call_seconds(predictor):
    sampling, size = predictor.metadata.sampling, predictor.metadata.preprocessing.size
    clip = predictor.prepare(np.zeros((sampling.num_frames, *size, 3), np.uint8))[np.newaxis]
    predictor.predict_prepared(clip)  # Reads the graph, compiles.
    started = time.monotonic()
    predictor.predict_prepared(clip)
    return time.monotonic() - started


@dataclass(frozen=True, eq=False)
class _Clip:
    """The frames (T, h, w, 3), and of the newest one the time and when it came."""

    frames: np.ndarray
    time: float
    captured: float


class _NewestFrames:
    """The frames that the newest clip is made of; one thread adds them, another takes clips."""

    def __init__(self, length, spacing, counts):
        self._length, self._spacing, self._counts = length, spacing, counts
        self._kept = collections.deque()
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._error, self._ended = None, False
        self._taken_until = -1.0
        self._started, self._origin, self._offset, self._skipped = False, None, 0.0, 0

    @property
    def closed(self):
        return self._closed.is_set()

    def close(self):
        self._closed.set()

    def wait_closed(self, seconds):
        self._closed.wait(seconds)

    def add(self, frame, prepared):
        with self._changed:
            if not self._started:  # of this connection
                if self._origin is None:
                    self._origin = frame.captured - frame.moment
                # The time goes on while there is no connection.
                self._offset = frame.captured - self._origin - frame.moment
                self._started, self._skipped = True, 0
            self._counts.frames += 1
            self._counts.dropped += frame.num_skipped - self._skipped
            self._skipped = frame.num_skipped
            now = frame.moment + self._offset
            self._kept.append((now, frame.captured, prepared))
            # One beyond the span, which the first frame of a clip may be the nearest to.
            while self._kept[0][0] < now - self._spacing * self._length:
                self._counts.dropped += int(self._kept[0][0] > self._taken_until)
                self._kept.popleft()
            self._changed.notify()

    def start_anew(self):
        """Frames of before a break make no clip with those after it."""
        with self._changed:
            self._kept.clear()
            self._started = False

    def end(self, error):
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify()

    def newest_clip(self, due):
        """Waits for a clip whose newest frame is not before `due`; None at the end.

        Raises:
            Exception: what ended the source.
        """
        with self._changed:
            while not self._is_there(due):
                if self._ended:
                    if self._error is not None:
                        raise self._error
                    return None
                self._changed.wait(1.0)
            times = np.array([kept[0] for kept in self._kept])
            wanted = times[-1] - self._spacing * np.arange(self._length)[::-1]
            picks = abs(times - wanted[:, None]).argmin(axis=1)
            frames = np.stack([self._kept[i][2] for i in picks])
            self._taken_until = float(times[-1])
            return _Clip(frames, float(times[-1]), self._kept[-1][1])

    def _is_there(self, due):
        if not self._kept or self._ended:
            return False
        last = self._kept[-1][0]
        if last <= self._taken_until or (due is not None and last < due):
            return False
        # Frames come up to half a spacing off.
        return last - self._kept[0][0] >= self._spacing * (self._length - 1.5)
