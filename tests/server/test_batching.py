"""Clips of several requests through the model at once."""

import threading
import time

import numpy as np
import pytest

from mvit_tf.server.batching import ClipBatcher


def clip(value, size=2):
    return np.full((1, size, size, 3), value, np.uint8)


class Model:
    """A batch's means, after `go_on`; a 13 in a batch is too much for it."""

    def __init__(self):
        self.sizes, self.go_on, self.asked = [], threading.Event(), threading.Event()

    def __call__(self, batch):
        self.asked.set()
        assert self.go_on.wait(30)
        self.sizes.append(len(batch))
        if (batch == 13).any():
            raise ValueError("thirteen")
        return batch.mean(axis=(1, 2, 3, 4), dtype=np.float32)[:, None]


@pytest.fixture
def batched():
    model, seen = Model(), []
    batcher = ClipBatcher(
        model, max_batch_size=3, max_wait=0.0, observe=lambda size, seconds: seen.append(size)
    )
    # It waits in the first clip while the others come.
    first = batcher.submit(clip(1))
    assert model.asked.wait(30)
    yield batcher, model, seen, first
    model.go_on.set()
    batcher.close()


def test_clips_of_a_size_share_batches_and_each_gets_its_own_row(batched):
    batcher, model, seen, first = batched
    futures = [batcher.submit(clip(value)) for value in (2, 3)]
    futures.append(batcher.submit(clip(4, size=3)))
    futures += [batcher.submit(clip(value)) for value in (5, 6)]
    model.go_on.set()
    assert [float(f.result(30)[0]) for f in (first, *futures)] == [1, 2, 3, 4, 5, 6]
    assert model.sizes == seen == [1, 3, 1, 1]


def test_a_clip_that_fails_takes_no_other_with_it_and_a_cancelled_one_is_not_predicted(batched):
    batcher, model, seen, first = batched
    futures = [batcher.submit(clip(value)) for value in (2, 13, 7, 8)]
    assert futures[3].cancel()
    model.go_on.set()
    assert [float(futures[index].result(30)[0]) for index in (0, 2)] == [2, 7]
    with pytest.raises(ValueError, match="thirteen"):
        futures[1].result(30)
    assert model.sizes == [1, 3, 1, 1, 1]


def test_a_clip_waits_no_longer_than_it_has_to():
    batcher = ClipBatcher(lambda batch: batch[:, 0, 0, 0], max_batch_size=2, max_wait=0.5)
    start = time.monotonic()
    batcher.submit(clip(1)).result(30)
    assert time.monotonic() - start > 0.45
    batcher.close()
    batcher = ClipBatcher(lambda batch: batch[:, 0, 0, 0], max_batch_size=2, max_wait=30)
    start = time.monotonic()
    futures = [batcher.submit(clip(value)) for value in (1, 2)]
    assert [int(future.result(30)[0]) for future in futures] == [1, 2]
    assert time.monotonic() - start < 15
    batcher.close()
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(clip(1))
