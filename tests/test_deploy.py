"""The files of deploy/: the addresses they make, and that they are what their tools read."""

import json
import os
import subprocess
import sys
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
