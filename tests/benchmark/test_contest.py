"""Parent and workers: turns, failures, and processes that are gone afterwards."""

import contextlib
import os
from pathlib import Path

import pytest

from mvit_tf.benchmark import contest

HERE = str(Path(__file__).parent)
PATH = {"PYTHONPATH": os.pathsep.join([HERE, os.getcwd()])}


def worker(**options):
    return contest.Worker(
        "workloads:build", options, threads=1, environment={**PATH, "MARK": "its own"}
    )


def test_workers_take_turns_and_are_asked_no_more_once_they_fail():
    with contextlib.ExitStack() as stack:
        # One iteration and two to warm up go before.
        workers = [
            stack.enter_context(worker(**options))
            for options in ({"start": 10}, {"fails_at": 5}, {"dies_at": 6})
        ]
        prepared = [each.prepare() for each in workers]
        assert [answer["first_result"] for answer in prepared] == [11, 1, 1]
        assert prepared[0]["description"] == {"processors": 1, "threads": "its own"}
        assert prepared[0]["peak_bytes"] > 2_000_000
        assert workers[0].resident_bytes() > 2_000_000

        answers, failures = contest.take_turns(workers, rounds=4)
        assert [[answer["result"] for answer in own] for own in answers] == [
            [14, 15, 16, 17],
            [4],
            [4, 5],
        ]
        assert all(answer["seconds"] >= 0 for own in answers for answer in own)
        assert {index: str(error) for index, error in failures.items()} == {
            1: "RuntimeError: no more",
            2: "its process ended with 7: what a library prints",
        }
        assert workers[0].ask("gemm") == {"rate": 125.0}
        assert workers[1].ask("step")["result"] == 6
        processes = [each._process for each in workers]
    assert [process.returncode for process in processes] == [0, 0, 7]


def test_a_factory_that_fails_is_an_error_that_names_the_reason():
    with worker(nonsense=1) as broken, pytest.raises(contest.WorkerError, match="'nonsense'"):
        broken.prepare()


def test_memory_of_the_machine_is_found():
    assert contest.available_bytes() > 10**8
