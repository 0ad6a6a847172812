"""Embeddings of videos, kept as they come and written as one file at the end.

While it is computed, FILE.partial holds what is done: a TFRecord file whose first record says what
model and layer it is of, followed by a `tf.train.Example` for each video. A run that is started
again goes on with it.
"""

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from mvit_tf.data.remote import file_size
from mvit_tf.data.video.decoding import DecodeError
from mvit_tf.errors import UserError
from mvit_tf.export.predictor import POOLED, VideoPredictor
from mvit_tf.files import one_line, printable, write_atomically
from mvit_tf.prediction.inputs import VideoInput
from mvit_tf.prediction.videos import of_each_video
from mvit_tf.urls import absolute, is_url, without_secrets

SUFFIXES = (".npz", ".tfrecord")
# Models whose answers to a fixed clip differ by no more are the same one.
_SAME_MODEL = 1e-3


@dataclass(frozen=True, eq=False)
class VideoFeatures:
    """Embeddings of videos.

    Attributes:
        names: the N videos' paths, one for each row.
        features: float32 (N, C).
        clips: int64 (N,), which clip of its video a row is of; -1 for the mean over all.
        segments: float64 (N, 2), start and end of the part of the video in seconds; NaN for all.
        layer: what they are read from.
    """

    names: tuple[str, ...]
    features: np.ndarray
    clips: np.ndarray
    segments: np.ndarray
    layer: str

    @classmethod
    def load(cls, file: str | os.PathLike) -> "VideoFeatures":
        """Reads the `.npz` file that `extract_features` writes."""
        with np.load(file) as stored:
            values = {name: stored[name] for name in ("features", "clips", "segments")}
            return cls(tuple(stored["names"].tolist()), layer=str(stored["layer"]), **values)


def extract_features(
    predictor: VideoPredictor,
    videos: Sequence[VideoInput],
    file: str | os.PathLike,
    *,
    layer: str = POOLED,
    per_clip: bool = False,
    num_workers: int = 1,
    time_limit: float = 120.0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_failure: Callable[[DecodeError], None] = lambda error: None,
) -> VideoFeatures:
    """Computes the embedding of each video and writes them all.

    The clips are those that the model is predicted with, `metadata.num_clips` of each video.

    Args:
        predictor: the model.
        videos: a video that cannot be decoded is left out.
        file: a `.npz` file (`names`, `features`, `clips`, `segments`, `layer`), or a `.tfrecord`
            file of one `tf.train.Example` a row with the same keys in the singular.
        layer: see `VideoPredictor.clip_features`.
        per_clip: a row for each clip, not for the mean over the clips of a video.
        num_workers, time_limit: see `of_each_video`.
        on_progress: called with the videos done and their number.
        on_failure: called with the error of a video.

    Raises:
        UserError: the file cannot be written, there is no such layer, or no video can be decoded.
    """
    file = check_file_name(file)
    partial = _PartialFile(Path(f"{file}.partial"), _identity(predictor, layer, per_clip))
    done, total = partial.rows, len(videos)
    # Once for each: of a URL its server is asked, and a file may change meanwhile.
    keys = {video: _key(video) for video in dict.fromkeys(videos)}
    left = [video for video in videos if keys[video] not in done]

    def compute(video, workers):
        context = predictor.prepared_clips(video.path, segment=video.segment, workers=workers)
        with context as clips:
            one = map(lambda clip: predictor.clip_features(clip[np.newaxis], layer)[0], clips)
            rows = np.stack(list(one))
        return rows if per_clip else rows.mean(axis=0, keepdims=True)

    on_progress(total - len(left), total)
    answers = of_each_video(compute, left, num_workers=num_workers, time_limit=time_limit)
    with partial:
        for number, (video, rows, error) in enumerate(answers, start=total - len(left) + 1):
            if error is not None:
                on_failure(error)
            else:
                partial.add(keys[video], rows)
            on_progress(number, total)
    rows = {video: partial.rows.get(key) for video, key in keys.items()}
    found = _gathered(videos, rows, layer, per_clip)
    with _written(file):
        write_atomically(file, lambda temporary: _write(temporary, found))
    partial.remove()
    return found


def check_file_name(file: str | os.PathLike) -> Path:
    """The path of a file to write features to.

    Raises:
        UserError: its suffix says no format, or there is no such folder.
    """
    suffix = Path(file).suffix
    if not is_url(file) and suffix not in SUFFIXES:
        raise UserError(
            f"{file}: the name must end in {' or '.join(SUFFIXES)}, which is the format"
        )
    return check_local_file(file)


def check_local_file(file: str | os.PathLike) -> Path:
    """The path of a file to write on this machine.

    Raises:
        UserError: it is a URL or a folder, or there is no such folder.
    """
    if is_url(file):
        raise UserError(f"{without_secrets(os.fspath(file))}: give a file of this machine")
    file = Path(file)
    if not file.absolute().parent.is_dir():
        raise UserError(f"{file}: there is no folder {file.absolute().parent}")
    if file.is_dir():
        raise UserError(f"{file}: is a folder")
    return file


@contextlib.contextmanager
def _written(path):
    """What keeps a file from being written, in one line."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "message", error)
        raise UserError(f"{path} cannot be written: {one_line(str(reason))}") from None


def _key(video):
    """What tells a video, as it is now, from others."""
    try:
        if is_url(video.path):
            state = [file_size(video.path)]
        else:
            status = os.stat(video.path)
            state = [status.st_size, status.st_mtime_ns]
    except (OSError, UserError):
        state = []
    path = printable(without_secrets(absolute(video.path)))
    return json.dumps([path, video.segment, state])


def _identity(predictor, layer, per_clip):
    """What the features are of: the model's own answer to a fixed clip stands for its weights."""
    metadata = predictor.metadata
    shape = (1, metadata.sampling.num_frames, *metadata.preprocessing.size, 3)
    clip = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    answer = predictor.clip_features(predictor.prepare(clip), layer)[0]
    return {
        "layer": layer,
        "per_clip": per_clip,
        "num_clips": metadata.num_clips,
        "sampling": metadata.sampling.to_dict(),
        "preprocessing": metadata.preprocessing.to_dict(),
        "answer": [float(value) for value in answer],
    }


class _PartialFile:
    """What is done so far, on disk; a context in which rows are added.

    Attributes:
        rows: dict, key of a video -> float32 (clips, C).
    """

    def __init__(self, path, identity):
        self._path, self._identity = path, identity
        self.rows = {}
        self._read()

    def __enter__(self):
        with _written(self._path):
            # Written anew, as the last record of a killed run may be cut off.
            self._writer = tf.io.TFRecordWriter(f"{self._path}.new")
            self._writer.write(json.dumps(self._identity).encode())
            for key, rows in self.rows.items():
                self._write(key, rows)
            self._writer.flush()
            os.replace(f"{self._path}.new", self._path)
        return self

    def __exit__(self, *error):
        self._writer.close()

    def add(self, key, rows):
        self.rows[key] = rows
        with _written(self._path):
            self._write(key, rows)
            self._writer.flush()

    def remove(self):
        self._path.unlink(missing_ok=True)

    def _write(self, key, rows):
        self._writer.write(
            _example(key=key.encode(), shape=rows.shape, features=rows.ravel()).SerializeToString()
        )

    def _read(self):
        if not self._path.is_file():
            return
        records = iter(tf.data.TFRecordDataset(os.fspath(self._path)))
        try:
            if not _same(json.loads(next(records).numpy()), self._identity):
                return
            for record in records:
                found = tf.train.Example.FromString(record.numpy()).features.feature
                shape = found["shape"].int64_list.value
                rows = np.array(found["features"].float_list.value, np.float32).reshape(shape)
                self.rows[found["key"].bytes_list.value[0].decode()] = rows
        except (StopIteration, tf.errors.DataLossError):  # Cut off where the run was killed.
            return
        except (ValueError, KeyError, IndexError):  # Another file of that name.
            self.rows = {}


def _same(one, other):
    one, other = dict(one), dict(other)
    answers = np.array(one.pop("answer", [])), np.array(other.pop("answer"))
    plain = json.loads(json.dumps(other))
    return (
        one == plain
        and answers[0].shape == answers[1].shape
        and np.allclose(*answers, rtol=_SAME_MODEL, atol=_SAME_MODEL)
    )


def _gathered(videos, rows_of, layer, per_clip):
    names, rows, clips, segments = [], [], [], []
    for video in videos:
        own = rows_of[video]
        if own is None:
            continue
        names += [printable(without_secrets(video.path))] * len(own)
        rows.append(own)
        clips += list(range(len(own))) if per_clip else [-1]
        segments += [video.segment or (np.nan, np.nan)] * len(own)
    if not rows:
        raise UserError(f"none of the {len(videos)} videos could be decoded")
    return VideoFeatures(
        tuple(names),
        np.concatenate(rows),
        np.array(clips, np.int64),
        np.array(segments, np.float64),
        layer,
    )


def _write(path, found):
    if path.suffix == ".npz":
        np.savez(
            path,
            names=np.array(found.names),
            features=found.features,
            clips=found.clips,
            segments=found.segments,
            layer=np.array(found.layer),
        )
        return
    with tf.io.TFRecordWriter(os.fspath(path)) as writer:
        for name, row, clip, segment in zip(
            found.names, found.features, found.clips, found.segments, strict=True
        ):
            example = _example(
                name=name.encode(), features=row, clip=[int(clip)], segment=segment,
                layer=found.layer.encode(),
            )  # fmt: skip
            writer.write(example.SerializeToString())


def _example(**values):
    """A `tf.train.Example`: bytes, integers and floats by their type."""
    features = {}
    for name, value in values.items():
        if isinstance(value, bytes):
            features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        elif all(isinstance(item, int) for item in value):
            features[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=value))
        else:
            features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=value))
    return tf.train.Example(features=tf.train.Features(feature=features))
