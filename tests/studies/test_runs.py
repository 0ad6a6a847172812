"""Real runs of a study in processes of their own, stopped, killed and gone on with."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mvit_tf.studies.conduct import conduct
from mvit_tf.studies.study import load_study
from tests.own_words import own_words
from tests.studies.toy import without_times, write_study

pytestmark = pytest.mark.slow

COMMAND = "import sys; from mvit_tf.cli.main import main; sys.exit(main())"
ROOT = Path(__file__).parents[2]


def start(study, output):
    """`mvit study` in a process."""
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "study", study, "--output", output],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition, process):
    end = time.monotonic() + 1800
    while not condition():
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.05)


def checkpoints(model_dir):
    return list((model_dir / "checkpoints").glob("step-*.weights.h5"))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def straight(tmp_path_factory, study):
    output = tmp_path_factory.mktemp("straight")
    return output, conduct(load_study(study), output)


def test_every_run_has_a_model_directory_and_a_score(straight):
    output, report = straight
    assert [row["variant"] for row in report["variants"]] == ["none", "separate"]
    for row in report["variants"]:
        for seed, accuracy in enumerate(row["accuracy"]["runs"]):
            folder = output / "runs" / row["variant"] / f"seed_{seed}"
            evaluation = json.loads((folder / "evaluation.json").read_text())
            assert (evaluation["num_videos"], evaluation["epoch"]) == (8, 2)
            assert evaluation["top1_of_all"] == accuracy
            shuffled = json.loads((folder / "evaluation_shuffled_frames.json").read_text())
            assert row["shuffled"]["runs"][seed] == shuffled["top1_of_all"]
    assert {result["seed"] for result in report["seconds"]} == {0, 1}
    for name in ("results.json", "results.md", "results.png"):
        assert (output / name).stat().st_size > 0


def test_stopped_and_killed_it_goes_on_to_the_same_table(straight, study, tmp_path):
    expected = straight[1]
    # Stopped, once the second run has a checkpoint: it ends saved, and the first is kept.
    process = start(study, tmp_path)
    second = tmp_path / "runs" / "separate" / "seed_0"
    wait_for(lambda: checkpoints(second), process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode == 143
    assert "interrupted; the same command goes on: mvit study" in own_words(said)
    assert "Traceback" not in said
    first = (tmp_path / "runs" / "none" / "seed_0.json").stat().st_mtime_ns
    assert not second.with_name("seed_0.json").exists()
    assert not (second / ".training").exists()
    # Killed, in the third: that run ends by itself, saved.
    process = start(study, tmp_path)
    third = tmp_path / "runs" / "none" / "seed_1"
    wait_for(lambda: checkpoints(third), process)
    assert "goes on" not in (tmp_path / "runs" / "none" / "seed_1.log").read_text()
    process.kill()
    process.communicate()
    end = time.monotonic() + 600
    while (third / ".training").exists():
        assert time.monotonic() < end
        time.sleep(0.1)
    report = conduct(load_study(study), tmp_path)
    assert without_times(report) == without_times(expected)
    written = json.loads((tmp_path / "results.json").read_text())
    assert without_times(written) == json.loads(json.dumps(without_times(expected)))
    assert (tmp_path / "runs" / "none" / "seed_0.json").stat().st_mtime_ns == first
    assert "resuming" in second.with_name("seed_0.log").read_text()
