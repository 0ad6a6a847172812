"""Early ends that must not save anything, and what an epoch's logs hold."""

import csv
import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.errors import UserError
from mvit_tf.interruption import StopRequest
from mvit_tf.training.loop.callbacks import (
    EpochCheckpoints,
    EpochLog,
    EpochMetrics,
    LedgerCheck,
    NonFiniteCheck,
    StepCheckpoints,
    ends_early,
)
from mvit_tf.training.loop.training_state import NonFiniteStep, TrainingState
from mvit_tf.training.storage.checkpoints import CheckpointStore, Progress


def linear_model(learning_rate=0.1):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(learning_rate), loss="mse")
    return model


def state_of(model, folder, **options):
    return TrainingState(
        model, CheckpointStore(folder), OutcomeLedger(), clips_per_step=2, **options
    )


def test_a_loss_that_is_not_finite_ends_the_run_and_is_not_saved(tmp_path):
    x = np.ones((12, 2), "float32")
    x[7] = np.inf  # step 4 of batches of 2
    model = linear_model()
    state = state_of(model, tmp_path, steps_per_epoch=6)
    around = [NonFiniteCheck(state), StepCheckpoints(state, StopRequest(), every_steps=2)]
    with pytest.raises(NonFiniteStep, match="the loss is (inf|nan) at step 4") as found:
        model.fit(x, np.ones(12), batch_size=2, shuffle=False, verbose=0, callbacks=around)
    assert found.value.steps == (3,)
    assert state.store.newest()[1] == Progress(epoch_step=2, step=2, steps_per_epoch=6)
    state.go_back(found.value.steps)
    assert state.steps_left() == [2, 4, 5] and state.next_step == 2
    assert state.progress == Progress(
        epoch_step=2, step=2, skipped_steps=(3,), rollbacks=1, steps_per_epoch=6
    )


def test_before_the_first_checkpoint_it_goes_back_to_the_beginning(tmp_path):
    model = linear_model(0.25)
    state = state_of(model, tmp_path, steps_per_epoch=2)
    before = [value.copy() for value in model.get_weights()]
    model.fit(np.ones((4, 2)), np.ones(4), batch_size=2, verbose=0)
    state.go_back((1,))
    for one, two in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, two)
    assert int(model.optimizer.iterations) == 0 and state.steps_left() == [0]


def test_weights_that_a_step_spoilt_are_not_saved(tmp_path):
    """Its loss is finite still, and without validation nothing else would tell."""
    x, y = np.ones((4, 2), "float32"), np.full(4, 9.0, "float32")
    for every_steps, steps in ((1, 2), (None, 1)):
        model = linear_model(3e38)
        state = state_of(model, tmp_path, steps_per_epoch=steps)
        around = [
            NonFiniteCheck(state),
            StepCheckpoints(state, StopRequest(), every_steps=every_steps),
        ]
        with pytest.raises(NonFiniteStep, match="not finite.* at step 1"):
            model.fit(x, y, batch_size=4 // steps, verbose=0, callbacks=around)
        assert not list(tmp_path.iterdir())


def test_a_gradient_that_is_not_finite_ends_the_run_too(tmp_path):
    check = NonFiniteCheck(state := state_of(linear_model(), tmp_path, steps_per_epoch=2))
    state.begin_epoch()
    check.on_train_batch_end(1, {"loss": 1.0, "gradient_norm": 2.0})
    with pytest.raises(NonFiniteStep, match="the gradient's norm is inf at step 2"):
        check.on_train_batch_end(1, {"loss": 1.0, "gradient_norm": np.float32("inf")})


def test_validation_comes_every_few_epochs_and_after_the_last(tmp_path):
    scores = iter([(0.9, 0.5), (0.7, 0.25), (0.8, 0.75)])

    def validate():
        loss, accuracy = next(scores)
        return SimpleNamespace(loss=loss, metric="accuracy", score=accuracy)

    model = linear_model(0.125)
    state = state_of(model, tmp_path, steps_per_epoch=1)
    saver = EpochCheckpoints(state, StopRequest(), patience=3)
    history = model.fit(
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
    assert state.progress == Progress(5, 5, 0.75, 0.8, step=5, scored_epoch=5, steps_per_epoch=1)


def test_training_ends_early_once_it_gets_no_better(tmp_path):
    model = linear_model()
    state = state_of(model, tmp_path, steps_per_epoch=1)
    scores = iter([0.5, 0.6, 0.6, 0.4, 0.9])
    score = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: logs.update(val_accuracy=next(scores), val_loss=1.0)
    )
    saver = EpochCheckpoints(state, StopRequest(), patience=2)
    model.fit(np.ones((4, 2)), np.ones(4), epochs=5, verbose=0, callbacks=[score, saver])
    assert (state.progress.epoch, state.progress.best_epoch) == (4, 2)
    assert ends_early(state.store.newest()[1], 2) and not ends_early(state.progress, 3)


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
    state = state_of(linear_model(), tmp_path, steps_per_epoch=1)
    check = {"training": training, "validation": validation, "path": outcomes, "state": state}
    validation.record("bad.mp4", "empty_file", "0 bytes")
    for epoch in (0, 1, 1):  # The last is a repetition, after a resume.
        for _ in range(2):  # Keras takes some clips twice.
            training.record_clip(1, 0, "1.mp4", "padded", [])
            training.record_clip(1, 1, "2\u2028.mp4", "ok", [("0.mp4", "decode_error", "cut off")])
        LedgerCheck(max_failure_share=0.1, **check).on_epoch_end(epoch, {"val_loss": 1.0})
    first, bad, second, replaced, again = map(json.loads, outcomes.open())
    assert first == {"epoch": 0, "clips": 0, "ok": 0, "padded": 0, "partial": 0, "replaced": 0}
    assert bad == {
        "epoch": 0,
        "set": "validation",
        "path": "bad.mp4",
        "outcome": "empty_file",
        "detail": "0 bytes",
    }
    assert second == {"epoch": 1, "clips": 2, "ok": 0, "padded": 1, "partial": 0, "replaced": 1}
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
    discarded = []
    callback = EpochMetrics(
        validate=lambda: report, epochs=3, discard_checkpoint=lambda: discarded.append(1)
    )
    optimizer = keras.optimizers.SGD(0.1)
    callback.set_model(type("Model", (), {"optimizer": optimizer})())
    with pytest.raises(UserError, match="the validation loss is nan after epoch 1"):
        callback.on_epoch_end(0, {})
    assert discarded == [1]  # Else the next run would validate the same weights.
