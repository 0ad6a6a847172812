"""Runs a piece of code in a process of its own whose CPU is split into two devices."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_on_two_devices(code: str):
    """Runs `code`, which sets `result` to plain data, and returns that data.

    TensorFlow lets a CPU be split only before it has run anything, hence the process.
    """
    script = textwrap.dedent(code) + "\nimport json\nprint('RESULT' + json.dumps(result))\n"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.split("RESULT")[-1])
