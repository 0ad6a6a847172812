"""What the chief does, what the others do, and the account of all of them."""

import keras
import pytest

from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.errors import UserError
from mvit_tf.training import callbacks, worker_roles
from mvit_tf.training.checkpoints import Progress
from mvit_tf.training.model_directory import ModelDirectory
from mvit_tf.training.worker_roles import FollowerDirectory, SharedLedger, worker_callbacks
from tests.training.tiny import tiny_model


@pytest.fixture
def as_worker(monkeypatch):
    """Makes this process worker `index` of two."""

    def become(index):
        monkeypatch.setattr(worker_roles, "process_shard", lambda strategy: (index, 2))
        monkeypatch.setattr(worker_roles, "is_chief", lambda strategy: index == 0)

    return become


def ledger_of(epoch, *clips):
    ledger = OutcomeLedger()
    for position, path, bad in clips:
        if bad:
            ledger.record(bad, "empty_file", "no bytes")
        ledger.record(path)
        failed = [(bad, "empty_file", "no bytes")] if bad else []
        ledger.record_clip(epoch, position, path, "ok", failed)
    return ledger


def test_the_account_of_two_workers_is_that_of_one(monkeypatch):
    clips = [(0, "a", None), (1, "b", "x"), (2, "c", None), (3, "a", "y")]
    whole, one, two = (ledger_of(5, *c) for c in (clips, clips[1::2], clips[0::2]))
    expected = whole.epoch_entries(5)

    def gather(strategy, value):
        # `one` is last asked for, and gathers beside what `two` would send.
        return [[two.entries(), two.epoch_entries(5)], value]

    monkeypatch.setattr(worker_roles, "gather_json", gather)
    shared = SharedLedger(None, one)
    shared.gather(5)
    assert shared.epoch_entries(5) == expected
    assert expected[0]["clips"] == 4 and [entry["path"] for entry in expected[1:]] == ["x", "y"]
    assert sorted(map(str, shared.entries())) == sorted(map(str, whole.entries()))
    assert shared.failures.keys() == {"x", "y"}
    # Of the five videos of both two are bad; of the four of one worker, two.
    shared.check(0.4)
    with pytest.raises(UserError, match="5 videos, 2 left out"):
        shared.check(0.39)


def test_only_the_chief_writes(as_worker, tmp_path):
    ledgers = {"training": OutcomeLedger(), "validation": OutcomeLedger(), "max_failure_share": 0.0}
    chiefs = [
        callbacks.NonFiniteLossStop(steps_per_epoch=1),
        callbacks.LedgerCheck(**ledgers, path=tmp_path / "outcomes.jsonl"),
        callbacks.EpochLog(tmp_path / "log.csv"),
        keras.callbacks.TensorBoard(tmp_path),
    ]
    assert worker_callbacks(None, chiefs, **ledgers) == chiefs
    names = {}
    for index in (0, 1):
        as_worker(index)
        own = worker_callbacks(None, chiefs, **ledgers)
        names[index] = [type(callback).__name__ for callback in own]
    assert names[0] == [
        *("NonFiniteLossStop", "GatherOutcomes", "LedgerCheck", "EpochLog", "TensorBoard")
    ]
    assert names[1] == ["NonFiniteLossStop", "GatherOutcomes", "FailureCheck"]


def test_a_follower_writes_nothing_and_ends_with_the_chief(as_worker, tmp_path):
    as_worker(1)
    directory = worker_roles.directory_of_worker(None, ModelDirectory(tmp_path / "runs"))
    assert isinstance(directory, FollowerDirectory)
    with directory.locked():
        directory.claim(None, ["a"])
        directory.keep_split(None, None)
        directory.checkpoints.save(tiny_model(), Progress(1, 1))
        directory.check_lock()
    assert not (tmp_path / "runs").exists()
    ledgers = {
        "training": ledger_of(0, (0, "a", "x")),
        "validation": OutcomeLedger(),
        "max_failure_share": 0.1,
    }
    check = callbacks.LedgerCheck(**ledgers, path=tmp_path / "outcomes.jsonl")
    with pytest.raises(UserError, match="1 left out"):
        worker_callbacks(None, [check], **ledgers)[-1].on_epoch_end(0, {})
    assert not (tmp_path / "outcomes.jsonl").exists()
