"""The first part of the benchmark: models, cell by cell."""

import contextlib
import dataclasses
import os
from pathlib import Path

import numpy as np

from mvit_tf.benchmark import cells, contest
from mvit_tf.benchmark.statistics import Summary, relative_difference, summarise, work
from mvit_tf.errors import UserError

# Of logits, relative to the largest, and of the first step's loss; between rounding of float32
# and a fault there is nothing, of bfloat16 much accumulates over the layers.
_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}
# How much more memory than the hungriest so far the next contestant may turn out to take.
_MEMORY_MARGIN = 1.2
_NOISE = 0.02


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What one contestant did in a cell.

    Attributes:
        name, framework: of the contestant.
        seconds: of each timed iteration.
        ratio: its median over that of the first contestant, both of the same turns.
        first_seconds: of the first iteration, tracing and compiling included.
        build_seconds: of importing, building the model and loading its weights, before that.
        peak_bytes: memory of the process, or of the GPU.
        difference: relative difference of logits or loss to those of the first contestant.
        description: what else the workload says of itself.
    """

    name: str
    framework: str
    seconds: tuple[float, ...]
    ratio: float
    first_seconds: float
    build_seconds: float
    peak_bytes: int
    difference: float
    description: dict

    @property
    def summary(self) -> Summary:
        return summarise(self.seconds)


@dataclasses.dataclass(frozen=True)
class CellResult:
    """A cell's measurements; `gemm` is FLOP/s by framework, `left_out` reasons by name."""

    cell: cells.Cell
    measurements: tuple[Measurement, ...]
    gemm: dict[str, float]
    left_out: dict[str, str]

    def share_of_ceiling(self, measurement: Measurement) -> float:
        """Rate of a contestant over the best rate of a matrix product in the same run."""
        from mvit_tf.analysis.complexity import complexity

        flops = work(complexity(self.cell.config).macs, self.cell.batch, self.cell.mode)
        return flops / measurement.summary.median / max(self.gemm.values())

    def to_dict(self) -> dict:
        return {
            "title": self.cell.title,
            "cell": self.cell.to_dict(),
            "gemm_flop_per_second": self.gemm,
            "left_out": self.left_out,
            "measurements": [
                {
                    **dataclasses.asdict(measurement),
                    "summary": dataclasses.asdict(measurement.summary),
                    "share_of_ceiling": self.share_of_ceiling(measurement),
                }
                for measurement in self.measurements
            ],
        }


def run_cell(
    cell: cells.Cell,
    contestants: list[cells.Contestant],
    *,
    rounds: int,
    threads: int,
    folder: Path,
) -> CellResult:
    """Measures all contestants in a cell, in turn.

    All of them stand ready at once where memory allows; otherwise in several groups, each with
    the first contestant, to whom the ratios refer.

    Args:
        cell: what to compute.
        contestants: who; those that cannot are left out with the reason.
        rounds: timed iterations of each.
        threads: processors for each.
        folder: for weights and other files.

    Raises:
        UserError: nobody can take part.
    """
    left_out, waiting = {}, []
    for contestant in contestants:
        obstacle = contestant.obstacle(cell)
        if obstacle is None:
            try:
                weights = _weights_file(contestant, cell, folder)
                waiting.append(_Entrant(contestant, _worker(contestant, cell, weights, threads)))
            except UserError as error:
                obstacle = str(error)
        if obstacle is not None:
            left_out[contestant.name] = obstacle
    if not waiting:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise UserError(f"{cell.title}: nobody can take part ({reasons})")

    first, gemm, measurements = None, {}, {}
    while waiting:
        with contextlib.ExitStack() as stack:
            ready = [] if first is None else _make_ready(stack, [first], left_out)
            if first is not None and not ready:
                left_out.update({entrant.name: f"without {first.name}" for entrant in waiting})
                break
            ready += _make_ready(stack, waiting, left_out, ready)
            ready = _agreeing(ready, cell, left_out)
            for measurement in _measure(ready, rounds, gemm, left_out):
                measurements.setdefault(measurement.name, measurement)
        first = first or (ready[0] if ready else None)
    return CellResult(cell, tuple(measurements.values()), gemm, left_out)


@dataclasses.dataclass
class _Entrant:
    contestant: cells.Contestant
    worker: contest.Worker
    prepared: dict | None = None
    difference: float = 0.0

    @property
    def name(self):
        return self.contestant.name


def _worker(contestant, cell, weights, threads):
    options = {"cell": cell.to_dict(), "style": contestant.style, "weights": str(weights)}
    if contestant.peer:
        options["peer"] = contestant.peer
    environment = {
        "KERAS_BACKEND": "jax" if contestant.framework == "jax" else "tensorflow",
        # Several share the GPU.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        # A cache of earlier runs would hide what the first iteration takes.
        "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
    }
    return contest.Worker(contestant.factory, options, threads=threads, environment=environment)


def _make_ready(stack, waiting, left_out, ready=()):
    """Starts and warms up as many of those waiting as memory allows, at least one.

    Removes them from `waiting`; those that fail go to `left_out`.
    """
    started = []
    while waiting and (not started or _room_for_one_more([*ready, *started])):
        entrant = waiting.pop(0)
        try:
            entrant.prepared = stack.enter_context(entrant.worker).prepare()
            started.append(entrant)
        except contest.WorkerError as error:
            left_out[entrant.name] = str(error)
    return started


def _room_for_one_more(entrants):
    peak = max(entrant.prepared["peak_bytes"] for entrant in entrants)
    idle = max(entrant.worker.resident_bytes() for entrant in entrants)
    return contest.available_bytes() > _MEMORY_MARGIN * peak + idle


def _agreeing(ready, cell, left_out):
    """Those whose first result is that of the first."""
    agreeing = []
    for entrant in ready:
        entrant.difference = relative_difference(
            entrant.prepared["first_result"], ready[0].prepared["first_result"]
        )
        if entrant.difference <= _TOLERANCE[cell.dtype]:
            agreeing.append(entrant)
        else:
            left_out[entrant.name] = (
                f"computes something else: relative difference {entrant.difference:.1e}"
            )
    return agreeing


def _measure(ready, rounds, gemm, left_out):
    """The measurements of those that stand ready, in turn; adds to `gemm`."""
    answers, failures = contest.take_turns([entrant.worker for entrant in ready], rounds)
    if 0 in failures:
        failures = dict.fromkeys(range(len(ready)), failures[0])
    left_out.update({ready[index].name: str(error) for index, error in failures.items()})
    measurements = []
    for index, (entrant, own) in enumerate(zip(ready, answers, strict=True)):
        if index in failures:
            continue
        seconds = tuple(answer["seconds"] for answer in own)
        # Before the matrices of the products count too.
        peak_bytes = entrant.worker.ask("memory")["peak_bytes"]
        rate = entrant.worker.ask("gemm")["rate"]
        gemm[entrant.contestant.framework] = max(
            rate, gemm.get(entrant.contestant.framework, 0.0)
        )
        reference = summarise([answer["seconds"] for answer in answers[0]])
        measurements.append(
            Measurement(
                name=entrant.name,
                framework=entrant.contestant.framework,
                seconds=seconds,
                ratio=summarise(seconds).median / reference.median,
                first_seconds=entrant.prepared["first_seconds"],
                build_seconds=entrant.prepared["build_seconds"],
                peak_bytes=peak_bytes,
                difference=entrant.difference,
                description=entrant.prepared["description"],
            )
        )
    return measurements


def _weights_file(contestant, cell, folder):
    """The same weights for everybody, each in its own format; made when first asked for.

    Raises:
        UserError: the contestant's implementation has no such model.
    """
    size = "x".join(map(str, cell.config.input_size))
    own = folder / f"{cell.model}_{size}"
    keras_file = own / "model.weights.h5"
    if contestant.style == "saved_model":
        path = own / f"saved_model_{cell.dtype}" / "1"
    elif contestant.peer:
        path = own / f"{contestant.peer}.npz"
    else:
        path = keras_file
    if not keras_file.exists():
        own.mkdir(parents=True, exist_ok=True)
        _write_random_weights(cell.config, keras_file)
    if not path.exists():
        if contestant.peer:
            _write_state_dict(cell.config, keras_file, contestant.peer, path)
        else:
            _write_saved_model(cell, keras_file, path.parent)
    return path


def _write_random_weights(config, path):
    import keras

    from mvit_tf.models import build_mvit

    keras.utils.set_random_seed(0)
    model = build_mvit(config)
    rng = np.random.default_rng(0)
    # Without noise, tables and biases that start at zero would be compared with nothing.
    for variable in model.trainable_variables:
        noise = rng.standard_normal(variable.shape)
        variable.assign_add((_NOISE * noise).astype("float32"))
    unfinished = path.with_name(f".{path.name}")
    model.save_weights(unfinished)
    os.replace(unfinished, path)


def _write_state_dict(config, keras_file, layout, path):
    from mvit_tf.conversion import to_pytorch_state_dict
    from mvit_tf.models import build_mvit

    model = build_mvit(config)
    model.load_weights(keras_file)
    np.savez(path, **to_pytorch_state_dict(model, layout))


def _write_saved_model(cell, keras_file, directory):
    from mvit_tf.benchmark.tensorflow_workload import build_model
    from mvit_tf.data.sampling import ClipSampling
    from mvit_tf.data.transforms import Preprocessing
    from mvit_tf.export.saved_model import export_saved_model

    config = cell.config
    size = config.input_size[1:]
    export_saved_model(
        build_model(config, cell.dtype, keras_file),
        directory,
        class_names=[str(index) for index in range(config.num_classes)],
        preprocessing=Preprocessing(
            size=size,
            short_side=min(size),
            mean=(cells.MEAN,) * 3,
            std=(cells.STD,) * 3,
        ),
        sampling=ClipSampling(config.input_size[0]),
        num_clips=1,
    )
