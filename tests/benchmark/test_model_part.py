"""`mvit benchmark` on tiny models, from the arguments to the files it writes."""

import importlib.util
import json

import pytest

from mvit_tf.benchmark import cells, contest, model_part
from mvit_tf.cli.main import main

QUICK = ["benchmark", "--quick", "--model", "mvit_b_16x4", "--rounds", "3", "--threads", "1"]


def run(output, *arguments):
    assert main([*QUICK, *arguments, "--output", str(output)]) == 0
    return json.loads((output / "results.json").read_text())["cells"]


def test_ours_alone_leaves_a_table_numbers_and_a_picture(tmp_path, capsys):
    (cell,) = run(
        tmp_path, "--contestants", "ours", "--mode", "forward", "--dtype", "float32",
    )  # fmt: skip
    (measurement,) = cell["measurements"]
    assert measurement["name"] == "ours"
    assert len(measurement["seconds"]) == 3
    assert measurement["ratio"] == 1.0
    assert measurement["first_seconds"] > measurement["summary"]["median"] > 0
    assert measurement["peak_bytes"] > 10**8
    assert 0 < measurement["share_of_ceiling"] < 1
    assert cell["gemm_flop_per_second"]["tensorflow"] > 10**9
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "mvit_b_16x4 4x64x64, forward, batch 1, float32" in printed
    assert "\nours " in printed


@pytest.mark.compare
@pytest.mark.parametrize("mode", ["forward", "train"])
def test_same_numbers_in_all_implementations(mode, tmp_path):
    (cell,) = run(
        tmp_path, "--mode", mode, "--dtype", "float32", "--contestants",
        "ours,ours-saved-model,torchvision,torchvision-compile,pytorchvideo,timm",
    )  # fmt: skip
    differences = {own["name"]: own["difference"] for own in cell["measurements"]}
    expected = ["ours", "ours-saved-model", "torchvision", "torchvision-compile", "pytorchvideo"]
    if mode == "train":
        expected.remove("ours-saved-model")
    assert list(differences) == expected
    assert max(differences.values()) < 1e-4
    assert "timm has no" in cell["left_out"]["timm"]


@pytest.mark.compare
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs jax")
def test_jax_computes_the_same_on_a_processor(tmp_path):
    cells_of_jax = run(tmp_path, "--dtype", "float32", "--contestants", "torchvision,ours-jax")
    for cell in cells_of_jax:
        assert cell["left_out"] == {}
        assert [own["name"] for own in cell["measurements"]] == ["torchvision", "ours-jax"]
        assert cell["measurements"][1]["difference"] < 1e-4


class Entrant:
    """Stands in for a contestant with a process of a given size."""

    def __init__(self, peak, idle):
        self.prepared = {"peak_bytes": peak}
        self.worker = self
        self.resident_bytes = lambda: idle


@pytest.mark.parametrize(("available", "room"), [(10_000, True), (6_900, False)])
def test_room_is_for_the_largest_so_far_and_a_margin(available, room, monkeypatch):
    monkeypatch.setattr(contest, "available_bytes", lambda: available)
    entrants = [Entrant(5_000, 1_000), Entrant(2_000, 500)]
    assert model_part._room_for_one_more(entrants) is room


def test_without_room_all_are_measured_in_groups_with_the_first(tmp_path, monkeypatch):
    """Three copies of one workload; memory for two processes at a time."""
    monkeypatch.setattr(model_part, "_room_for_one_more", lambda entrants: len(entrants) < 2)
    monkeypatch.setattr(model_part, "_weights_file", lambda *_: tmp_path)
    groups = []

    def measure(ready, rounds, gemm, left_out):
        groups.append([entrant.name for entrant in ready])
        return [
            model_part.Measurement(entrant.name, "none", (1.0,), 1.0, 1, 1, 1, 0.0, {})
            for entrant in ready
        ]

    class Ready(contest.Worker):
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def prepare(self):
            return {"first_result": [1.0], "peak_bytes": 1}

    monkeypatch.setattr(model_part, "_measure", measure)
    monkeypatch.setattr(contest, "Worker", Ready)
    cell = cells.Cell(
        "mvit_b_16x4", cells.benchmark_config("mvit_b_16x4", quick=True), "forward", 1, "float32"
    )
    contestants = [
        cells.Contestant(name, "json", "style", "json") for name in ("a", "b", "c", "d")
    ]
    result = model_part.run_cell(cell, contestants, rounds=1, threads=1, folder=tmp_path)
    assert groups == [["a", "b"], ["a", "c"], ["a", "d"]]
    assert [measurement.name for measurement in result.measurements] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--contestants", "theirs"], "no contestant 'theirs'"),
        (["--model", "mvit_b_16x"], "did you mean 'mvit_b_16x4'"),
        (["--frames", "5"], "input_size T = 5 must be a multiple of 2"),
        (["--contestants", "ours-saved-model", "--mode", "train"], "nobody can take part"),
        (["--input", "nowhere"], "no file or folder nowhere"),
    ],
)
def test_mistakes_end_in_one_line(arguments, message, tmp_path, capsys):
    assert main([*QUICK, *arguments, "--output", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
