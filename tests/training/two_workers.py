"""Trainings of several processes on this machine that hold each other for machines."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def free_ports(number):
    """So many ports that nothing listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for found in sockets:
            found.bind(("127.0.0.1", 0))
        return [found.getsockname()[1] for found in sockets]


def tf_config(ports, index, **task):
    """TF_CONFIG of one worker on loopback."""
    workers = [f"127.0.0.1:{port}" for port in ports]
    task = {"type": "worker", "index": index, **task}
    return json.dumps({"cluster": {"worker": workers}, "task": task})


def start_worker(config, *args, **environment):
    """train.py with a TF_CONFIG, `None` for none, as a process with its output as text."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    environment.pop("TF_CONFIG", None)
    if config is not None:
        environment["TF_CONFIG"] = config
    return subprocess.Popen(
        [sys.executable, "train.py", *args],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(processes, timeout=600):
    """[(exit status, output)] of processes; none is left running."""
    try:
        return [(p.communicate(timeout=timeout)[0], p.returncode)[::-1] for p in processes]
    finally:
        for process in processes:
            process.kill()


def start_workers(number, *args, **environment):
    """So many workers that train together."""
    ports = free_ports(number)
    return [start_worker(tf_config(ports, i), *args, **environment) for i in range(number)]
