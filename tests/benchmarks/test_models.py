"""`python -m benchmarks model` on tiny models, from the arguments to the file it writes."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import mvit_tf
from benchmarks import models, report
from benchmarks.__main__ import main
from benchmarks.cases import Case
from benchmarks.implementations import Implementation
from mvit_tf.analysis.complexity import complexity

TINY = ["model", "--tiny", "--rounds", "3", "--threads", "1"]
ROOT = Path(__file__).parent.parent.parent


def run(output, *arguments):
    assert main([*TINY, *arguments, "--output", str(output / "results.json")]) == 0
    return json.loads((output / "results.json").read_text())["results"]


@pytest.mark.slow
def test_two_checkouts_leave_a_table_and_numbers(tmp_path, capsys):
    other = f"ours@{ROOT}"
    (case,) = run(tmp_path, "--implementations", f"ours,{other}")
    assert case["left_out"] == {}
    assert list(case["measurements"]) == ["ours", other]
    for measurement in case["measurements"].values():
        assert len(measurement["seconds"]) == 3
        assert measurement["first_seconds"] > np.median(measurement["seconds"]) > 0
        assert measurement["peak_bytes"] > 10**8
        assert 0 < measurement["share_of_gemm"] < 1
        assert measurement["difference"] == 0.0
    assert case["measurements"]["ours"]["ratio"] == 1.0
    assert case["gemm"]["tensorflow"] > 10**9
    printed = capsys.readouterr().out
    assert "mvit_b_16x4 4x64x64, forward, batch 1, float32" in printed
    assert "ours@" in printed


@pytest.mark.compare
@pytest.mark.parametrize("mode", ["forward", "train"])
def test_same_numbers_in_all_implementations(mode, tmp_path):
    (case,) = run(
        tmp_path, "--mode", mode, "--implementations",
        "ours,ours-saved-model,torchvision,torchvision-compile,pytorchvideo,timm",
    )  # fmt: skip
    differences = {name: own["difference"] for name, own in case["measurements"].items()}
    expected = ["ours", "ours-saved-model", "torchvision", "torchvision-compile", "pytorchvideo"]
    if mode == "train":
        expected.remove("ours-saved-model")
    assert list(differences) == expected
    assert max(differences.values()) < 1e-4
    assert "timm has no" in case["left_out"]["timm"]


@pytest.mark.compare
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs jax")
def test_jax_computes_the_same_on_a_processor(tmp_path):
    cases = run(tmp_path, "--mode", "forward,train", "--implementations", "torchvision,ours-jax")
    for case in cases:
        assert case["left_out"] == {}
        assert list(case["measurements"]) == ["torchvision", "ours-jax"]
        assert case["measurements"]["ours-jax"]["difference"] < 1e-4


class Stub:
    """Stands in for a worker; `results` are first results by framework."""

    results = {}
    peak, idle = 5_000, 1_000

    def __init__(self, **_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def prepare(self, factory, options):
        result = self.results.get(options["style"], [1.0])
        return {"first_result": result, "first_seconds": 1.0, "build_seconds": 1.0}

    def ask(self, what):
        return {
            "memory": {"peak_bytes": self.peak},
            "gemm": {"rate": 1e9},
            "step": {"seconds": 1.0},
        }[what]

    def resident_bytes(self):
        return self.idle


def run_stubs(styles, tmp_path):
    implementations = [Implementation(style, "json", style) for style in styles]
    return models.run_case(
        Case("mvit_b_16x4", tiny=True), implementations, rounds=1, threads=1, folder=tmp_path
    )


@pytest.mark.parametrize(
    ("available", "groups"),
    [(10_000, [["a", "b", "c", "d"]]), (6_900, [["a", "b"], ["a", "c"], ["a", "d"]])],
)
def test_without_room_all_are_measured_in_groups_with_the_first(
    available, groups, tmp_path, monkeypatch
):
    monkeypatch.setattr(models, "Worker", Stub)
    monkeypatch.setattr(models, "available_bytes", lambda: available)
    seen, take_turns = [], models.take_turns

    def record(workers, rounds):
        seen.append(list(workers))
        return take_turns(workers, rounds)

    monkeypatch.setattr(models, "take_turns", record)
    result = run_stubs("abcd", tmp_path)
    assert seen == groups
    assert list(result["measurements"]) == ["a", "b", "c", "d"]


def test_who_computes_something_else_is_left_out_untimed(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "Worker", Stub)
    monkeypatch.setattr(Stub, "results", {"b": [1.1], "c": [float("nan")], "d": [1.00001]})
    result = run_stubs("abcd", tmp_path)
    assert list(result["measurements"]) == ["a", "d"]
    assert result["left_out"]["b"] == "computes something else: relative difference 1.0e-01"
    assert result["left_out"]["c"] == "computes something else: relative difference nan"
    assert "left out: b: computes something else" in report.format_case(result)


def test_a_training_step_is_three_forward_passes_of_two_operations_a_multiply_add():
    macs = complexity(mvit_tf.get_config("mvit_b_16x4")).macs
    assert models.flop(Case("mvit_b_16x4", "forward", 4)) == 8 * macs
    assert models.flop(Case("mvit_b_16x4", "train", 4)) == 24 * macs


def test_relative_difference_is_over_the_largest_of_the_reference():
    assert models.relative_difference([1.0, -3.5], [1.0, -4.0]) == 0.125
    assert models.relative_difference(2.5, 2.0) == 0.25
    assert np.isnan(models.relative_difference([np.nan], [1.0]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--implementations", "theirs"], "no implementation 'theirs'"),
        (["--implementations", "ours@nowhere"], "ours@nowhere: nowhere holds no mvit_tf"),
        (["--implementations", "timm@."], "no implementation 'timm@.'"),
        (["--model", "mvit_b_16x"], "did you mean 'mvit_b_16x4'"),
        (["--frames", "5"], "T = 5 must be a multiple of 2"),
        (["--implementations", "ours-saved-model", "--mode", "train"], "nobody could take part"),
    ],
)
def test_mistakes_end_in_one_line(arguments, message, capsys):
    assert main([*TINY, *arguments]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert len(printed.splitlines()) == 1
