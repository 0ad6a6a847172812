"""The parent of several workers: starts them, lets them compute in turn, ends them."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

_ROOT = str(Path(__file__).parent.parent)
_SETTLE_SECONDS = 0.05
_SHUTDOWN_SECONDS = 10


class WorkerError(Exception):
    """An implementation that could not do what was asked; the message says why."""


class Worker:
    """A process that runs `benchmarks.worker`; a context manager, at whose end it is gone.

    Args:
        threads: processors it may use.
        package: another checkout to take `mvit_tf` from.
        environment: variables to set for the process.
    """

    def __init__(
        self,
        *,
        threads: int,
        package: str | None = None,
        environment: Mapping[str, str] | None = None,
    ):
        self._threads, self._package = threads, package
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([_ROOT, os.environ.get("PYTHONPATH", "")]),
            "OMP_NUM_THREADS": str(threads),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            **(environment or {}),
        }

    def __enter__(self):
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=self._environment,
            text=True,
        )
        return self

    def __exit__(self, *_):
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_SHUTDOWN_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def prepare(self, factory: str, options: Mapping) -> dict:
        """Makes the workload, takes a first iteration and some to warm up.

        Args:
            factory: "module:function" that makes the workload.
            options: its keyword arguments, JSON data.

        Returns:
            build_seconds, first_seconds, first_result.
        """
        job = {"factory": factory, "options": options, "threads": self._threads}
        return self.ask("prepare", **job, package=self._package)

    def call(self, function: str, options: Mapping):
        """The result of a "module:function" in the process."""
        answer = self.ask("call", function=function, options=options, package=self._package)
        return answer["result"]

    def ask(self, what: str, **details) -> dict:
        """Sends a request and waits for its answer.

        Raises:
            WorkerError: the worker reports an error, or has ended.
        """
        try:
            print(json.dumps({"do": what, **details}), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            status = self._process.wait()
            ending = f"was killed by signal {-status}" if status < 0 else f"ended with {status}"
            raise WorkerError(f"its process {ending}{self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def resident_bytes(self) -> int:
        """Memory that the process holds now; 0 where the system does not tell."""
        return _kilobytes(f"/proc/{self._process.pid}/status", "VmRSS:") * 1024

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""


def take_turns(
    workers: Mapping[str, Worker], rounds: int
) -> tuple[dict[str, list[dict]], dict[str, str]]:
    """Lets workers take single iterations in turn, so that drift hits all alike.

    Every other round goes backwards, A B B A: who comes after whom is no advantage.

    Returns:
        (the answers of each worker, one a round; of those that failed, the reason). Who has
        failed is not asked again.
    """
    answers, failures = {name: [] for name in workers}, {}
    for index in range(rounds):
        for name in list(workers)[:: -1 if index % 2 else 1]:
            if name in failures:
                continue
            # Thread pools spin for a moment before they sleep.
            time.sleep(_SETTLE_SECONDS)
            try:
                answers[name].append(workers[name].ask("step"))
            except WorkerError as error:
                failures[name] = str(error)
    return answers, failures


def available_bytes() -> int:
    """Memory that new processes can have; without limit where the system does not tell."""
    return _kilobytes("/proc/meminfo", "MemAvailable:") * 1024 or sys.maxsize


def _kilobytes(path: str, field: str) -> int:
    with contextlib.suppress(OSError), open(path) as lines:
        for line in lines:
            if line.startswith(field):
                return int(line.split()[1])
    return 0
