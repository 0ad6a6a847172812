"""How long a training waits for its batches."""

import threading
import time

import numpy as np
import tensorflow as tf


class InputClock:
    """Measures the time that training steps wait for input, inside of tf.data.

    `fit` takes its batches inside a compiled function, so a callback sees only steps as a whole.
    Here the end of the pipeline notes when each batch was asked for and when it was handed out.
    Where something fetches batches ahead (several devices do), a step waits from its own begin at
    the earliest: a batch that is there before its step costs none of its time.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._noted = {}
        self._begun = {}
        self._next = 0
        self._waited = 0.0

    def timed(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """The same batches; each pass over them is noted, and the last one counts."""

        # Python's clock: TensorFlow's is refused where its operations are to be deterministic.
        def ask(number):
            return tf.numpy_function(_now, [number], [tf.int64, tf.float64], stateful=False)

        def hand_out(number_and_asked, batch):
            note = tf.numpy_function(self._note, number_and_asked, [])
            with tf.control_dependencies([note]):
                return tf.nest.map_structure(tf.identity, batch)

        # `zip` takes from its parts one after the other: the time is read, then the batch awaited.
        asked = tf.data.Dataset.counter().map(ask)
        timed = tf.data.Dataset.zip((asked, batches)).map(hand_out)
        options = tf.data.Options()
        # A buffer behind the clock would wait for the pipeline in the step's stead.
        options.experimental_optimization.inject_prefetch = False
        return timed.with_options(options)

    def restart(self):
        """A pass over the batches begins."""
        with self._lock:
            self._begun.clear()
            self._next = 0
            self._waited = 0.0

    def step_begins(self, batches: int = 1):
        """To be called right before a training step, which takes so many batches."""
        now = time.time()
        with self._lock:
            for _ in range(batches):
                self._begun[self._next] = now
                self._next += 1

    def waited(self) -> float:
        """Seconds that the steps begun since `restart` have waited, as far as they have a batch."""
        with self._lock:
            for number in [number for number in self._begun if number in self._noted]:
                asked, handed_out = self._noted.pop(number)
                self._waited += max(handed_out - max(asked, self._begun.pop(number)), 0.0)
            return self._waited

    def _note(self, number, asked):
        with self._lock:
            self._noted[int(number)] = float(asked), time.time()


def _now(number):
    return number, np.float64(time.time())
