"""A training that is stopped anywhere ends with the bits of one that never was."""

import csv
import dataclasses
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mvit_tf.training.storage.checkpoints import read_progress
from tests.training.tiny import arrays, newest_checkpoint, write_config, write_videos

ROOT = Path(__file__).parents[2]
# Dropout of the head and stochastic depth are in the model, a file of no bytes in the list.
OVERRIDES = (
    "data.decode_workers=0,data.mixup_alpha=0.8,data.flip=true,model.overrides.depths=[1],"
    "train.epochs=3"
)
EACH_STEP = "train.save_every_steps=1"
KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    root = tmp_path_factory.mktemp("resume")
    videos = write_videos(root / "videos")
    (videos / "up" / "zero.mp4").write_bytes(b"")
    return write_config(root / "tiny.yaml", videos)


def run_all(folder, config, runs, overrides=OVERRIDES):
    """Runs trainings one after the other, see `disturbed_runs`; returns their exit statuses."""
    runs = [{**run, "model_dir": str(folder / run["model_dir"])} for run in runs]
    plan = folder / f"{runs[0]['model_dir'].replace('/', '_')[-20:]}.json"
    plan.write_text(json.dumps({"config": str(config), "overrides": overrides, "runs": runs}))
    script = Path(__file__).with_name("disturbed_runs.py")
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(script), str(plan)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def said(folder):
    """What the runs said, of one `run_all` in this folder, in order."""
    logs = sorted(folder.glob("*.json.*.log"), key=lambda path: int(path.suffixes[-2][1:]))
    return [path.read_text() for path in logs]


def disturbed(kind, count=1):
    return {"model_dir": "run", "disturb": {kind: count}, "overrides": EACH_STEP}


def assert_same_run(one, other, **differing):
    """Equal to the last bit: checkpoints, best weights, progress, log and account of the clips."""
    newest = newest_checkpoint(one), newest_checkpoint(other)
    progress = [read_progress(path) for path in newest]
    assert dataclasses.replace(progress[0], **differing) == progress[1]
    for first, second in (newest, [path.with_name("best.weights.h5") for path in newest]):
        held, again = arrays(first), arrays(second)
        assert held.keys() == again.keys()
        for name, value in held.items():
            np.testing.assert_array_equal(again[name], value, err_msg=f"{first.name} {name}")
    for name in ("train_log.csv", "outcomes.jsonl"):
        assert (other / name).read_text() == (one / name).read_text()
    assert not list((other / "checkpoints").glob(".writing-*"))


def test_a_run_stopped_in_steps_writes_and_validation_ends_with_the_same_bits(tmp_path, config):
    statuses = run_all(
        tmp_path,
        config,
        [
            {"model_dir": "straight"},
            disturbed("kill_in_write", 3),
            disturbed("sigterm_in_validation"),
            disturbed("sigint_in_step", 2),
            {"model_dir": "run"},
        ],
    )
    assert statuses == [0, KILLED, 143, 130, 0]
    validated, stepped, last = said(tmp_path)[2:]
    # Three steps were saved before the validation, which is not repeated step by step.
    assert "resuming    after step 2 of 3 in epoch 1 from" in validated
    assert "resuming    after step 3 of 3 in epoch 1 from" in stepped
    assert "saved       step 5\n" in stepped
    assert "resuming    after step 2 of 3 in epoch 2 from" in last
    straight = tmp_path / "straight"
    assert_same_run(straight, tmp_path / "run")
    with open(straight / "train_log.csv", newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1", "2"]
    named = [json.loads(line) for line in (straight / "outcomes.jsonl").open()]
    assert any("replaced_by" in entry for entry in named)


@pytest.mark.slow
def test_a_run_killed_at_twenty_moments_ends_with_the_same_bits(tmp_path, config):
    """SIGKILL: six times in a checkpoint write, the others in steps, between them, anywhere."""
    draw = random.Random(0)
    kills = [disturbed("kill_in_write", draw.randint(1, 3)) for _ in range(6)]
    kills += [disturbed("kill_after_step", draw.randint(1, 3)) for _ in range(6)]
    kills += [disturbed("kill_after_seconds", draw.uniform(0, 2.5)) for _ in range(4)]
    kills += [
        disturbed(f"kill_{place}")
        for place in ("before_best", "in_validation", "in_log", "at_epoch_end")
    ]
    draw.shuffle(kills)
    runs = [{"model_dir": "straight"}, *kills, {"model_dir": "run"}]
    statuses = run_all(tmp_path, config, runs, OVERRIDES.replace("epochs=3", "epochs=12"))
    assert statuses[0] == statuses[-1] == 0
    assert statuses[1:-1] == [KILLED] * 20
    assert_same_run(tmp_path / "straight", tmp_path / "run")


@pytest.mark.slow
def test_signals_are_obeyed_after_a_step_or_a_write_and_a_second_one_at_once(tmp_path, config):
    statuses = run_all(
        tmp_path,
        config,
        [
            {"model_dir": "straight"},
            disturbed("two_sigterms_in_write"),
            disturbed("sigterm_while_tracing"),
            disturbed("sigterm_in_write"),
            disturbed("sigusr1_in_step"),
            {"model_dir": "run"},
        ],
    )
    assert statuses == [0, 143, 143, 143, 138, 0]
    twice, traced, written, stepped = said(tmp_path)[1:5]
    assert "saved" not in twice and "resuming" not in traced  # nothing was whole by then
    assert "interrupted; the same command resumes: mvit" in twice
    assert "saved       step 1\n" in traced
    assert "saved       step 2\n" in written and "saved       step 3\n" in stepped
    assert_same_run(tmp_path / "straight", tmp_path / "run")


@pytest.mark.slow
def test_a_step_that_is_not_finite_is_kept_and_left_out(tmp_path, config):
    """The rest is as if that batch had never been, over a kill and a resume too."""
    poisoned = {"poisoned_step": 4}
    statuses = run_all(
        tmp_path,
        config,
        [
            {"model_dir": "without", "disturb": {"left_out_step": 4}},
            {"model_dir": "run", "disturb": poisoned, "overrides": EACH_STEP},
            {"model_dir": "early", "disturb": {"poisoned_step": 0}},
            {"model_dir": "killed", "disturb": {**poisoned, "kill_after_step": 5},
             "overrides": EACH_STEP},
            {"model_dir": "killed", "disturb": poisoned},
            {"model_dir": "stopped", "disturb": poisoned, "overrides": "train.max_rollbacks=0"},
        ],
    )  # fmt: skip
    assert statuses == [0, 0, 0, KILLED, 0, 2]
    assert_same_run(tmp_path / "without", tmp_path / "run", rollbacks=1)
    assert_same_run(tmp_path / "run", tmp_path / "killed")
    progress = read_progress(newest_checkpoint(tmp_path / "early"))
    assert (progress.skipped_steps, progress.rollbacks, progress.epoch) == ((0,), 1, 3)
    stopped = said(tmp_path)[-1]
    assert "error: the loss is nan at step 5 (epoch 2, step 2 of 3); nothing of it" in stopped

    kept = tmp_path / "run" / "non_finite"
    with np.load(kept / "step-00000005.npz") as batch:
        assert batch["clips"].shape == (8, 4, 32, 32, 3) and np.isfinite(batch["clips"]).all()
        assert batch["labels"].shape == (8, 8)
    facts = json.loads((kept / "step-00000005.json").read_text())
    assert (facts["step"], facts["loss"], len(facts["clips"])) == (5, "nan", 8)
    assert all(Path(clip["path"]).parent.name == clip["labels"][0] for clip in facts["clips"])
    outcomes = [json.loads(line) for line in (tmp_path / "run" / "outcomes.jsonl").open()]
    assert {"epoch": 1, "step": 5, "outcome": "skipped_step"} in outcomes
    assert [entry["clips"] for entry in outcomes if "clips" in entry] == [24, 16, 24]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own that takes a few checkpoints."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
def test_a_full_disk_ends_the_run_in_one_line_and_loses_nothing(tmp_path, small_disk, config):
    filler, run = str(small_disk / "filler"), {"model_dir": "disk/run", "overrides": EACH_STEP}
    statuses = run_all(
        tmp_path,
        config,
        [
            {"model_dir": "straight"},
            {**run, "disturb": {"full_disk_in_step": filler}},
            {**run, "disturb": {"freed_disk": filler, "full_disk_in_validation": filler}},
            {**run, "disturb": {"freed_disk": filler}},
        ],
    )
    assert statuses == [0, 2, 2, 0]
    step, validation, last = said(tmp_path)[1:]
    assert "error: no space for a checkpoint in" in step.splitlines()[-1]
    assert re.match("error: no space in .* free some and run", validation.splitlines()[-1])
    assert "resuming    after step 1 of 3 in epoch 1 from" in validation
    assert "resuming    after step 3 of 3 in epoch 1 from" in last
    assert_same_run(tmp_path / "straight", small_disk / "run")
