"""Peak memory of loading videos, as training, evaluation and prediction do it."""

import os

import numpy as np

from benchmarks.input_workload import dataset, preprocessing_of
from benchmarks.process_tree import descendants, memory_bytes
from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.data.pipeline import evaluation_views
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.data.video.decode_workers import DecodeWorkers
from mvit_tf.export.metadata import ExportMetadata
from mvit_tf.export.predictor import ModelPredictor, SavedModelPredictor, VideoPredictor

_INPUT_SIZE = (16, 224, 224)
_CLASS_NAMES = ("one", "two")


def peak(*, use, files, clips, threads):
    """Loads the videos once, without any model, so that only loading is measured.

    Args:
        use: "train" (batches of so many clips), "evaluate", "predict" or "predict export" (so
            many clips of each video).
        files: paths.
        clips: int.
        threads: videos and decode workers at the same time, but one at a time in prediction.

    Returns:
        bytes: `start` (of the process with all imported), `process` and `workers` (the peaks, all
        workers together).
    """
    own = os.getpid()
    start = memory_bytes(own, "VmRSS")
    with DecodeWorkers(1 if use.startswith("predict") else threads) as workers:
        _USES[use](files, clips, threads, workers)
        used = [memory_bytes(pid, "VmHWM") for pid in descendants(own)]
    return {"start": start, "process": memory_bytes(own, "VmHWM"), "workers": sum(used)}


def _train(files, clips, threads, workers):
    # Every batch whole: as many videos as clips at least.
    files = files * -(-max(clips, len(files)) // len(files))
    for _ in dataset(files, _INPUT_SIZE, clips, threads, 2, OutcomeLedger(), workers=workers):
        pass


def _evaluate(files, clips, threads, workers):
    views = evaluation_views(
        VideoList(tuple(files), (0,) * len(files), _CLASS_NAMES),
        sampling=ClipSampling(_INPUT_SIZE[0]),
        preprocessing=preprocessing_of(_INPUT_SIZE),
        num_clips=clips,
        num_crops=1,
        batch_size=clips,
        ledger=OutcomeLedger(),
        workers=workers,
        num_parallel=threads,
    )
    for _ in views:
        pass


def _predict(predictor):
    def run(files, clips, threads, workers):
        metadata = ExportMetadata(
            model_name="none",
            class_names=_CLASS_NAMES,
            preprocessing=preprocessing_of(_INPUT_SIZE),
            sampling=ClipSampling(_INPUT_SIZE[0]),
            num_clips=clips,
        )
        predictor(metadata).predict_videos(files, workers=workers)

    return run


class _WithoutModel:
    def __init__(self, metadata):
        VideoPredictor.__init__(self, metadata)

    def _probabilities(self, frames):
        return np.full((1, len(_CLASS_NAMES)), 0.5, np.float32)


class _Predictor(_WithoutModel, ModelPredictor):
    """Decodes and preprocesses as a model in memory needs it."""


class _ExportPredictor(_WithoutModel, SavedModelPredictor):
    """Decodes as an export needs it, whose graph does the preprocessing."""


_USES = {
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict(_Predictor),
    "predict export": _predict(_ExportPredictor),
}
USES = tuple(_USES)
