"""Which callbacks the chief has, and which the others."""

import pytest

from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.errors import UserError
from mvit_tf.training.loop import callbacks
from mvit_tf.training.loop import worker_callbacks as module
from mvit_tf.training.loop.worker_callbacks import worker_callbacks


@pytest.fixture
def as_worker(monkeypatch):
    """Makes this process worker `index` of two."""

    def become(index):
        monkeypatch.setattr(module, "process_shard", lambda strategy: (index, 2))
        monkeypatch.setattr(module, "is_chief", lambda strategy: index == 0)

    return become


def test_only_the_chief_writes(as_worker, tmp_path):
    ledgers = {"training": OutcomeLedger(), "validation": OutcomeLedger(), "max_failure_share": 0.0}
    chiefs = [
        callbacks.NonFiniteCheck(None),
        callbacks.LedgerCheck(**ledgers, path=tmp_path / "outcomes.jsonl", state=None),
        callbacks.EpochLog(tmp_path / "log.csv"),
    ]
    assert worker_callbacks(None, chiefs, **ledgers) == chiefs
    names = {}
    for index in (0, 1):
        as_worker(index)
        own = worker_callbacks(None, chiefs, **ledgers)
        names[index] = [type(callback).__name__ for callback in own]
    assert names[0] == ["NonFiniteCheck", "GatherOutcomes", "LedgerCheck", "EpochLog"]
    assert names[1] == ["NonFiniteCheck", "GatherOutcomes", "FailureCheck"]


def test_a_follower_ends_with_the_chief_and_writes_nothing(as_worker, tmp_path):
    as_worker(1)
    training = OutcomeLedger()
    training.record("x", "empty_file", "no bytes")
    training.record("a")
    ledgers = {"training": training, "validation": OutcomeLedger(), "max_failure_share": 0.1}
    check = callbacks.LedgerCheck(**ledgers, path=tmp_path / "outcomes.jsonl", state=None)
    with pytest.raises(UserError, match="1 left out"):
        worker_callbacks(None, [check], **ledgers)[-1].on_epoch_end(0, {})
    assert not (tmp_path / "outcomes.jsonl").exists()
