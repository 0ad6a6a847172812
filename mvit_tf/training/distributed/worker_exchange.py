"""What the workers of several machines tell each other: bytes, sums, and that one is gone.

Everything here is done by all workers at the same place of the program, or it waits. On one
machine nothing is sent.
"""

import contextlib
import functools
import json
import zlib
from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow as tf

from mvit_tf.errors import UserError
from mvit_tf.training.distributed.distribution import process_shard

# Sent as numbers that every device and every kind of collective takes.
_WORD = np.int64
_NONE = -1
# What TensorFlow says of a worker that cannot be reached comes as one of these, with a word of
# the operation that waited for it: a video on a server that is gone may fail likewise.
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)
_OF_WORKERS = ("collective", "coordination")


class WorkerLostError(UserError):
    """Another worker of the training has ended or cannot be reached.

    No mistake of the user's: the same command on every machine goes on. Command lines exit with
    the status `EX_TEMPFAIL` of sysexits.h.
    """

    exit_status = 75


def gather_bytes(strategy: tf.distribute.Strategy | None, content: bytes) -> list[bytes]:
    """What each worker gave, in the order of the workers."""
    index, number = process_shard(strategy)
    if number == 1:
        return [content]
    replicas = strategy.num_replicas_in_sync // number
    longest = max(int(row[1]) for row in _gather_rows(strategy, [len(content)], index, replicas))
    # Of few different lengths, as each is traced once.
    words = np.zeros(1 + 2 ** (longest // 8).bit_length(), _WORD)
    words[0] = len(content)
    words[1:].view(np.uint8)[: len(content)] = np.frombuffer(content, np.uint8)
    found = _gather_rows(strategy, words, index, replicas)
    return [row[2:].view(np.uint8)[: row[1]].tobytes() for row in found]


def gather_json(strategy: tf.distribute.Strategy | None, value) -> list:
    """What each worker gave, plain data, in the order of the workers."""
    # The names of a large set's videos repeat themselves.
    content = zlib.compress(json.dumps(value).encode(), level=1)
    return [json.loads(zlib.decompress(found)) for found in gather_bytes(strategy, content)]


def agreed(strategy: tf.distribute.Strategy | None, number: int) -> int:
    """The largest of the numbers that the workers gave."""
    index, count = process_shard(strategy)
    if count == 1:
        return number
    rows = _gather_rows(strategy, [number], index, strategy.num_replicas_in_sync // count)
    return max(int(row[1]) for row in rows)


def wait_for_all(strategy: tf.distribute.Strategy | None):
    """Returns once every worker has come here."""
    gather_bytes(strategy, b"")


def gather_scores(
    strategy: tf.distribute.Strategy | None, scores: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The scores of all workers' videos together.

    Args:
        scores: float64 (videos, K); zeros but for the videos of this worker.
        counts: int (videos,), its views of each, likewise.

    Returns:
        The same two arrays on every worker, bit by bit what was given.
    """
    if process_shard(strategy)[1] == 1:
        return scores, counts
    own = np.flatnonzero(counts)
    content = (
        own.astype("<i8").tobytes(),
        counts[own].astype("<i8").tobytes(),
        scores[own].tobytes(),
    )
    scores, counts = np.zeros_like(scores), np.zeros_like(counts)
    for videos, views, rows in zip(
        *(gather_bytes(strategy, part) for part in content), strict=True
    ):
        videos = np.frombuffer(videos, "<i8")
        counts[videos] = np.frombuffer(views, "<i8")
        scores[videos] = np.frombuffer(rows, scores.dtype).reshape(-1, scores.shape[1])
    return scores, counts


def gather_rows(
    strategy: tf.distribute.Strategy | None, arrays: Mapping[str, np.ndarray]
) -> Mapping[str, np.ndarray]:
    """The rows of all workers' arrays, which have the same names and columns.

    Args:
        arrays: all with as many rows, `video` (rows,) among them: the rows are ordered by it, those
            of one video as its worker has them.
    """
    if process_shard(strategy)[1] == 1:
        return arrays
    together = {
        name: np.concatenate(
            [
                np.frombuffer(content, array.dtype).reshape(-1, *array.shape[1:])
                for content in gather_bytes(strategy, np.ascontiguousarray(array).tobytes())
            ]
        )
        for name, array in arrays.items()
    }
    order = np.argsort(together["video"], kind="stable")
    return {name: array[order] for name, array in together.items()}


@contextlib.contextmanager
def lost_workers(strategy: tf.distribute.Strategy | None) -> Iterator[None]:
    """Context in which a worker that is gone is told in one line.

    Raises:
        WorkerLostError: one was lost.
    """
    try:
        yield
    except _LOST as error:
        index, number = process_shard(strategy)
        if number == 1 or not any(word in error.message.lower() for word in _OF_WORKERS):
            raise
        raise WorkerLostError(
            f"worker {index}: another of the {number} workers has ended or cannot be reached (its "
            "own output says why); run the same command on all machines to go on from the last "
            "checkpoint"
        ) from error


def _gather_rows(strategy, words, index, replicas) -> list[np.ndarray]:
    """One row of each worker, its index before the words; in the order of the workers."""
    words = np.asarray(words, _WORD)

    def row(context):
        # A worker speaks by the first of its devices.
        first = context.replica_id_in_sync_group % replicas == 0
        return tf.constant(np.concatenate([[index if first else _NONE], words])[None], tf.int64)

    values = strategy.experimental_distribute_values_from_function(row)
    rows = _gather(strategy, words.size)(values).numpy()
    rows = rows[rows[:, 0] != _NONE]
    return list(np.ascontiguousarray(rows[np.argsort(rows[:, 0])]))


@functools.lru_cache(maxsize=64)
def _gather(strategy, length):
    """The function that gathers rows of one length.

    TensorFlow warns of one that is traced anew again and again. It takes those of the same code for
    one; a `partial` has no code.
    """
    return tf.function(functools.partial(strategy.gather, axis=0), autograph=False)
