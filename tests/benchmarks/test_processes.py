"""Parent and workers: turns, failures, other checkouts, and processes that are gone afterwards."""

import contextlib
from pathlib import Path

import pytest

from benchmarks import processes

HERE = str(Path(__file__).parent)


@pytest.fixture(autouse=True)
def workloads_are_found(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", HERE)


def worker(**options):
    return processes.Worker(threads=1, environment={"MARK": "its own"}, **options)


def prepare(each, **options):
    return each.prepare("workloads:build", options)


def test_workers_take_turns_and_are_asked_no_more_once_they_fail():
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(worker()) for name in ("good", "fails", "dies")}
        # One iteration and two to warm up go before.
        options = {"good": {"start": 10}, "fails": {"fails_at": 5}, "dies": {"dies_at": 6}}
        prepared = [prepare(each, **options[name]) for name, each in workers.items()]
        assert [answer["first_result"] for answer in prepared] == [11, 1, 1]
        assert workers["good"].call("workloads:describe", {}) == {
            "processors": 1,
            "mark": "its own",
        }
        assert workers["good"].ask("memory")["peak_bytes"] > 2_000_000
        assert workers["good"].resident_bytes() > 2_000_000

        answers, failures = processes.take_turns(workers, rounds=4)
        assert [[answer["result"] for answer in own] for own in answers.values()] == [
            [14, 15, 16, 17],
            [4],
            [4, 5],
        ]
        assert all(answer["seconds"] >= 0 for own in answers.values() for answer in own)
        assert failures == {
            "fails": "RuntimeError: no more",
            "dies": "its process ended with 7: what a library prints",
        }
        assert workers["good"].ask("gemm") == {"rate": 125.0}
        assert workers["fails"].ask("step")["result"] == 6
        ended = [each._process for each in workers.values()]
    assert [process.returncode for process in ended] == [0, 0, 7]


class Recorder:
    def __init__(self, name, order):
        self.name, self.order = name, order

    def ask(self, what):
        self.order.append(self.name)
        return {"seconds": 1.0}


def test_every_other_round_goes_backwards():
    order = []
    processes.take_turns({name: Recorder(name, order) for name in "abc"}, rounds=3)
    assert "".join(order) == "abccbaabc"


def test_a_factory_that_fails_is_an_error_that_names_the_reason():
    with worker() as broken, pytest.raises(processes.WorkerError, match="'nonsense'"):
        prepare(broken, nonsense=1)


def test_the_package_of_another_checkout_is_the_one_that_runs(tmp_path):
    (tmp_path / "mvit_tf").mkdir()
    (tmp_path / "mvit_tf" / "__init__.py").write_text("from mvit_tf.version import version\n")
    (tmp_path / "mvit_tf" / "version.py").write_text("version = 'of before'\n")
    (tmp_path / "benchmarks").mkdir()  # that of this checkout measures
    (tmp_path / "benchmarks" / "__init__.py").write_text("raise ImportError('another')\n")
    with worker(package=str(tmp_path)) as before:
        assert before.call("workloads:version", {}) == "of before"
        assert before.call("benchmarks.worker:peak_host_bytes", {}) > 0
    elsewhere = worker(package=str(tmp_path / "benchmarks"))
    with elsewhere as nothing, pytest.raises(processes.WorkerError, match="mvit_tf comes from"):
        nothing.call("workloads:version", {})


def test_memory_of_the_machine_is_found():
    assert processes.available_bytes() > 10**8
