"""Models, case by case: the same work for all implementations, in turn."""

import contextlib
import dataclasses
from pathlib import Path

import numpy as np

from benchmarks.cases import Case
from benchmarks.implementations import Implementation
from benchmarks.processes import Worker, WorkerError, available_bytes, take_turns
from mvit_tf.errors import UserError

# Of logits, relative to the largest, and of the first step's loss; between rounding of float32
# and a fault there is nothing, of bfloat16 much accumulates over the layers.
_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}
# How much more memory than the hungriest so far the next one may turn out to take.
_MEMORY_MARGIN = 1.2
# Two operations a multiply-add; a training step multiplies every weight forward, and for the
# gradients of its input and of itself.
_FLOP_PER_MAC = {"forward": 2, "train": 6}
_ENVIRONMENT = {
    # Several share the GPU.
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    # A cache of earlier runs would hide what the first iteration takes.
    "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
}


def run_case(
    case: Case,
    implementations: list[Implementation],
    *,
    rounds: int,
    threads: int,
    folder: Path,
) -> dict:
    """Measures all implementations in a case, in turn.

    All of them stand ready at once where memory allows; otherwise in several groups, each with
    the first one, to which the ratios refer.

    Args:
        case: what to compute.
        implementations: who; those that cannot are left out with the reason.
        rounds: timed iterations of each.
        threads: processors for each.
        folder: for weights and other files.

    Returns:
        JSON data: `title`, `case`, `gemm` (FLOP/s by framework), `left_out` (reasons by name)
        and `measurements` by name: seconds (of each iteration), ratio (median over the rounds,
        to the first), first_seconds, build_seconds, peak_bytes, difference, share_of_gemm.

    Raises:
        UserError: nobody can take part.
    """
    left_out = {each.name: each.obstacle(case) for each in implementations}
    waiting = [each for each in implementations if not left_out[each.name]]
    left_out = {name: reason for name, reason in left_out.items() if reason}
    first, gemm, measurements = None, {}, {}
    while waiting:
        with contextlib.ExitStack() as stack:
            group = _Group(case, threads, folder, stack, left_out)
            while waiting and group.has_room():
                if first and not group.workers:
                    if not group.add(first):
                        left_out.update({each.name: f"without {first.name}" for each in waiting})
                        waiting = []
                elif group.add(each := waiting.pop(0)):
                    first = first or each
            for name, measurement in group.measure(rounds, gemm).items():
                measurements.setdefault(name, measurement)
    if not measurements:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise UserError(f"{case.title}: nobody could take part ({reasons})")
    for measurement in measurements.values():
        rate = flop(case) / np.median(measurement["seconds"])
        measurement["share_of_gemm"] = rate / max(gemm.values())
    return {
        "title": case.title,
        "case": dataclasses.asdict(case),
        "gemm": gemm,
        "left_out": left_out,
        "measurements": measurements,
    }


def flop(case: Case) -> int:
    """Floating point operations of one iteration."""
    import mvit_tf

    return _FLOP_PER_MAC[case.mode] * case.batch * mvit_tf.complexity(case.config()).macs


def relative_difference(values, reference) -> float:
    """Largest absolute difference over the largest absolute value of the reference."""
    values, reference = np.asarray(values, np.float64), np.asarray(reference, np.float64)
    return float(np.abs(values - reference).max() / np.abs(reference).max())


class _Group:
    """Implementations whose processes stand ready at the same time."""

    def __init__(self, case, threads, folder, stack, left_out):
        self._case, self._threads, self._folder = case, threads, folder
        self._stack, self._left_out = stack, left_out
        self._implementations, self._prepared = {}, {}
        self.workers = {}

    def has_room(self):
        """Whether memory allows one more; always for the first two, which make a comparison."""
        if len(self.workers) < 2:
            return True
        peak = max(worker.ask("memory")["peak_bytes"] for worker in self.workers.values())
        idle = max(worker.resident_bytes() for worker in self.workers.values())
        return available_bytes() > _MEMORY_MARGIN * peak + idle

    def add(self, implementation):
        """Starts one; says whether it came up and agrees with the first one's numbers."""
        name = implementation.name
        backend = "jax" if implementation.framework == "jax" else "tensorflow"
        worker = Worker(
            threads=self._threads,
            package=implementation.package,
            environment={**_ENVIRONMENT, "KERAS_BACKEND": backend},
        )
        options = {"case": dataclasses.asdict(self._case), "style": implementation.style}
        if implementation.peer:
            options["peer"] = implementation.peer
        try:
            options["weights"] = _weights_file(implementation, self._case, self._folder)
            factory = f"benchmarks.{implementation.framework}_workload:build"
            prepared = self._stack.enter_context(worker).prepare(factory, options)
        except WorkerError as error:
            self._left_out[name] = str(error)
            return False
        reference = next(iter(self._prepared.values()), prepared)["first_result"]
        difference = relative_difference(prepared["first_result"], reference)
        if not difference <= _TOLERANCE[self._case.dtype]:
            self._left_out[name] = f"computes something else: relative difference {difference:.1e}"
            return False
        self.workers[name], self._implementations[name] = worker, implementation
        self._prepared[name] = {**prepared, "difference": difference}
        return True

    def measure(self, rounds, gemm):
        """Measurements by name; adds to `gemm`. Without the first one, of nobody."""
        answers, failures = take_turns(self.workers, rounds)
        self._left_out.update(failures)
        seconds = {
            name: [answer["seconds"] for answer in own]
            for name, own in answers.items()
            if name not in failures
        }
        first = next(iter(self.workers), None)
        if first not in seconds:
            self._left_out.update({name: f"without {first}" for name in seconds})
            return {}
        measurements = {}
        for name, own in seconds.items():
            prepared = self._prepared[name]
            measurements[name] = {
                "seconds": own,
                "ratio": float(np.median(np.divide(own, seconds[first]))),
                "first_seconds": prepared["first_seconds"],
                "build_seconds": prepared["build_seconds"],
                # Before the matrices of the products count too.
                "peak_bytes": self.workers[name].ask("memory")["peak_bytes"],
                "difference": prepared["difference"],
            }
            rate = self.workers[name].ask("gemm")["rate"]
            framework = self._implementations[name].framework
            gemm[framework] = max(rate, gemm.get(framework, 0.0))
        return measurements


def _weights_file(implementation, case, folder):
    """The file or folder that an implementation takes its weights from; None for a seed's."""
    options = {"case": dataclasses.asdict(dataclasses.replace(case, batch=1))}
    if implementation.style == "saved_model":
        # Of every type and checkout its own.
        function = "benchmarks.tensorflow_workload:write_saved_model"
        path = folder / str(abs(hash((implementation, case))))
    elif implementation.peer:
        function = "benchmarks.cases:write_state_dict"
        size = "x".join(map(str, case.config().input_size))
        path = folder / f"{case.model}_{size}_{implementation.peer}.npz"
        options["layout"] = implementation.peer
        if path.exists():
            return str(path)
    else:
        return None
    # In a process of its own, whose memory is not the implementation's.
    with Worker(threads=1, package=implementation.package) as worker:
        result = worker.call(function, {**options, "path": str(path)})
    return result or str(path)
