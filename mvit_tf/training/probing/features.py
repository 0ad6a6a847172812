"""Features of videos, what a model's head is given of each view: computed once, then kept.

They lie in parts under a folder whose name tells weights, preprocessing and views, and within a
part by the content of the videos: whatever changes is computed anew, and nothing else.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from mvit_tf.data.lists.content import checksum, of_all
from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.data.outcomes import OK, OutcomeLedger
from mvit_tf.data.video.decode_workers import DecodeWorkers
from mvit_tf.errors import UserError
from mvit_tf.files import local_copy, write_atomically
from mvit_tf.models import MViT
from mvit_tf.remote_path import RemotePath
from mvit_tf.training.experiments.clips import validation_views
from mvit_tf.training.experiments.experiment import Experiment

_HEAD = "head"
_MISSING = "missing"
# What another try may mend is not kept.
_MAY_RECOVER = (_MISSING, "decoder_timeout", "decoder_crash")
_VIDEOS_A_PART = 32
_SECONDS_A_PART = 60
_SECONDS_A_LINE = 30


@dataclasses.dataclass(frozen=True)
class Features:
    """The features of a list of videos.

    Attributes:
        rows: float32 (n, C), of all views, video after video.
        video_index: int (n,), the video of each row; one that could not be decoded has none.
    """

    rows: np.ndarray
    video_index: np.ndarray

    def num_views(self, num_videos: int) -> np.ndarray:
        """int (num_videos,): the rows of each video."""
        return np.bincount(self.video_index, minlength=num_videos)


class FeatureStore:
    """The parts of one folder.

    Args:
        directory: made with the first part.
    """

    def __init__(self, directory: Path | RemotePath):
        self._directory = directory

    def load(self) -> dict[str, tuple[np.ndarray, dict]]:
        """Features (views, C) and outcome of every video that is kept, by its content.

        A part that cannot be read is passed over: its videos are computed again.
        """
        videos = {}
        for path in self._parts():
            try:
                with local_copy(path) as local, np.load(local) as part:
                    entries = json.loads(str(part["entries"]))
                    ends = np.cumsum([entry["views"] for entry in entries])
                    rows = np.split(part["features"], ends[:-1])
            except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
                logging.warning(f"{path} cannot be read ({error}); its features are computed again")
                continue
            videos |= {
                entry["content"]: (own, entry) for own, entry in zip(rows, entries, strict=True)
            }
        return videos

    def add(self, videos: Mapping[str, tuple[np.ndarray, dict]]):
        """Writes one more part, whole or not at all."""
        number = 1 + max((int(path.name.split(".")[0]) for path in self._parts()), default=0)
        entries = [
            {**entry, "content": content, "views": len(rows)}
            for content, (rows, entry) in videos.items()
        ]
        features = np.concatenate([rows for rows, _ in videos.values()])
        write_atomically(
            self._directory / f"{number:05}.npz",
            lambda path: np.savez(path, features=features, entries=json.dumps(entries)),
        )

    def _parts(self):
        if not self._directory.is_dir():
            return []
        names = [path for path in self._directory.iterdir() if path.name.endswith(".npz")]
        return sorted((path for path in names if path.name[:-4].isdigit()), key=lambda p: p.name)


def feature_key(experiment: Experiment, model: MViT, *, mirrored: bool) -> str:
    """Tells everything but the videos that features depend on, as the name of a folder."""
    digest = hashlib.sha256()
    for variable in sorted(model.weights, key=lambda variable: variable.path):
        if not variable.path.startswith(f"{_HEAD}/"):
            digest.update(variable.path.encode())
            digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).tobytes())
    facts = {
        "weights": digest.hexdigest(),
        # Of no effect without training, or of the head alone.
        "model": model.config.replace(
            num_classes=1, drop_path_rate=0.0, head_dropout_rate=0.0
        ).to_dict(),
        "dtype": experiment.train.dtype,
        "preprocessing": experiment.preprocessing().to_dict(),
        "sampling": experiment.clip_sampling().to_dict(),
        "clips": experiment.data.evaluation_clips,
        "crops": experiment.data.evaluation_crops,
        "mirrored": mirrored,
        "tolerated_damage": experiment.data.tolerated_damage,
    }
    text = json.dumps(facts, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def video_features(
    experiment: Experiment,
    model: MViT,
    videos: VideoList,
    directory: Path | RemotePath,
    *,
    mirrored: bool,
    ledger: OutcomeLedger,
    workers: DecodeWorkers | None,
) -> Features:
    """Features of the views that evaluation takes of each video.

    Args:
        experiment: which frames make a view, `data.evaluation_clips` and `.evaluation_crops` of
            each video, and how many are computed at once.
        model: whose head's input they are.
        videos: the videos.
        directory: where features are kept; what is there is not computed again.
        mirrored: take of each view its mirror image too.
        ledger: notes what becomes of each video.
        workers: as `decode_workers` gives them.

    Raises:
        UserError: no video can be decoded.
    """
    store = FeatureStore(directory / feature_key(experiment, model, mirrored=mirrored))
    contents = _contents(videos)
    known = store.load()
    wanted = []
    for index, content in enumerate(contents):
        if content is None:
            ledger.record(videos.name(index), _MISSING, "cannot be read")
        elif content in known:
            entry = known[content][1]
            ledger.record(
                videos.name(index), entry["outcome"], entry["detail"], damaged=entry["damaged"]
            )
        else:
            wanted.append(index)
    if wanted:
        step = _FeatureStep(model, mirrored, experiment.evaluation_batch_size)
        names = [videos.name(index) for index in wanted]
        computed = _computed(experiment, step, videos.subset(wanted), ledger, workers)
        # Closed whatever happens, so that nothing is decoded after the workers have ended.
        with contextlib.closing(computed):
            known |= _kept(
                store,
                (
                    (contents[wanted[place]], rows, _entry(ledger, names[place]))
                    for place, rows in computed
                ),
            )
    if len(ledger.failures) == len(videos):
        raise ledger.nothing_decoded()
    rows = [
        np.zeros((0, model.config.output_dim), np.float32) if c is None else known[c][0]
        for c in contents
    ]
    counts = [len(own) for own in rows]
    return Features(np.concatenate(rows), np.repeat(np.arange(len(videos)), counts))


def _contents(videos):
    """What tells each video whatever its name; None where it cannot be read."""
    checksums = of_all(checksum, videos.paths)
    return [
        None if checksums[path] is None else f"{checksums[path]} {videos.segment(index)}"
        for index, path in enumerate(videos.paths)
    ]


def _entry(ledger, name):
    outcome, detail = ledger.outcomes.get(name, (OK, ""))
    damaged = ledger.partial.get(name, (0.0, ""))[0]
    return {"outcome": outcome, "detail": detail, "damaged": damaged}


def _kept(store, computed):
    """Features and outcome by content of all that is `computed`, written down meanwhile."""
    videos, part, since = {}, {}, time.monotonic()
    try:
        for content, rows, entry in computed:
            videos[content] = rows, entry
            if entry["outcome"] not in _MAY_RECOVER:
                part[content] = rows, entry
            if len(part) >= _VIDEOS_A_PART or time.monotonic() - since > _SECONDS_A_PART:
                full, part, since = part, {}, time.monotonic()
                store.add(full)
    finally:
        if part:
            store.add(part)
    return videos


class _FeatureStep:
    """Views (b, T, H, W, 3) or (b, H, W, 3), b at most `batch_size`, to features.

    They are (b, C), or with mirror images (2 * b, C), a view's side by side.
    """

    def __init__(self, model, mirrored, batch_size):
        extractor = keras.Model(model.input, model.get_layer(_HEAD).input)
        self.none = np.zeros((0, model.config.output_dim), np.float32)
        self._batch_size = batch_size
        self._each = 2 if mirrored else 1

        @tf.function
        def features(views):
            found = tf.cast(extractor(views, training=False), tf.float32)
            if not mirrored:
                return found
            images = tf.cast(extractor(tf.reverse(views, axis=[-2]), training=False), tf.float32)
            return tf.reshape(tf.stack([found, images], axis=1), [2 * batch_size, -1])

        self._features = features

    def __call__(self, views):
        number = int(views.shape[0])
        # Filled up: the function is traced for one shape.
        filled = tf.pad(views, [[0, self._batch_size - number]] + [[0, 0]] * (views.ndim - 1))
        return self._features(filled).numpy()[: number * self._each]


def _computed(experiment, step, videos, ledger, workers):
    """Yields (place in the list, features) of each video in order; none where it has no view."""
    progress = _ProgressLines(len(videos))
    views = validation_views(
        experiment,
        videos,
        batch_size=experiment.evaluation_batch_size,
        ledger=ledger,
        workers=workers,
        num_clips=experiment.data.evaluation_clips,
        num_crops=experiment.data.evaluation_crops,
    )
    place, rows = 0, [step.none]

    def settled(end):
        """Those before `end`, whose views have all been seen."""
        nonlocal place, rows
        while place < end:
            yield place, np.concatenate(rows)
            place, rows = place + 1, [step.none]

    try:
        with ledger.user_errors():
            for batch, video_index in views:
                features = step(batch)
                each = len(features) // len(video_index)
                for view, index in enumerate(video_index.numpy()):
                    yield from settled(int(index))
                    rows.append(features[view * each : (view + 1) * each])
                progress.tell(place)
    except UserError:
        # All of these fail; among those kept there may be others.
        if not all(ledger.failure(videos.name(index)) for index in range(len(videos))):
            raise
    yield from settled(len(videos))


class _ProgressLines:
    """Says every half minute how many videos are done and how long the others will take."""

    def __init__(self, number):
        self._number = number
        self._start = self._told = time.monotonic()

    def tell(self, done):
        now = time.monotonic()
        if now - self._told < _SECONDS_A_LINE or not done:
            return
        self._told = now
        each = (now - self._start) / done
        left = math.ceil(each * (self._number - done) / 60)
        logging.info(
            f"features    {done} of {self._number} videos, {each:.1f} s a video, about {left} "
            "min left; stopped, the same command goes on from here"
        )
