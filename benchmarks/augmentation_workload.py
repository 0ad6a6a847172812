"""What the augmentations of a training clip cost, in TensorFlow's graph."""

import time

import numpy as np
import tensorflow as tf

from mvit_tf.data.preprocessing import Augmentation, Preprocessing
from mvit_tf.data.transforms import augment


def build(*, threads, input_size, clips, augmentation):
    """The workload, see `benchmarks.worker`: an iteration is so many clips, one by one.

    Args:
        threads: of TensorFlow.
        input_size: (T, H, W).
        clips: int, each with a seed of its own.
        augmentation: fields of `Augmentation`.
    """
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    return _Augment(input_size, clips, Augmentation(**augmentation))


class _Augment:
    def __init__(self, input_size, clips, augmentation):
        num_frames, *size = input_size
        preprocessing = Preprocessing(size=tuple(size), short_side=min(size))
        noise = np.random.default_rng(0).uniform(0, 255, (num_frames, *size, 3))
        self._clip = tf.constant(noise, tf.float32)
        self._count = clips
        self._augment = tf.function(
            lambda clip, seed: augment(clip, preprocessing, augmentation, seed),
            input_signature=[
                tf.TensorSpec(self._clip.shape, tf.float32),
                tf.TensorSpec([2], tf.int32),
            ],
        )

    def step(self):
        """Seconds of the clock and of the processors for each clip."""
        seconds, cpu_seconds = [], []
        for number in range(self._count):
            seed = tf.constant([number, 0])
            started, worked = time.perf_counter(), time.process_time()
            self._augment(self._clip, seed).numpy()
            seconds.append(time.perf_counter() - started)
            cpu_seconds.append(time.process_time() - worked)
        return {"seconds": seconds, "cpu_seconds": cpu_seconds}
