"""Trainings of several workers, real processes on loopback, beside those of one process."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from mvit_tf.training import trainer
from mvit_tf.training.distributed.multi_worker import MultiWorkerFit, split_batches
from mvit_tf.training.optimization.training_model import TrainingModel
from tests.training.tiny import (
    arrays,
    newest_checkpoint,
    tiny_model,
    write_config,
    write_videos,
)
from tests.training.two_devices import run_on_two_devices
from tests.training.two_workers import (
    ROOT,
    finish,
    free_ports,
    start_worker,
    start_workers,
    tf_config,
)

# A replica draws dropout and stochastic depth for its share of the batch, one device for all of it.
SAME_DRAWS = (
    "model.overrides.drop_path_rate=0.0,model.overrides.head_dropout_rate=0.0,"
    "data.decode_workers=0,data.max_failure_share=0.2"
)
TWENTY_ONE_STEPS = (
    f"{SAME_DRAWS},train.epochs=7,train.validate_every=3,data.mixup_alpha=0.8,data.cutmix_alpha=1.0"
)
# The shift of the keys' norm: attention does not depend on it, so that its gradient is rounding
# alone, which AdamW makes whole steps of. Not the same over devices, but the same after a resume.
_KEY_SHIFT = re.compile(r"attn/pool_k/norm/vars/1$")
# Within this many seconds a worker that is killed or frozen ends the others.
KILLED, FROZEN = 15, 60


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    root = write_videos(tmp_path_factory.mktemp("videos"))
    (root / "up" / "zero.mp4").write_bytes(b"")
    return write_config(tmp_path_factory.mktemp("config") / "tiny.yaml", root)


@pytest.fixture(scope="module")
def one_process(tmp_path_factory, config):
    """The model directory of 21 steps on one device, evaluated."""
    directory = tmp_path_factory.mktemp("one_process")
    options = {"config_file": config, "overrides": TWENTY_ONE_STEPS}
    trainer.run(mode="train_and_eval", model_dir=directory, **options)
    return directory


def flags(config, directory, overrides, mode="train"):
    return (
        f"--mode={mode}",
        f"--config_file={config}",
        f"--model_dir={directory}",
        f"--params_override={overrides}",
    )


def numbers(directory):
    """Every numeric array of the newest checkpoint: weights, optimizer, random generators."""
    held = arrays(newest_checkpoint(directory))
    return {name: value for name, value in held.items() if np.asarray(value).dtype.kind in "fiu"}


def furthest(directory, other, leave_out=None):
    """The largest difference of any two numbers of two checkpoints.

    Args:
        leave_out: pattern of the names of arrays that are not compared.
    """
    one, two = numbers(directory), numbers(other)
    assert set(one) == set(two) and len(one) > 50
    compared = [name for name in one if not (leave_out and leave_out.search(name))]
    return max(np.abs(one[name] - two[name]).max() for name in compared if one[name].size)


def log_rows(directory):
    with open(directory / "train_log.csv", newline="") as file:
        return list(csv.DictReader(file))


def require_same_scores(directory, other):
    for one, two in zip(log_rows(directory), log_rows(other), strict=True):
        assert one["val_accuracy"] == two["val_accuracy"]
        for name in ("loss", "val_loss"):
            assert float(one[name] or 0) == pytest.approx(float(two[name] or 0), abs=1e-5)


def train_straight(folder, config, overrides):
    """Trains with two workers; the directory, and that of a run to break."""
    straight = folder / "straight"
    for status, output in finish(start_workers(2, *flags(config, straight, overrides))):
        assert status == 0, output
    return straight, folder / "broken"


def require_exact_resume(config, overrides, straight, broken):
    """Both workers go on and end with the bits of the undisturbed training."""
    results = finish(start_workers(2, *flags(config, broken, overrides)))
    assert [status for status, _ in results] == [0, 0], results
    assert "resuming" in results[0][1]
    assert furthest(straight, broken) == 0


def test_two_workers_train_and_score_as_one_process(tmp_path, config, one_process):
    done = subprocess.run(
        ["deploy/two_workers.sh", *flags(config, tmp_path, TWENTY_ONE_STEPS, "train_and_eval")],
        cwd=ROOT,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert furthest(tmp_path, one_process, _KEY_SHIFT) < 1e-5
    require_same_scores(tmp_path, one_process)
    # Each clip once an epoch, and every bad file of both workers.
    outcomes = (tmp_path / "outcomes.jsonl").read_text()
    assert outcomes == (one_process / "outcomes.jsonl").read_text()
    assert outcomes.count('"clips": 24') == 7 and outcomes.count("zero.mp4") >= 7
    one, two = (json.loads((d / "evaluation.json").read_text()) for d in (one_process, tmp_path))
    assert two.pop("loss") == pytest.approx(one.pop("loss"), abs=1e-5)
    assert one == two
    said = [line for line in done.stdout.splitlines() if re.match(r"\[1\] [a-zE]", line)]
    assert said == ["[1] worker      1 of 2, 1 device(s) each, follows worker 0"]
    assert "3 steps, batch 8 on 2 devices" in done.stdout
    assert "retracing" not in done.stdout + done.stderr


@pytest.mark.slow
def test_two_devices_train_and_score_as_one(tmp_path, config, one_process):
    run_on_two_devices(
        f"""
        from mvit_tf.training import trainer
        trainer.run(
            mode="train",
            model_dir={str(tmp_path)!r},
            config_file={str(config)!r},
            overrides={TWENTY_ONE_STEPS + ",train.devices=2"!r},
        )
        result = None
        """
    )
    assert furthest(tmp_path, one_process, _KEY_SHIFT) < 1e-5
    require_same_scores(tmp_path, one_process)


@pytest.mark.slow
@pytest.mark.parametrize("videos", [7, 2])
def test_three_workers_evaluate_as_one_process(tmp_path, config, one_process, videos):
    """7 videos leave a remainder, and of 2 one worker has none."""
    found = sorted((config.parent.parent).glob("videos*/*/*1.mp4"))[: videos - 1]
    lines = [f"{path} {path.parent.name}\n" for path in found]
    bad = found[0].parents[1] / "up" / "zero.mp4"
    (tmp_path / "list.txt").write_text("".join([f"{bad} up\n", *lines]))
    options = f"data.validation={tmp_path / 'list.txt'},data.max_failure_share=0.5"
    options += ",train.batch_size=9,data.validation_fraction=0.0"
    reports = []
    for number in (1, 3):
        args = f"--mode=eval --model_dir={one_process} --params_override={options}".split()
        started = start_workers(number, *args) if number > 1 else [start_worker(None, *args)]
        for status, output in finish(started):
            assert status == 0, output
        reports.append(json.loads((one_process / "evaluation.json").read_text()))
    one, three = reports
    assert three.pop("loss") == pytest.approx(one.pop("loss"), abs=1e-6)
    assert one == three
    assert one["num_videos"] == videos and len(one["missing"]) == 1


def wait_for_rows(directory, number, processes):
    while not (directory / "train_log.csv").exists() or len(log_rows(directory)) < number:
        assert all(process.poll() is None for process in processes)
        time.sleep(0.02)


LOST = (
    r"error: worker 0: another of the 2 workers has ended or cannot be reached \(its own output "
    r"says why\); run the same command on all machines to go on from the last checkpoint"
)


@pytest.mark.slow
def test_a_killed_worker_ends_the_other_and_both_resume_exactly(tmp_path, config):
    overrides = "data.decode_workers=0,train.epochs=5,data.max_failure_share=0.2"
    straight, broken = train_straight(tmp_path, config, overrides)
    workers = start_workers(2, *flags(config, broken, overrides))
    wait_for_rows(broken, 2, workers)
    workers[1].kill()
    killed = time.monotonic()
    (status, output), _ = finish(workers)
    assert time.monotonic() - killed < KILLED
    assert status == 75 and re.search(LOST, output), output
    assert len(log_rows(broken)) < 5
    require_exact_resume(config, overrides, straight, broken)


@pytest.mark.slow
def test_a_signal_to_one_worker_saves_and_ends_both_and_both_resume_exactly(tmp_path, config):
    # Validated once, at the end: within a validation a signal is another matter.
    overrides = (
        "data.decode_workers=0,train.epochs=8,data.max_failure_share=0.2,"
        "train.validate_every=100,train.save_every_minutes=null"
    )
    straight, broken = train_straight(tmp_path, config, overrides)
    workers = start_workers(2, *flags(config, broken, overrides))
    wait_for_rows(broken, 1, workers)
    workers[1].send_signal(signal.SIGTERM)
    results = finish(workers)
    assert [status for status, _ in results] == [143, 143], results
    assert all("interrupted; the same command resumes: " in output for _, output in results)
    assert re.search(r"saved       (step|epoch) \d+\n", results[0][1]), results[0][1]
    assert len(log_rows(broken)) < 8
    require_exact_resume(config, overrides, straight, broken)


@pytest.mark.slow
def test_a_frozen_worker_ends_the_other(tmp_path, config):
    overrides = f"{SAME_DRAWS},train.epochs=200"
    workers = start_workers(2, *flags(config, tmp_path, overrides))
    wait_for_rows(tmp_path, 1, workers)
    workers[1].send_signal(signal.SIGSTOP)
    frozen = time.monotonic()
    try:
        ((status, output),) = finish(workers[:1])
    finally:
        workers[1].kill()
    assert time.monotonic() - frozen < FROZEN
    assert status == 75 and re.search(LOST, output), output


@pytest.mark.slow
def test_workers_that_do_not_belong_together(tmp_path, config):
    def both(*each):
        ports = free_ports(2)
        found = finish([start_worker(tf_config(ports, i), *args) for i, args in enumerate(each)])
        return [output.strip().splitlines()[-1] for status, output in found if status == 2]

    short = f"{SAME_DRAWS},train.epochs=2"
    other = f"{SAME_DRAWS},train.epochs=2,train.learning_rate=0.01"
    said = both(flags(config, tmp_path, short), flags(config, tmp_path, other))
    assert (
        said
        == [
            "error: the workers differ in train.learning_rate (0.001 on worker 0, 0.01 on worker "
            "1); start the same command on all machines, on the same videos"
        ]
        * 2
    )
    trainer.run(mode="train", model_dir=tmp_path / "a", config_file=config, overrides=short)
    said = both(flags(config, tmp_path / "a", short), flags(config, tmp_path / "b", short))
    assert len(said) == 2
    for line, name in zip(said, "ab", strict=True):
        assert line == (
            f"error: --model_dir={tmp_path / name}: worker 0 found a checkpoint after step 6 "
            "there and worker 1 no checkpoint; all machines must see the same folder, on a shared "
            "file system or an object store"
        )


def recorded(called, name):
    method = getattr(MultiWorkerFit, name)

    def record(self, *args, **kwargs):
        called.append(name)
        return method(self, *args, **kwargs)

    return record


def test_the_hooks_of_keras_are_there_and_called(monkeypatch):
    """Fails where Keras renames or no longer calls what training on several machines hangs on."""
    config = tiny_model().config
    model = TrainingModel(config)
    model.compile("sgd", loss="mse")
    monkeypatch.setattr(MultiWorkerFit, "_on_several_machines", lambda self: True)
    called = []
    for name in ("_make_function", "_maybe_symbolic_build"):
        monkeypatch.setattr(MultiWorkerFit, name, recorded(called, name))
    clips = tf.data.Dataset.from_tensors((np.zeros((2, 4, 32, 32, 3)), np.zeros((2, 3))))
    model.fit(clips, verbose=0)
    assert called == ["_maybe_symbolic_build", "_make_function"], (
        f"keras {keras.__version__} calls other methods of its trainer: {called}"
    )
    monkeypatch.setattr("mvit_tf.training.distributed.multi_worker._METHODS", ("_gone",))
    with pytest.raises(RuntimeError, match="has no keras.Model._gone; fit over several machines"):
        TrainingModel(config)


def test_the_batch_of_a_machine_is_split_over_its_devices_by_rows():
    batches = tf.data.Dataset.range(12).batch(6, drop_remainder=True).map(lambda x: (x, -x))
    found = [x.tolist() for x, _ in split_batches(batches, 3).as_numpy_iterator()]
    assert found == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]
    assert split_batches(batches, 1) is batches
