"""The lock of a directory of an object store; a folder of this machine stands for one."""

import json
import os
import subprocess
import sys

import pytest

from mvit_tf.training.storage import remote_lock
from mvit_tf.training.storage.remote_lock import RemoteLock, held_remotely


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(remote_lock, "_PERIOD", 0.05)
    monkeypatch.setattr(remote_lock, "_PATIENCE", 5.0)
    return tmp_path / "lock"


def test_a_second_training_is_refused_while_the_first_runs(file, capsys):
    with held_remotely(file):
        # As of another machine, whose processes cannot be looked for.
        second = RemoteLock(file)
        second._owner["host"] = "another"
        with pytest.raises(BlockingIOError, match=f"process {os.getpid()}"):
            second.take()
        assert "to see whether its training" in capsys.readouterr().out
    assert not file.exists()


def test_the_lock_of_a_killed_training_is_taken_over(file, monkeypatch, capsys):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with held_remotely(file) as lock:
        here = lock._owner["host"]
    file.write_text(json.dumps({"host": here, "pid": ended.pid, "id": "x"}))
    with held_remotely(file) as lock:
        assert not lock.is_lost()
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(remote_lock, "_PATIENCE", 0.1)
    for content in ('{"host": "another", "pid": 1}', "", "[]"):
        file.write_text(content)
        with held_remotely(file) as lock:
            assert not lock.is_lost()
        assert "waiting" in capsys.readouterr().out
        assert not file.exists()


def test_of_two_that_began_at_once_one_learns_that_it_lost(file, monkeypatch):
    monkeypatch.setattr(remote_lock, "_PERIOD", 60.0)
    with held_remotely(file) as first:
        file.write_text(json.dumps({"host": "another", "pid": 1, "id": "y"}))
        assert first.is_lost()
    assert json.loads(file.read_text())["id"] == "y"
