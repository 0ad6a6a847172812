"""Lines and curves of a training's steps, with the numbers that the steps had."""

import io
import logging
import re
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mvit_tf.training.loop.step_log import EpochReport, StepLog, in_words, live_line
from mvit_tf.training.loop.summaries import open_summaries

STEPS = 6


class Losses(keras.callbacks.Callback):
    """The loss of each step, from Keras' running means."""

    def __init__(self):
        super().__init__()
        self.of_step = []

    def on_train_batch_end(self, batch, logs=None):
        total = logs["loss"] * (batch + 1)
        before = self.mean * batch if batch else 0.0
        self.of_step.append(total - before)
        self.mean = logs["loss"]


def fit(folder, *, epochs, initial_epoch=0, model=None, stop_at=None, restored=0, **options):
    """Six steps an epoch of an ever harder problem; returns (model, loss of each step)."""
    if model is None:
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.01), "mse")
        model.optimizer.gradient_norm = keras.Variable(2.5, trainable=False)
    x = np.ones((12, 2), "float32") * np.arange(1, 13)[:, None]
    losses = Losses()

    class Stop(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if stop_at == (self.epoch, batch):
                raise KeyboardInterrupt

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

    def restore(epoch, logs=None):
        model.metrics[0].count.assign(restored)
        model.metrics[0].total.assign(100.0 * restored)

    with open_summaries(folder, int(model.optimizer.iterations)) as summaries:
        log = StepLog(
            clips_per_step=2, steps_per_epoch=STEPS, epochs=epochs, summaries=summaries, **options
        )
        validate = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: logs.update(val_loss=epoch + 0.5)
        )
        report = EpochReport(epochs=epochs, summaries=summaries)
        model.fit(
            x, np.ones(12), batch_size=2, shuffle=False, verbose=0, epochs=epochs,
            initial_epoch=initial_epoch, callbacks=[
                keras.callbacks.LambdaCallback(on_epoch_begin=restore),
                log, validate, losses, report, Stop(),
            ],
        )  # fmt: skip
    return model, losses.of_step


def curve(folder, run, tag):
    """{step: value}; no step twice."""
    read = EventAccumulator(str(folder / run))
    read.Reload()
    points = [(event.step, event.value) for event in read.Scalars(tag)]
    assert len(dict(points)) == len(points), points
    return dict(points)


def test_curves_have_the_losses_of_their_steps(tmp_path):
    _, losses = fit(tmp_path, epochs=2, summary_interval=2)
    points = curve(tmp_path, "train", "loss")
    assert list(points) == [2, 4, 6, 8, 10, 12]
    assert list(points.values()) == pytest.approx(np.reshape(losses, (6, 2)).mean(1), rel=1e-4)
    of_epochs = curve(tmp_path, "train", "epoch_loss")
    assert of_epochs == pytest.approx({6: np.mean(losses[:6]), 12: np.mean(losses[6:])}, rel=1e-4)
    assert curve(tmp_path, "validation", "epoch_loss") == {6: 0.5, 12: 1.5}
    assert curve(tmp_path, "train", "gradient_norm") == dict.fromkeys(points, 2.5)
    assert set(curve(tmp_path, "train", "clips_per_second")) == {*points}


def test_a_part_that_is_repeated_is_shown_once(tmp_path):
    """Stopped in its third epoch, whose first steps no checkpoint has."""
    model, losses = fit(tmp_path, epochs=2, summary_interval=1)
    saved = model.get_weights()
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, epochs=3, initial_epoch=2, model=model, summary_interval=1, stop_at=(2, 4))
    assert max(curve(tmp_path, "train", "loss")) == 16
    model.set_weights(saved)
    model.optimizer.iterations.assign(12)
    _, again = fit(tmp_path, epochs=3, initial_epoch=2, model=model, summary_interval=1)
    points = curve(tmp_path, "train", "loss")
    assert list(points) == list(range(1, 19))
    assert list(points.values()) == pytest.approx([*losses, *again], rel=1e-3)


def test_an_epoch_that_goes_on_counts_what_it_had(tmp_path, caplog):
    """Its metrics are put back to where they were: after two steps."""
    caplog.set_level(logging.INFO, "absl")
    _, losses = fit(tmp_path / "whole", epochs=1, summary_interval=2)
    fit(tmp_path / "rest", epochs=1, summary_interval=2, restored=4, log_interval=1e-9)
    points = curve(tmp_path / "rest", "train", "loss")
    assert points == pytest.approx(curve(tmp_path / "whole", "train", "loss"), rel=1e-3)
    lines = [record.getMessage() for record in caplog.records]
    assert "epoch 1/1, step 3/6: " in lines[1]
    mean = (2 * 100 + losses[0]) / 3
    assert f"loss {mean:.3f}" in lines[1]


def test_lines_come_by_time_and_after_each_epoch(tmp_path, caplog):
    caplog.set_level(logging.INFO, "absl")
    fit(tmp_path, epochs=2, log_interval=1e-9)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2 * STEPS
    assert re.fullmatch(
        r"training    epoch 2/2, step 5/6: loss [\d.]+, [\d.e+]+ clips/s, "
        r"learning rate 1.00e-02, gradient norm 2.5",
        lines[-2],
    )
    assert re.fullmatch(
        r"epoch       2/2: loss [\d.]+, validation loss 1.500, [\d.e+]+ clips/s, "
        r"learning rate 1.00e-02, gradient norm 2.5, \d+\.\d s",
        lines[-1],
    )
    caplog.clear()
    fit(tmp_path / "seldom", epochs=2)
    assert [record.getMessage()[:16] for record in caplog.records] == [
        "epoch       1/2:",
        "epoch       2/2:",
    ]


def test_an_epoch_that_ends_at_a_resume_has_the_gradient_of_its_logs(caplog):
    """The optimizer has seen none yet."""
    caplog.set_level(logging.INFO, "absl")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    model.optimizer.gradient_norm = keras.Variable(0.0, trainable=False)
    report = EpochReport(epochs=1)
    report.set_model(model)
    report.on_epoch_begin(0)
    report.on_epoch_end(0, {"loss": 1.0, "gradient_norm": 1.5})
    line = caplog.records[-1].getMessage()
    assert "loss 1.000, learning rate 1.00e-02, gradient norm 1.5, " in line


def test_a_terminal_gets_one_live_line(tmp_path, monkeypatch):
    monkeypatch.setattr("mvit_tf.training.loop.step_log._REFRESH", 0)
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with live_line() as show:
        fit(tmp_path, epochs=1, log_interval=1e9, show=show)
    shown = terminal.getvalue()
    assert [f"epoch 1/1, step {n}/6: loss" in shown for n in range(1, 6)] == [True] * 5
    assert "epoch 1/1: 6 steps done" in shown
    assert shown.count("\x1b[2K") >= 4 and shown.endswith("\x1b[2K")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with live_line() as show:
        assert show is None


def test_steps_stay_asynchronous():
    """Keras waits for every step's numbers as soon as one callback takes them after each."""
    none = keras.callbacks.Callback
    for kind in (StepLog, EpochReport):
        assert kind.on_train_batch_end is none.on_train_batch_end
        assert kind.on_batch_end is none.on_batch_end


def test_numbers_in_words():
    told = in_words(
        {"learning_rate": 1e-4, "waiting_share": 0.04, "loss": 1.0, "val_accuracy": 0.5}
    )
    assert told == (
        "loss 1.000, validation accuracy 50.0%, 4% of the time waiting for input, "
        "learning rate 1.00e-04"
    )


def test_sample_clips_and_histograms(tmp_path):
    clips = np.zeros((2, 3, 8, 10, 3), np.uint8)
    clips[1, 2] = 255
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4, name="head")], name="tiny")
    with open_summaries(tmp_path) as summaries:
        summaries.clips(0, clips, ["left", "up"])
        summaries.histograms(3, model)
    read = EventAccumulator(str(tmp_path / "train"), size_guidance={"images": 0, "tensors": 0})
    read.Reload()
    assert read.Tags()["images"] == ["clips/00 left", "clips/01 up"]
    (image,) = read.Images("clips/01 up")
    assert (image.width, image.height) == (10, 8)
    frames = tf.io.decode_gif(image.encoded_image_string).numpy()
    # Of two equal frames a GIF keeps one.
    assert frames.shape[1:] == (8, 10, 3) and frames[0].max() == 0 and frames[-1].min() == 255
    tags = read.Tags()["tensors"]
    assert tags == ["weights/tiny/head/kernel", "weights/tiny/head/bias"]
    buckets = tf.make_ndarray(read.Tensors("weights/tiny/head/kernel")[0].tensor_proto)
    assert buckets[:, 2].sum() == 8
