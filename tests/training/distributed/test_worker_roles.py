"""What the chief does, what the others do, and the account of all of them."""

import pytest

from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.errors import UserError
from mvit_tf.training.distributed import worker_roles
from mvit_tf.training.distributed.worker_roles import FollowerDirectory, SharedLedger
from mvit_tf.training.storage.checkpoints import Progress
from mvit_tf.training.storage.model_directory import ModelDirectory
from tests.training.tiny import tiny_model


@pytest.fixture
def as_worker(monkeypatch):
    """Makes this process worker `index` of two."""
    monkeypatch.setattr(worker_roles, "_SECONDS_TO_READ", 0.0)

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


def test_an_account_within_an_epoch_goes_on_with_two_workers(monkeypatch, as_worker):
    clips = [(0, "a", None), (1, "b", "x"), (2, "c", None), (3, "a", "y"), (4, "b", None)]
    one, two = ledger_of(5, *clips[1::2]), ledger_of(5, *clips[0::2])
    monkeypatch.setattr(worker_roles, "gather_json", lambda _, own: [own, two.epoch_state(5, 3)])
    as_worker(0)
    saved = SharedLedger(None, one).epoch_state(5, 3)
    assert saved["counts"] == {"ok": 2, "replaced": 1}
    # Both go on from the same checkpoint with the clips from position 3 on.
    resumed = [ledger_of(5, clips[3]), ledger_of(5, clips[4])]
    for index, ledger in enumerate(resumed):
        as_worker(index)
        SharedLedger(None, ledger).restore_epoch(5, saved)
    # What is on record of the epoch is forgotten by restoring: the clips come again.
    for ledger, (position, path, bad) in zip(resumed, clips[3:], strict=True):
        failed = [(bad, "empty_file", "no bytes")] if bad else []
        ledger.record_clip(5, position, path, "ok", failed)
    totals = [ledger.epoch_entries(5)[0] for ledger in resumed]
    assert sum(total["clips"] for total in totals) == 5
    assert sum(total["replaced"] for total in totals) == 2


def test_a_follower_writes_nothing(as_worker, tmp_path):
    as_worker(1)
    directory = worker_roles.directory_of_worker(None, ModelDirectory(tmp_path / "runs"))
    assert isinstance(directory, FollowerDirectory)
    with directory.locked():
        directory.claim(None, ["a"])
        directory.keep_split(None, None)
        directory.checkpoints.save(tiny_model(), Progress(1, 1))
        directory.check_lock()
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (Progress(step=2, epoch_step=2),
         "after step 3 there and worker 1 a checkpoint after step 2;"),
        (Progress(), "after step 3 there and worker 1 no checkpoint;"),
        (Progress(1, step=None), "after step 3 there and worker 1 a checkpoint after epoch 1;"),
        (Progress(step=3, epoch_step=3, rollbacks=1),
         "after step 3 there and worker 1 a checkpoint after step 3 with other weights;"),
    ],
)  # fmt: skip
def test_checkpoints_that_differ_are_named_by_their_steps(monkeypatch, tmp_path, own, message):
    sent = []

    def gather(strategy, value):
        sent.append(value)
        return [sent[0], value]

    monkeypatch.setattr(worker_roles, "gather_json", gather)
    directory = ModelDirectory(tmp_path)
    worker_roles.require_same_checkpoint(None, Progress(step=3, epoch_step=3), directory)
    with pytest.raises(UserError, match=f"worker 0 found a checkpoint {message}"):
        worker_roles.require_same_checkpoint(None, own, directory)
