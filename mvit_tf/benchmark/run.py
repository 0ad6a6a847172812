"""The three ways to run the benchmark: models, their growth, and the loading of videos."""

import dataclasses
import tempfile
from pathlib import Path

from mvit_tf.benchmark import cells, report
from mvit_tf.benchmark.model_part import CellResult, run_cell
from mvit_tf.errors import UserError

_BATCHES = {"forward": (1, 4), "train": (2, 4)}
_QUICK_BATCHES = {"forward": (1,), "train": (2,)}
_GROWTH = {"frames": (8, 16, 32, 64), "batch": (1, 2, 4, 8)}
_QUICK_GROWTH = {"frames": (4, 8), "batch": (1, 2)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure.

    Attributes:
        models: names.
        mode, dtype: of `cells.MODES` and `cells.DTYPES`.
        batch: sizes, or None for the usual ones of each mode.
        contestants: names, or None for the usual ones.
        rounds: timed iterations of each contestant.
        threads: processors for each.
        frames, size: of the input, or None for the model's own.
        device: of `cells.DEVICES`.
        output: folder for results.
        quick: a tiny model.
    """

    models: list[str]
    mode: list[str]
    dtype: list[str]
    batch: list[int] | None
    contestants: list[str] | None
    rounds: int
    threads: int
    frames: int | None = None
    size: int | None = None
    device: str = "cpu"
    output: Path
    quick: bool = False

    def config(self, model, **changes):
        """The config of a model, with the settings' input size or that in `changes`."""
        input_size = {"frames": self.frames, "size": self.size, **changes}
        return cells.benchmark_config(model, quick=self.quick, **input_size)

    def batches(self, mode):
        return self.batch or (_QUICK_BATCHES if self.quick else _BATCHES)[mode]


def run_models(settings: Settings) -> list[CellResult]:
    """Measures every cell; prints tables, writes `results.json` and `results.png`."""
    wanted = [
        cells.Cell(model, settings.config(model), mode, batch, dtype, settings.device)
        for model in settings.models
        for mode in settings.mode
        for batch in settings.batches(mode)
        for dtype in settings.dtype
    ]
    return _run(settings, wanted, "results")


def run_growth(settings: Settings) -> None:
    """Measures the first model over frames and over batch, and draws both for each mode.

    Writes `growth_<mode>_<dtype>.json` and `.png`.
    """
    from mvit_tf.benchmark.plots import plot_growth

    model = settings.models[0]
    growth = _QUICK_GROWTH if settings.quick else _GROWTH
    for mode in settings.mode:
        for dtype in settings.dtype:
            series = {
                "frames": [
                    cells.Cell(model, settings.config(model, frames=frames), mode,
                               settings.batches(mode)[0], dtype, settings.device)
                    for frames in growth["frames"]
                ],
                "batch": [
                    cells.Cell(model, settings.config(model), mode, batch, dtype, settings.device)
                    for batch in growth["batch"]
                ],
            }  # fmt: skip
            if settings.config(model).image:
                del series["frames"]
            name = f"growth_{mode}_{dtype}"
            flat = [cell for own in series.values() for cell in own]
            results = dict(zip(flat, _run(settings, flat, name, picture=False), strict=True))
            plot_growth(
                {axis: [results[cell] for cell in own] for axis, own in series.items()},
                settings.output / f"{name}.png",
            )
            print(settings.output / f"{name}.png")


def run_input(settings: Settings, sources: list[str]) -> dict:
    """Measures the loading of videos; prints tables, writes `input.json`.

    Args:
        settings: of these `rounds`, `threads`, `output`, `quick`, and the model, its size and
            its first batch for the share of a training step that is spent waiting.
        sources: video files and folders of such; without any, videos are made.
    """
    from mvit_tf.benchmark import input_part

    output = _make_output(settings)
    facts = report.machine(settings.threads)
    print(report.describe_machine(facts))
    results = []
    with tempfile.TemporaryDirectory(prefix="mvit-benchmark-") as folder:
        for name, files in input_part.video_sets(sources, Path(folder), quick=settings.quick):
            result = input_part.run_video_set(
                name,
                files,
                config=settings.config(settings.models[0]),
                batch=settings.batches("train")[0],
                dtype=settings.dtype[0],
                rounds=settings.rounds,
                threads=settings.threads,
                quick=settings.quick,
            )
            print(f"\n{input_part.format_result(result)}", flush=True)
            results.append(result)
            report.write_json(output / "input.json", {"machine": facts, "sets": results})
    print(f"\n{output / 'input.json'}")
    return {"machine": facts, "sets": results}


def _run(settings, wanted, name, *, picture=True):
    from mvit_tf.benchmark.plots import plot_cells

    contestants = cells.find_contestants(settings.contestants, settings.device)
    output = _make_output(settings)
    facts = report.machine(settings.threads)
    print(report.describe_machine(facts))
    done = {}
    with tempfile.TemporaryDirectory(prefix="mvit-benchmark-") as folder:
        # Series of growth cross in one cell.
        for cell in dict.fromkeys(wanted):
            done[cell] = run_cell(
                cell,
                contestants,
                rounds=settings.rounds,
                threads=settings.threads,
                folder=Path(folder),
            )
            print(f"\n{report.format_cell(done[cell])}", flush=True)
            cells_so_far = [result.to_dict() for result in done.values()]
            report.write_json(
                output / f"{name}.json", {"machine": facts, "cells": cells_so_far}
            )
    measured = [result for result in done.values() if result.measurements]
    print(f"\n{output / f'{name}.json'}")
    if picture and measured:
        plot_cells(measured, output / f"{name}.png")
        print(output / f"{name}.png")
    return [done[cell] for cell in wanted]


def _make_output(settings):
    try:
        settings.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{settings.output} cannot be made: {error.strerror}") from None
    return settings.output
