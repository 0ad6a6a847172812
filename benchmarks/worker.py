"""One implementation in a process of its own, obeying a parent over pipes.

Run as `python -m benchmarks.worker`. Requests come as JSON lines on standard input, each is
answered with one on standard output; between requests the process sleeps. The request
`prepare` names a factory, which makes the workload: an object with

    step()          one iteration, done when it returns; the result is JSON data
    gemm_rate()     optional: FLOP/s of a large matrix product
    peak_bytes()    optional: peak memory of a device; else the process' own is told
"""

import importlib
import json
import os
import resource
import sys
import time
import traceback

from benchmarks.process_tree import cpu_seconds

_WARM_UPS = 2
_GEMM_REPETITIONS = 10


def main() -> None:
    # What libraries print must not end up among the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = _Worker()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        # Whatever stops an implementation is reported, and the others go on.
        except Exception as error:
            traceback.print_exc()
            first = str(error).strip().partition("\n")[0]
            answer = {"error": f"{type(error).__name__}: {first}"}
        print(json.dumps(answer), file=answers, flush=True)


def peak_host_bytes() -> int:
    """The most memory this process has had in RAM so far."""
    # Not getrusage, where Linux has something better: a process starts with its parent's peak.
    if os.path.exists("/proc/self/status"):
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def best_rate(product, size):
    """FLOP/s of the fastest of several products of two square matrices.

    Args:
        product: computes one, complete when it returns.
        size: rows of the matrices.
    """
    product()
    product()
    seconds = []
    for _ in range(_GEMM_REPETITIONS):
        started = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds)


class _Worker:
    def __init__(self):
        self._workload = None

    def prepare(self, *, factory, options, threads, package):
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
        started = time.perf_counter()
        if package:
            _import_from(package)
        self._workload = _find(factory)(threads=threads, **options)
        built = time.perf_counter()
        result = self._workload.step()
        first = time.perf_counter()
        for _ in range(_WARM_UPS):
            self._workload.step()
        return {
            "build_seconds": built - started,
            "first_seconds": first - built,
            "first_result": result,
        }

    def call(self, *, function, options, package):
        if package:
            _import_from(package)
        return {"result": _find(function)(**options)}

    def step(self):
        worked, started = cpu_seconds(os.getpid()), time.perf_counter()
        result = self._workload.step()
        seconds = time.perf_counter() - started
        worked = cpu_seconds(os.getpid()) - worked
        return {"seconds": seconds, "cpu_seconds": worked, "result": result}

    def memory(self):
        return {"peak_bytes": getattr(self._workload, "peak_bytes", peak_host_bytes)()}

    def gemm(self):
        return {"rate": self._workload.gemm_rate()}


def _find(name):
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _import_from(checkout):
    """Imports `mvit_tf` from another checkout; its modules come from there ever after."""
    sys.path.insert(0, checkout)
    package = importlib.import_module("mvit_tf")
    sys.path.remove(checkout)
    found = os.path.dirname(os.path.dirname(os.path.abspath(package.__file__)))
    if not os.path.samefile(found, checkout):
        raise ImportError(f"mvit_tf comes from {found}, not from {checkout}")


if __name__ == "__main__":
    main()
