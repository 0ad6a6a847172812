"""The parent of several workers: starts them, lets them compute in turn, ends them."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

_SETTLE_SECONDS = 0.05
_SHUTDOWN_SECONDS = 10


class WorkerError(Exception):
    """A contestant that could not do what was asked; the message says why."""


class Worker:
    """A contestant in a process of its own, see `mvit_tf.benchmark.worker`.

    A context manager: the process is gone when the block ends.

    Args:
        factory: "module:function" that makes the workload.
        options: keyword arguments of the factory, JSON data.
        threads: processors it may use.
        environment: variables to set for the process.
    """

    def __init__(
        self,
        factory: str,
        options: Mapping,
        *,
        threads: int,
        environment: Mapping[str, str] | None = None,
    ):
        self._job = {"factory": factory, "options": dict(options), "threads": threads}
        self._environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            **(environment or {}),
        }

    def __enter__(self):
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mvit_tf.benchmark.worker"],
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

    def prepare(self) -> dict:
        """Makes the workload, takes a first iteration and some to warm up.

        Returns:
            build_seconds, first_seconds, first_result, description, peak_bytes.
        """
        return self.ask("prepare", **self._job)

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
    workers: Sequence[Worker], rounds: int
) -> tuple[list[list[dict]], dict[int, WorkerError]]:
    """Lets workers take single iterations in turn, A B A B, so that drift hits all alike.

    Returns:
        (the answers of each worker, one a round; for those that failed, by index, the error).
        Who has failed is not asked again.
    """
    answers = [[] for _ in workers]
    failures = {}
    for _ in range(rounds):
        for index, worker in enumerate(workers):
            if index in failures:
                continue
            # Thread pools spin for a moment before they sleep.
            time.sleep(_SETTLE_SECONDS)
            try:
                answers[index].append(worker.ask("step"))
            except WorkerError as error:
                failures[index] = error
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
