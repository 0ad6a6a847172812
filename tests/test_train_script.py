"""`python train.py` as a person runs it: what it prints, how it ends."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.data.videos import write_video
from tests.own_words import own_words
from tests.training.tiny import tiny_model, write_config, write_videos

ROOT = Path(__file__).parents[1]


def command(*flags):
    return [sys.executable, "train.py", *flags]


def environment():
    """Without the variable that keeps TensorFlow quiet: the script has to see to that."""
    return {name: v for name, v in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}


def run(*flags):
    return subprocess.run(
        command(*flags), cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiment")
    videos = write_videos(folder / "videos", videos_per_class=2)
    return write_config(folder / "tiny.yaml", videos)


@pytest.fixture(scope="module")
def other_weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "three_classes.weights.h5"
    tiny_model(num_classes=3).save_weights(path)
    return path


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config_file={config}", "--params_override=data.train=/no/such"],
         "error: /no/such: no such folder or file; give a folder"),
        (["--config_file={config}", "--params_override=model.name=mvit_x"],
         "unknown model 'mvit_x'; "),
        (["--config_file={config}", "--params_override=train.epoch=2"],
         "error: --params_override: unknown key 'train.epoch'; did you mean 'train.epochs'?"),
        (["--config_file={config}", "--params_override=model.initial_weights={weights}"],
         "was trained on 3 classes, the model has 8"),
        (["--config_file={config}", "--params_override=train.devices=2,train.batch_size=3"],
         "error: train.batch_size=3 cannot be split evenly over 2 replicas; use 2 or 4"),
        (["--config_file=finetun"], "error: there is no config 'finetun'"),
        (["--mode=traine"], "value should be one of <train|eval|train_and_eval|export>"),
    ],
)  # fmt: skip
def test_mistakes_end_in_one_line_and_status_2(tmp_path, config, other_weights, flags, message):
    flags = [flag.format(config=config, weights=other_weights) for flag in flags]
    done = run(f"--model_dir={tmp_path / 'run'}", *flags)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(own_words(done.stderr).splitlines()) == 1
    assert not (tmp_path / "run").exists()


FEW_VIDEOS = (
    "warning: 8 of 8 classes with fewer than 5 videos: 'down', 'down_left', 'down_right', 'left', "
    "'right', ..."
)
MVIT = "from mvit_tf.cli.main import console; console()"


def tensorboard_epochs(folder):
    """The epochs of the training events in a TensorBoard folder."""
    files = [str(path) for path in folder.glob("train/events*")]
    records = tf.data.TFRecordDataset(files).as_numpy_iterator()
    events = [tf.compat.v1.Event.FromString(record) for record in records]
    return {event.step for event in events if event.summary.value}


@pytest.fixture
def ctrl_c():
    """What is started from here on takes Ctrl-C, though the tests run in a shell's background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize(
    ("program", "stop", "typed"),
    [
        ([sys.executable, "train.py"], signal.SIGINT, "python train.py"),
        ([sys.executable, "-c", MVIT, "train"], signal.SIGTERM, "mvit train"),
    ],
    ids=["script-ctrl-c", "mvit-sigterm"],
)
def test_a_stopped_run_says_how_to_resume_and_does(tmp_path, config, program, stop, typed):
    # Epochs enough for the signal to arrive before the end.
    text = config.read_text().replace("epochs: 4", "epochs: 12")
    config = tmp_path / "twelve_epochs.yaml"
    config.write_text(text)
    flags = (f"--config_file={config}", f"--model_dir={tmp_path / 'model'}")
    process = subprocess.Popen(
        [*program, *flags], cwd=ROOT, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    log = tmp_path / "model" / "train_log.csv"
    deadline = time.monotonic() + 300
    while not log.exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(stop)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + stop, errors
    assert own_words(errors).strip().splitlines() == [
        FEW_VIDEOS,
        f"interrupted; the same command resumes: {typed} {flags[0]} {flags[1]}"
    ]
    # The project's words and nothing else.
    first, *_, before = [line for line in output.splitlines() if line]
    assert first.startswith("model       mvit_s_16x4: ")
    assert re.match(r"(saved|epoch|training) {4,}", before)
    # The process ends without waiting for anything, and no event is lost by that.
    epochs = log.read_text().count("\n") - 1
    assert len(tensorboard_epochs(tmp_path / "model" / "tensorboard")) >= epochs - 1 > -1

    done = run(*flags, "--params_override=train.batch_size=6")
    assert done.returncode == 2
    assert "holds another experiment: train.batch_size (8 there, 6 now)" in done.stderr
    assert len(own_words(done.stderr).splitlines()) == 1

    done = run(*flags)
    assert (done.returncode, own_words(done.stderr)) == (0, f"{FEW_VIDEOS}\n")
    assert re.search(r"resuming    after .*epoch \d+ from .*step-\d+.weights.h5", done.stdout)
    assert "trained     12 epochs, best after" in done.stdout
    for line in done.stdout.splitlines():
        assert re.match(
            r"(model|data|classes|training|resuming|epoch|decoding|trained|plotted) {4,}",
            line,
        ), line


def test_an_older_form_is_one_line_on_stderr(tmp_path, config):
    older = tmp_path / "older.yaml"
    older.write_text(config.read_text().replace("[4, 32, 32, 3]", "[4, 32, 32]"))
    done = run(f"--config_file={older}", f"--model_dir={tmp_path / 'x'}", "--mode=eval")
    assert done.returncode == 2
    warning, error = own_words(done.stderr).splitlines()
    assert warning == (
        f"warning: {older}: model.input_shape=[4, 32, 32] is now written [4, 32, 32, 3]"
    )
    assert error.startswith("error: ")


@pytest.mark.slow
def test_the_full_size_model_trains_on_decoded_video_and_exports(tmp_path):
    """MViT-B on 16 x 224 x 224 clips of 320 x 240 H.264 files, as published."""
    for name, seed in (("juggling", 0), ("waving", 1)):
        (tmp_path / "videos" / name).mkdir(parents=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (15, 20, 3), np.uint8)
        frames = [np.roll(pixels, t, axis=seed).repeat(16, 0).repeat(16, 1) for t in range(70)]
        for number in range(2):
            write_video(tmp_path / "videos" / name / f"{number}.mp4", frames)
    overrides = {
        "model.name": "mvit_b_16x4",
        "data.train": tmp_path / "videos",
        "data.validation_fraction": 0,
        "train.batch_size": 2,
        "train.epochs": 1,
        "train.warmup_epochs": 0,
    }
    override = ",".join(f"{key}={value}" for key, value in overrides.items())
    said = ""
    for flags in (
        ["--config_file=finetune", f"--params_override={override}"],
        ["--mode=export"],
    ):
        done = run(f"--model_dir={tmp_path / 'model'}", *flags)
        assert done.returncode == 0, done.stderr
        said += done.stdout
    assert "mvit_b_16x4: 36,304,610 parameters, clips of 16x224x224" in said
    assert "1 epochs of 2 steps, batch 2" in said
    serve = tf.saved_model.load(str(tmp_path / "model/export/1")).signatures["serving_default"]
    clip = np.zeros((1, 16, 240, 320, 3), np.uint8)
    np.testing.assert_allclose(np.sum(serve(frames=clip)["probabilities"]), 1, rtol=1e-5)
