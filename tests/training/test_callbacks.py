"""Early ends that must not save anything, and what an epoch's logs hold."""

import csv
import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.errors import UserError
from mvit_tf.training.callbacks import (
    Checkpoints,
    EpochLog,
    EpochMetrics,
    LedgerCheck,
    NonFiniteLossStop,
)
from mvit_tf.training.checkpoints import CheckpointStore, Progress


def linear_model(learning_rate=0.1):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(learning_rate), loss="mse")
    return model


def test_a_loss_that_is_not_finite_ends_the_run_and_is_not_saved(tmp_path):
    x = np.ones((12, 2), "float32")
    x[7] = np.inf  # step 4 of batches of 2
    store = CheckpointStore(tmp_path)
    stop = NonFiniteLossStop(steps_per_epoch=6)
    saver = Checkpoints(store=store, progress=Progress())
    model = linear_model()
    with pytest.raises(UserError, match=r"at step 4 \(epoch 1, step 4 of 6\); no checkpoint"):
        model.fit(x, np.ones(12), batch_size=2, shuffle=False, verbose=0, callbacks=[stop, saver])
    assert store.newest() is None

    x[7] = 1.0
    model = linear_model()
    model.fit(x, np.ones(12), batch_size=2, verbose=0, callbacks=[stop, saver])
    assert store.newest()[1].epoch == 1
    x[0] = np.nan
    with pytest.raises(UserError, match=r"loss is nan at step 7 \(epoch 2, step 1 of 6\)"):
        model.fit(x, np.ones(12), batch_size=2, shuffle=False, verbose=0, initial_epoch=1,
                  epochs=2, callbacks=[stop, saver])  # fmt: skip
    assert store.newest()[1].epoch == 1


def test_weights_that_the_last_step_of_an_epoch_spoilt_end_the_run(tmp_path):
    """Its loss is finite still, and without validation nothing else would tell."""
    store = CheckpointStore(tmp_path)
    callbacks = [
        NonFiniteLossStop(steps_per_epoch=1),
        Checkpoints(store=store, progress=Progress()),
    ]
    x, y = np.ones((2, 2), "float32"), np.full(2, 9.0, "float32")
    linear_model().fit(x, y, verbose=0, callbacks=callbacks)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match="not finite after epoch 2; no checkpoint of this epoch"):
        linear_model(3e38).fit(x, y, initial_epoch=1, epochs=2, verbose=0, callbacks=callbacks)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert store.newest()[1].epoch == 1


def test_validation_comes_every_few_epochs_and_after_the_last(tmp_path):
    scores = iter([(0.9, 0.5), (0.7, 0.25), (0.8, 0.75)])

    def validate():
        loss, accuracy = next(scores)
        return SimpleNamespace(loss=loss, metric="accuracy", score=accuracy)

    saver = Checkpoints(store=CheckpointStore(tmp_path), progress=Progress())
    history = linear_model(0.125).fit(
        np.ones((4, 2)), np.ones(4), epochs=5, verbose=0,
        callbacks=[EpochMetrics(validate=validate, epochs=5, validate_every=2),
                   EpochLog(tmp_path / "log.csv"), saver],
    )  # fmt: skip
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["val_accuracy"] for row in rows] == ["", "0.5", "", "0.25", "0.75"]
    assert [row["val_loss"] for row in rows] == ["", "0.9", "", "0.7", "0.8"]
    assert {row["learning_rate"] for row in rows} == {"0.125"}
    assert [float(row["loss"]) for row in rows] == history.history["loss"]
    assert saver.progress == Progress(epoch=5, best_epoch=5, best_accuracy=0.75, best_loss=0.8)


def test_an_epoch_that_comes_again_replaces_its_row_and_later_ones(tmp_path):
    log = EpochLog(tmp_path / "log.csv")
    for epoch, loss in ((0, 3.0), (1, 2.0), (2, 1.0), (1, 2.5)):
        log.on_epoch_end(epoch, {"loss": loss, "accuracy": 0.5})
    assert (tmp_path / "log.csv").read_text().splitlines() == [
        "epoch,loss,accuracy,learning_rate,val_loss,val_accuracy",
        "0,3.0,0.5,,,",
        "1,2.5,0.5,,,",
    ]


def test_too_many_failed_videos_of_either_set_end_the_run_with_the_outcomes_on_disk(tmp_path):
    training, validation = OutcomeLedger(), OutcomeLedger()
    for index in range(99):
        training.record(f"{index}.mp4")
    for index in range(9):
        validation.record(f"held_out_{index}.mp4")
    outcomes = tmp_path / "outcomes.jsonl"
    check = {"training": training, "validation": validation, "path": outcomes}
    validation.record("bad.mp4", "empty_file", "0 bytes")
    for epoch in (0, 1, 1):  # The last is a repetition, after a resume.
        for _ in range(2):  # Keras takes some clips twice.
            training.record_clip(1, 0, "1.mp4", True, [])
            training.record_clip(1, 1, "2\u2028.mp4", False, [("0.mp4", "decode_error", "cut off")])
        LedgerCheck(max_failure_share=0.1, **check).on_epoch_end(epoch, {"val_loss": 1.0})
    first, bad, second, replaced, again = map(json.loads, outcomes.open())
    assert first == {"epoch": 0, "clips": 0, "ok": 0, "padded": 0, "replaced": 0}
    assert bad == {
        "epoch": 0,
        "set": "validation",
        "path": "bad.mp4",
        "outcome": "empty_file",
        "detail": "0 bytes",
    }
    assert second == {"epoch": 1, "clips": 2, "ok": 0, "padded": 1, "replaced": 1}
    assert replaced == {
        "epoch": 1,
        "position": 1,
        "path": "0.mp4",
        "outcome": "decode_error",
        "detail": "cut off",
        "replaced_by": "2\u2028.mp4",
    }
    assert again == {**bad, "epoch": 1}
    # One of 109 in all, but one of ten for validation.
    with pytest.raises(UserError, match=r"10 videos, 1 left out .*bad.mp4 \(empty_file: 0 bytes\)"):
        LedgerCheck(max_failure_share=0.05, **check).on_epoch_end(0)


def test_a_validation_loss_that_is_not_finite_ends_the_run(monkeypatch):
    report = type("Report", (), {"loss": float("nan"), "top1_of_decoded": 1.0})
    callback = EpochMetrics(validate=lambda: report, epochs=3)
    optimizer = keras.optimizers.SGD(0.1)
    callback.set_model(type("Model", (), {"optimizer": optimizer})())
    with pytest.raises(UserError, match="the validation loss is nan after epoch 1"):
        callback.on_epoch_end(0, {})
