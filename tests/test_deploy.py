"""The files of deploy/: the addresses they make, and that they are what their tools read."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

DEPLOY = Path(__file__).parents[1] / "deploy"


def tf_config(*args, **environment):
    done = subprocess.run(
        [sys.executable, DEPLOY / "tf_config.py", *args],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return json.loads(done.stdout) if not done.returncode else done.stderr


@pytest.mark.parametrize(
    ("nodes", "tasks", "workers"),
    [
        ("gpu[09-11,7],login", "1(x5)", ["gpu09", "gpu10", "gpu11", "gpu7", "login"]),
        ("a", "1", ["a"]),
        ("n[1-2]-ib.x", "1(x2)", ["n1-ib.x", "n2-ib.x"]),
    ],
)
def test_tf_config_of_a_slurm_step(nodes, tasks, workers):
    config = tf_config(
        "--slurm",
        "--port=7000",
        SLURM_STEP_NODELIST=nodes,
        SLURM_STEP_TASKS_PER_NODE=tasks,
        SLURM_PROCID="0",
    )
    assert config["cluster"] == {"worker": [f"{host}:7000" for host in workers]}
    assert config["task"] == {"type": "worker", "index": 0}


def test_tasks_of_one_slurm_node_have_ports_of_their_own():
    config = tf_config(
        "--slurm",
        SLURM_STEP_NODELIST="a[1-2],b",
        SLURM_STEP_TASKS_PER_NODE="2(x2),1",
        SLURM_PROCID="3",
    )
    assert config["cluster"]["worker"] == ["a1:5000", "a1:5001", "a2:5000", "a2:5001", "b:5000"]
    assert config["task"]["index"] == 3


def test_tf_config_of_other_schedulers_and_mistakes():
    assert tf_config("--workers=a:1,b:2", "--index=1")["cluster"]["worker"] == ["a:1", "b:2"]
    config = tf_config("--service=s", "--name=j", "--number=2", "--index=1")
    assert config["cluster"]["worker"] == ["j-0.s:5000", "j-1.s:5000"]
    assert "they count from 0" in tf_config("--workers=a:1", "--index=1")
    assert "SLURM_JOB_NODELIST is not set" in tf_config("--slurm", SLURM_STEP_NODELIST="")


def test_the_job_names_its_pods_as_its_script_does():
    service, job = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    spec = job["spec"]
    pod = spec["template"]["spec"]
    environment = {entry["name"]: entry["value"] for entry in pod["containers"][0]["env"]}
    assert environment["JOB"] == job["metadata"]["name"] == service["spec"]["selector"]["job-name"]
    assert environment["SERVICE"] == service["metadata"]["name"] == pod["subdomain"]
    assert int(environment["NUMBER"]) == spec["completions"] == spec["parallelism"]
    pools = yaml.safe_load((DEPLOY / "vertex_ai.yaml").read_text())["workerPoolSpecs"]
    assert [pool["machineSpec"] for pool in pools] == [pools[0]["machineSpec"]] * 2


@pytest.mark.parametrize("script", ["slurm.sh", "two_workers.sh"])
def test_the_scripts_are_bash(script):
    subprocess.run(["bash", "-n", DEPLOY / script], check=True)


STUBS = {
    # Two tasks, of which the highest status is told; a signal goes to each as srun sends it.
    "srun": """
        while [[ $1 == --* ]]; do shift; done
        tasks=()
        for id in 0 1; do SLURM_PROCID=$id "$@" & tasks+=($!); done
        trap 'got=1; kill -USR1 "${tasks[@]}"; $ALSO_PYTHON' USR1
        highest=0
        for task in "${tasks[@]}"; do
            while got=; wait "$task"; status=$?; [ -n "$got" ]; do :; done
            [ "$status" -gt "$highest" ] && highest=$status
        done
        exit "$highest"
    """,
    "scontrol": 'echo "$@" >>"$FOLDER/requeued"',
    # Counts the signals that come to it, and takes a while to end after one.
    "python": """
        [ "$1" = train.py ] || { echo config; exit "${CONFIG_STATUS:-0}"; }
        echo "$TF_CONFIG $2" >>"$FOLDER/args-$SLURM_PROCID"
        set -- $STATUSES
        status=$([ "$SLURM_PROCID" = 0 ] && echo "$1" || echo "$2")
        [ "$status" = signal ] || exit "$status"
        trap 'echo TERM >>"$FOLDER/signals-$SLURM_PROCID"; status=143' TERM
        echo $$ >"$FOLDER/pid-$SLURM_PROCID"
        for _ in {1..400}; do
            [ "$status" = 143 ] && { sleep 0.3; exit 143; }
            sleep 0.05
        done
    """,
}


@pytest.fixture
def slurm_job(tmp_path):
    """Starts slurm.sh, its two workers ending with `statuses`; "signal" waits for one."""
    for name, text in STUBS.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}")
        (tmp_path / name).chmod(0o755)

    def start(statuses, **environment):
        return subprocess.Popen(
            ["bash", DEPLOY / "slurm.sh", "--model_dir=/a b"],
            env={
                **os.environ,
                "PATH": f"{tmp_path}:{os.environ['PATH']}",
                "FOLDER": str(tmp_path),
                "SLURM_JOB_ID": "12",
                "SLURM_SUBMIT_DIR": str(tmp_path),
                "STATUSES": statuses,
                "ALSO_PYTHON": ":",
                **environment,
            },
        )

    return start


@pytest.mark.parametrize(
    ("statuses", "ends", "requeued"),
    [
        ("0 0", 0, False),
        ("2 2", 2, False),
        ("75 2", 2, False),
        ("2 143", 2, False),
        ("75 137", 137, True),
        ("143 143", 143, True),
    ],
)
def test_a_mistake_of_one_worker_is_not_queued_again(slurm_job, tmp_path, statuses, ends, requeued):
    (tmp_path / "mvit-12.mistake").write_text("")  # of an earlier start
    assert slurm_job(statuses).wait(20) == ends
    assert (tmp_path / "requeued").exists() is requeued
    assert (tmp_path / "args-0").read_text() == "config --model_dir=/a b\n"
    assert not (tmp_path / "mvit-12.mistake").exists()


def test_workers_without_addresses_do_not_train(slurm_job, tmp_path):
    assert slurm_job("0 0", CONFIG_STATUS="1").wait(20) == 2
    assert not (tmp_path / "args-0").exists() and not (tmp_path / "requeued").exists()


def wait_for_workers(folder):
    limit = time.monotonic() + 20
    while not all((folder / f"pid-{index}").exists() for index in (0, 1)):
        assert time.monotonic() < limit
        time.sleep(0.02)


@pytest.mark.parametrize("also_python", [":", 'kill -USR1 $(cat "$FOLDER"/pid-*)'])
def test_the_end_of_the_time_is_told_each_worker_once(slurm_job, tmp_path, also_python):
    """However SLURM sends it: to the tasks alone, or to what they have started too."""
    job = slurm_job("signal signal", ALSO_PYTHON=f"eval {also_python}")
    wait_for_workers(tmp_path)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(20) == 143
    assert (tmp_path / "requeued").read_text() == "requeue 12\n"
    for index in (0, 1):
        assert (tmp_path / f"signals-{index}").read_text() == "TERM\n"


def test_a_cancelled_job_stays_ended(slurm_job, tmp_path):
    job = slurm_job("signal signal")
    wait_for_workers(tmp_path)
    job.terminate()
    assert job.wait(20) == -signal.SIGTERM
    for index in (0, 1):  # SLURM ends the workers itself.
        os.kill(int((tmp_path / f"pid-{index}").read_text()), signal.SIGTERM)
    time.sleep(1)
    assert not (tmp_path / "requeued").exists()
