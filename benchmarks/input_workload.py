"""Ours loading videos: the training pipeline, its stages, and training fed by it."""

import contextlib
import itertools
import time

import numpy as np
import tensorflow as tf

from benchmarks.cases import Case
from benchmarks.tensorflow_workload import training_step
from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.data.pipeline import train_dataset
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.data.transforms import Augmentation, Preprocessing, training_preprocess
from mvit_tf.data.video.decode_workers import DecodeWorkers
from mvit_tf.data.video.decoding import open_video

_SEED = 0


def build(*, kind, threads, **options):
    """The workload of a kind, see `benchmarks.worker`.

    Args:
        kind: "pipeline", "stages" or "training".
        threads: processors to use.
        **options: of the kind's class.
    """
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    kinds = {"pipeline": _Pipeline, "stages": _Stages, "training": _Training}
    return kinds[kind](threads=threads, **options)


def dataset(files, input_size, batch, threads, epochs, ledger, *, workers=None, **augmentation):
    return train_dataset(
        VideoList(tuple(files), (0,) * len(files), ("all",)),
        sampling=ClipSampling(input_size[0]),
        preprocessing=preprocessing_of(input_size),
        augmentation=Augmentation(**augmentation),
        batch_size=batch,
        epochs=epochs,
        seed=_SEED,
        ledger=ledger,
        workers=workers,
        num_parallel=threads,
    )


def preprocessing_of(input_size):
    return Preprocessing(size=tuple(input_size[1:]), short_side=max(256, *input_size[1:]))


class _Pipeline:
    """An iteration is an epoch, always the same, and nothing is loaded between iterations."""

    def __init__(self, *, files, input_size, batch, threads, in_processes=True, **augmentation):
        self._ledger = OutcomeLedger()
        workers = DecodeWorkers(threads) if in_processes else None
        self._dataset = dataset(
            files, input_size, batch, threads, 1, self._ledger, workers=workers, **augmentation
        )

    def step(self):
        """Clips loaded."""
        with self._ledger.user_errors():
            return sum(int(clips.shape[0]) for clips, _ in self._dataset)


class _Stages:
    """A clip of every file, one after the other on one thread, with a clock at each stage.

    A seek counts the first frame at the keyframe, which comes with it; colour conversion is of
    the wanted frames alone; `resize` is the crop, resize, flip and normalisation.
    """

    def __init__(self, *, files, input_size, threads):
        self._files = files
        self._sampling = ClipSampling(input_size[0])
        preprocessing, augmentation = preprocessing_of(input_size), Augmentation()
        self._preprocess = tf.function(
            lambda frames, seed: training_preprocess(frames, preprocessing, augmentation, seed),
            input_signature=[
                tf.TensorSpec([input_size[0], None, None, 3], tf.uint8),
                tf.TensorSpec([2], tf.int32),
            ],
        )

    def step(self):
        """Seconds a clip in each stage."""
        clock = _Clock()
        rng = np.random.default_rng(_SEED)
        for path in self._files:
            with contextlib.ExitStack() as stack:
                with clock("open"):
                    reader = stack.enter_context(open_video(path))
                _time_stages(reader, clock)
                info = reader.info
                indices = self._sampling.training_indices(info.num_frames, info.fps, rng)
                frames = reader.frames_at_indices(indices)
            with clock("resize"):
                self._preprocess(frames, rng.integers(0, 2**31, 2, np.int32)).numpy()
        return {stage: seconds / len(self._files) for stage, seconds in clock.seconds.items()}


def _time_stages(reader, clock):
    """Puts a clock around the reader's own stages."""
    for name, stage in (("_restart", "seek"), ("_advance", "decode"), ("_rgb", "colour")):
        setattr(reader, name, clock.timed(stage, getattr(reader, name)))


class _Clock:
    def __init__(self):
        self.seconds = dict.fromkeys(("open", "seek", "decode", "colour", "resize"), 0.0)

    @contextlib.contextmanager
    def __call__(self, stage):
        started = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - started

    def timed(self, stage, function):
        def call(*arguments):
            with self(stage):
                return function(*arguments)

        return call


class _Training:
    """An iteration is some training steps on what the pipeline yields."""

    def __init__(self, *, files, case, steps, threads):
        case = Case(**case)
        config = case.config()
        self._step = training_step(case.build_model())
        self._targets = tf.one_hot(tf.zeros(case.batch, tf.int32), config.num_classes)
        self._count = steps
        # More epochs than any run takes.
        self._batches = iter(
            dataset(files, config.input_size, case.batch, threads, 10**6, OutcomeLedger())
        )

    def step(self):
        """Seconds spent waiting for data, and in all."""
        waited, started = 0.0, time.perf_counter()
        for _ in itertools.repeat(None, self._count):
            asked = time.perf_counter()
            clips, _ = next(self._batches)
            waited += time.perf_counter() - asked
            float(self._step(clips, self._targets))
        return {"waiting": waited, "total": time.perf_counter() - started}
