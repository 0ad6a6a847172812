"""One contestant in a process of its own, obeying a parent over pipes.

Run as `python -m mvit_tf.benchmark.worker`. Requests come as JSON lines on standard input, each
is answered with one on standard output; between requests the process sleeps. The first
request, `prepare`, names a factory, which makes the workload: an object with

    step()          one iteration, done when it returns; the result is JSON data
    gemm_rate()     optional: FLOP/s of a large matrix product
    peak_bytes()    optional: peak memory of a device; else the process' own is told
    describe()      optional: JSON data for the report
"""

import importlib
import json
import os
import resource
import sys
import time
import traceback

_WARM_UPS = 2


def main() -> None:
    # What libraries print must not end up among the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = _Worker()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        # Whatever stops a contestant is reported, and the others go on.
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


class _Worker:
    def __init__(self):
        self._workload = None

    def prepare(self, *, factory, options, threads):
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
        module, _, name = factory.partition(":")
        started = time.perf_counter()
        build = getattr(importlib.import_module(module), name)
        self._workload = build(threads=threads, **options)
        built = time.perf_counter()
        result = self._workload.step()
        first = time.perf_counter()
        for _ in range(_WARM_UPS):
            self._workload.step()
        describe = getattr(self._workload, "describe", dict)
        return {
            "build_seconds": built - started,
            "first_seconds": first - built,
            "first_result": result,
            "description": describe(),
            **self.memory(),
        }

    def step(self):
        started = time.perf_counter()
        result = self._workload.step()
        return {"seconds": time.perf_counter() - started, "result": result}

    def memory(self):
        return {"peak_bytes": getattr(self._workload, "peak_bytes", peak_host_bytes)()}

    def gemm(self):
        return {"rate": self._workload.gemm_rate()}


if __name__ == "__main__":
    main()
