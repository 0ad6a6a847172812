"""What workers send each other, and how the loss of one is told."""

import numpy as np
import pytest
import tensorflow as tf

from mvit_tf.cli.startup import run_cli
from mvit_tf.training.distributed import worker_exchange
from mvit_tf.training.distributed.worker_exchange import (
    WorkerLostError,
    gather_bytes,
    gather_json,
    gather_scores,
    lost_workers,
    wait_for_all,
)


@pytest.fixture
def second_of_three(monkeypatch):
    monkeypatch.setattr(worker_exchange, "process_shard", lambda strategy: (1, 3))


def test_one_machine_sends_nothing():
    assert gather_bytes(None, b"x") == [b"x"]
    assert gather_json(None, {"a": 1}) == [{"a": 1}]
    scores, counts = np.ones((2, 3)), np.ones(2, int)
    assert gather_scores(None, scores, counts) == (scores, counts)
    wait_for_all(None)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 63, 64, 65, 1000])
def test_bytes_of_any_number_come_whole(second_of_three, monkeypatch, size):
    class Strategy:
        """Stands for one whose other workers send what this one does, in any order."""

        num_replicas_in_sync = 6

        def experimental_distribute_values_from_function(self, function):
            context = tf.distribute.get_replica_context()
            rows = []
            for replica in (2, 3):
                monkeypatch.setattr(type(context), "replica_id_in_sync_group", replica)
                rows.append(function(context).numpy())
            return rows

    def gather(strategy, length):
        def rows(own):
            first, second = own
            assert first[0, 0] == 1 and second[0, 0] == -1
            others = [np.where(np.arange(first.shape[1]) == 0, n, first) for n in (2, 0)]
            return tf.constant(np.concatenate([others[0], second, first, others[1]]))

        return rows

    monkeypatch.setattr(worker_exchange, "_gather", gather)
    content = np.random.default_rng(size).bytes(size)
    assert gather_bytes(Strategy(), content) == [content] * 3


def test_scores_of_three_workers_are_put_together(second_of_three, monkeypatch):
    scores = np.random.default_rng(0).random((5, 4))
    views = np.array([2, 1, 0, 3, 1])  # of the third video nothing
    scores[2] = 0
    parts = []
    for share in ([0, 3], [1, 4], [2]):
        counts = np.zeros(5, int)
        counts[share] = views[share]
        sent = []
        monkeypatch.setattr(
            worker_exchange, "gather_bytes", lambda _, part, sent=sent: (sent.append(part), [])[1]
        )
        gather_scores(None, np.where(counts[:, None] > 0, scores, 0.0), counts)
        parts.append(sent)
    sent = iter(zip(*parts, strict=True))
    monkeypatch.setattr(worker_exchange, "gather_bytes", lambda _, part: list(next(sent)))
    found, counts = gather_scores(None, np.zeros((5, 4)), np.zeros(5, int))
    assert (found == scores).all() and (counts == views).all()


def fail(error):
    with lost_workers(None):
        raise error


def test_a_lost_worker_is_one_line_and_a_status_of_its_own(second_of_three, capsys):
    error = tf.errors.UnavailableError(None, None, "node CollectiveReduceV2: Socket closed")
    assert run_cli(lambda: fail(error)) == WorkerLostError.exit_status == 75
    said = capsys.readouterr().err
    assert said.startswith("error: worker 1: another of the 3 workers has ended")
    assert said.count("\n") == 1


def test_what_is_no_lost_worker_stays(second_of_three, monkeypatch):
    for error in (
        tf.errors.UnavailableError(None, None, "gs://bucket: Socket closed"),
        tf.errors.InvalidArgumentError(None, None, "Collective"),
    ):
        with pytest.raises(type(error)):
            fail(error)
    monkeypatch.setattr(worker_exchange, "process_shard", lambda strategy: (0, 1))
    with pytest.raises(tf.errors.UnavailableError):
        fail(tf.errors.UnavailableError(None, None, "Collective"))


def test_contents_of_many_sizes_are_gathered_without_a_warning(caplog):
    """TensorFlow warns of a function that is traced often."""
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    tf.get_logger().addHandler(caplog.handler)
    try:
        for size in range(1, 15):
            (row,) = worker_exchange._gather_rows(strategy, np.arange(size), 0, 1)
            assert row.tolist() == [0, *range(size)]
    finally:
        tf.get_logger().removeHandler(caplog.handler)
    assert "retracing" not in caplog.text
