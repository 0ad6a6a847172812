"""`mvit benchmark`: what a model takes on this machine, and which batch fits."""

import signal
import subprocess
import types

import pytest

from mvit_tf.analysis import speed
from mvit_tf.analysis.speed import Measurement, Setting
from mvit_tf.cli.main import main


def cells(printed):
    return [line.split() for line in printed.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["forward", "train"])
def test_a_small_model_is_measured_in_a_process_of_its_own(mode, capsys):
    arguments = ["--mode", mode, "--batch", "1", "--steps", "1", "--remat"]
    assert main(["benchmark", "mvitv2_t", *arguments]) == 0
    printed = capsys.readouterr()
    *series, seconds, rate, peak, first = cells(printed.out)[2]
    assert series == [mode, "224x224", "float32", "1"]
    assert float(rate) == pytest.approx(1 / float(seconds), rel=0.05)
    assert float(first) > float(seconds) > 0
    assert 0.5 < float(peak) < 10
    assert "peaks of two batches" in printed.out
    assert printed.err == ""


@pytest.fixture
def peaks(monkeypatch):
    """Measurements of a machine of 10 GB, of a model of 2 GB and 1.5 GB a clip."""
    measured = []

    def measure(setting, steps):
        measured.append(setting.batch)
        peak = int((2 + 1.5 * setting.batch) * 1e9)
        if peak > 10e9:
            return Measurement(failure="out of memory")
        return Measurement(setting.batch / 4, 9.0, peak, int(10e9))

    monkeypatch.setattr(speed, "measure", measure)
    return measured


def test_the_largest_batch_is_on_the_line_through_the_peaks(peaks, capsys):
    arguments = ["--mode", "forward", "--frames", "8,16", "--batch", "4,1,2"]
    assert main(["benchmark", "mvit_b_16x4", *arguments]) == 0
    lines = cells(capsys.readouterr().out)
    assert lines[4] == ["forward", "8x224x224", "float32", "4", "1.000", "4.00", "8.00", "9.0"]
    assert lines[-4][-1] == lines[-3][-1] == "5"
    assert "an estimate" in " ".join(lines[-1])
    assert peaks == [1, 2, 4] * 2


def test_what_will_not_fit_is_not_tried(peaks, capsys):
    arguments = ["--mode", "train", "--batch", "1,2,8,16"]
    assert main(["benchmark", "mvit_b_16x4", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "would take 14.0 GB" in lines[4]
    assert "not tried" in lines[5]
    assert peaks == [1, 2]


def test_out_of_memory_is_a_line(peaks, capsys):
    assert main(["benchmark", "mvit_b_16x4", "--mode", "train", "--batch", "8"]) == 0
    assert "out of memory" in capsys.readouterr().out.splitlines()[2]


@pytest.mark.parametrize(
    ("status", "errors", "failure"),
    [(-signal.SIGKILL, "", "out of memory"), (-6, "what(): std::bad_alloc", "out of memory")],
)
def test_a_process_that_memory_ended_is_a_failure(status, errors, failure, monkeypatch):
    ended = types.SimpleNamespace(returncode=status, stderr=errors, stdout="")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ended)
    measurement = speed.measure(Setting(model="mvit_b_16x4", mode="train"), 1)
    assert measurement.failure == failure


def test_another_failure_is_none_of_memory():
    with pytest.raises(RuntimeError, match="KeyError: 'sideways'"):
        speed.measure(Setting(model="mvit_b_16x4", mode="sideways"), 1)


@pytest.mark.slow
def test_tensors_too_large_are_out_of_memory():
    measurement = speed.measure(Setting(model="mvit_b_16x4", mode="forward", batch=10**7), 1)
    assert measurement.failure == "out of memory"


def test_an_interrupted_run_shows_what_it_has(monkeypatch, capsys):
    def measure(setting, steps):
        if setting.batch == 2:
            raise KeyboardInterrupt
        return Measurement(1.0, 2.0, 10**9, 10**10)

    monkeypatch.setattr(speed, "measure", measure)
    assert main(["benchmark", "mvit_b_16x4", "--mode", "forward"]) == 130
    printed = capsys.readouterr()
    assert cells(printed.out)[2][:4] == ["forward", "16x224x224", "float32", "1"]
    assert printed.err == "interrupted\n"


def test_lines_without_growth_tell_no_batch():
    assert speed.largest_batch({1: 100, 2: 150}, 1000) == 19
    assert speed.largest_batch({1: 100, 2: 150}, None) is None
    assert speed.largest_batch({2: 150}, 1000) is None
    assert speed.largest_batch({1: 100, 2: 100}, 1000) is None
    assert speed.largest_batch({1: 1000, 2: 1900}, 800) == 0
    assert speed.available_host_bytes() > 10**8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mvit_b_16x"], "did you mean 'mvit_b_16x4'"),
        (["mvit_b_16x4", "--frames", "5"], "T = 5 must be a multiple of 2"),
    ],
)
def test_mistakes_end_in_one_line(arguments, message, capsys):
    assert main(["benchmark", *arguments]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.parametrize("option", [["--mode", "up"], ["--batch", "1,0"], ["--dtype", ""]])
def test_wrong_options_end_in_status_2(option, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["benchmark", "mvit_b_16x4", *option])
    assert ended.value.code == 2
    assert "must be" in capsys.readouterr().err
