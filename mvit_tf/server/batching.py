"""Clips of several requests through the model at once."""

import collections
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

# Clips of so many bytes together make a batch, however many more may be in one.
_BATCH_BYTES = 2**28


class ClipBatcher:
    """A thread that gathers clips and predicts those of the same size together.

    A batch is predicted once it is full, or once its first clip has waited long enough. Where a
    batch fails, its clips are tried one by one, so that none fails for another's sake.

    Args:
        predict: function of uint8 (B, T, H, W, 3) to float32 (B, K); called by one thread.
        max_batch_size: clips in a batch, at most.
        max_wait: seconds that a clip waits for others.
        observe: called with the size of each batch and the seconds that it took.
    """

    def __init__(
        self,
        predict: Callable[[np.ndarray], np.ndarray],
        *,
        max_batch_size: int,
        max_wait: float,
        observe: Callable[[int, float], None] = lambda size, seconds: None,
    ):
        self._predict = predict
        self._max_batch_size, self._max_wait = max_batch_size, max_wait
        self._observe = observe
        self._waiting = collections.deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="clip-batcher", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether clips are taken on."""
        return self._thread.is_alive() and not self._closed

    def submit(self, frames: np.ndarray) -> Future:
        """Hands in a clip, uint8 (T, H, W, 3); its probabilities, float32 (K,), come later.

        Raises:
            RuntimeError: after `close`.
        """
        future = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._waiting.append((time.monotonic(), frames, future))
            self._changed.notify()
        return future

    def close(self):
        """Predicts what waits, takes nothing more, and ends the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self):
        while batch := self._next_batch():
            batch = [(frames, f) for frames, f in batch if f.set_running_or_notify_cancel()]
            if batch:
                self._answer(batch)
            # Clips are large, and the next ones may be long in coming.
            del batch

    def _next_batch(self):
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if not self._waiting:
                return []
            arrived, first, _ = self._waiting[0]
            most = min(self._max_batch_size, max(_BATCH_BYTES // first.nbytes, 1))
            while not self._closed:
                left = arrived + self._max_wait - time.monotonic()
                if left <= 0 or self._count(first.shape) >= most:
                    break
                self._changed.wait(left)
            return self._take(first.shape, most)

    def _count(self, shape):
        return sum(frames.shape == shape for _, frames, _ in self._waiting)

    def _take(self, shape, most):
        taken, left = [], collections.deque()
        for entry in self._waiting:
            if entry[1].shape == shape and len(taken) < most:
                taken.append(entry[1:])
            else:
                left.append(entry)
        self._waiting = left
        return taken

    def _answer(self, batch):
        start = time.monotonic()
        try:
            rows = self._predict(np.stack([frames for frames, _ in batch]))
        except Exception as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            for entry in batch:
                self._answer([entry])
            return
        self._observe(len(batch), time.monotonic() - start)
        for (_, future), row in zip(batch, rows, strict=True):
            future.set_result(row)
