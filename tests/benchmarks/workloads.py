"""Workloads that need no framework, for tests of parent and worker."""

import os


class _Counter:
    def __init__(self, start, fails_at, dies_at):
        self._count, self._fails_at, self._dies_at = start, fails_at, dies_at

    def step(self):
        self._count += 1
        print("what a library prints", flush=True)
        if self._count == self._fails_at:
            raise RuntimeError("no more\nthan that")
        if self._count == self._dies_at:
            os._exit(7)
        return self._count

    def gemm_rate(self):
        return 125.0


def build(*, threads, start=0, fails_at=None, dies_at=None):
    return _Counter(start, fails_at, dies_at)


def describe():
    return {"processors": len(os.sched_getaffinity(0)), "mark": os.environ.get("MARK")}


def version():
    import mvit_tf

    return mvit_tf.version
