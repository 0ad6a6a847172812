"""`mvit prepare`: messages, exit statuses, and a set that no kill can spoil."""

import random
import signal
import subprocess
import sys
import time

import pytest

from mvit_tf.cli.main import main
from mvit_tf.data.records import prepare
from tests.data.records.sets import class_folders, contents

COMMAND = (sys.executable, "-c", "from mvit_tf.cli.main import console; console()")


@pytest.fixture
def folder(tmp_path):
    return class_folders(tmp_path / "videos")


def test_prepares_and_says_what_failed(folder, tmp_path, capsys):
    (folder / "a/bad.mp4").write_text("no video")
    output = tmp_path / "out"
    command = ["prepare", str(folder), str(output), "--name", "train", "--shards", "2"]
    assert main(command) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: 1 of 7 videos could not be prepared")
    assert printed.err.count("\n") == 1
    command += ["--max_failure_share", "0.2"]
    assert main(command) == 0
    printed = capsys.readouterr()
    assert "container_error  a/bad.mp4  cannot be opened as a video" in printed.out
    assert "6 records of 7 videos, 135 frames" in printed.out
    assert "2 files, 2 of them there already" in printed.out
    assert printed.out.endswith(f"data.train={output}/train-manifest.json\n")
    assert main(["check-data", str(output)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["ok", "6"]

    shard = output / "train-00001-of-00002.tfrecord"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert main(["check-data", str(output)]) == 2
    printed = capsys.readouterr()
    (line,) = [line for line in printed.out.splitlines() if f"{shard}#" in line]
    assert line.startswith("corrupt_record") and "checksum" in line
    assert main(["prepare", str(output), str(tmp_path / "again")]) == 2
    assert "is a record set already" in capsys.readouterr().err


def test_a_cut_file_without_a_manifest_is_a_finding(folder, tmp_path, capsys):
    assert main(["prepare", str(folder), str(tmp_path / "out"), "--shards", "1"]) == 0
    (shard,) = (tmp_path / "out").glob("*.tfrecord")
    cut = tmp_path / "cut.tfrecord"
    cut.write_bytes(shard.read_bytes()[:-1])
    capsys.readouterr()
    assert main(["check-data", str(cut)]) == 2
    printed = capsys.readouterr()
    assert "corrupt_record: it is cut off at the end of the file" in printed.out
    assert "1 damaged records" in printed.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_says_how_to_go_on(folder, tmp_path, monkeypatch, capsys, number):
    command = ["prepare", str(folder), str(tmp_path / "out")]
    monkeypatch.setattr(prepare, "write_shard", lambda *_: signal.raise_signal(number))
    monkeypatch.setattr("sys.argv", ["/bin/mvit", *command])
    # In the background of a shell SIGINT is ignored, and the command keeps to that.
    before = signal.signal(number, signal.SIG_DFL)
    try:
        assert main(command) == 130
    finally:
        signal.signal(number, before)
    said = capsys.readouterr().err
    assert said == f"\ninterrupted; the same command goes on: mvit {' '.join(command)}\n"


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_in_the_same_bytes(tmp_path):
    folder = class_folders(tmp_path / "videos", count=40)
    (folder / "a/bad.mp4").write_text("no video")
    (folder / "b/empty.mp4").touch()

    def command(output):
        options = ["--shards", "14", "--workers", "2", "--max_failure_share", "0.1"]
        return [*COMMAND, "prepare", str(folder), str(output), *options]

    (tmp_path / "killed").mkdir()
    started = time.monotonic()
    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True)
    length = time.monotonic() - started
    moments, killed = random.Random(3), 0
    for _ in range(10):
        process = subprocess.Popen(
            command(tmp_path / "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        lock = tmp_path / "killed/.videos-unfinished/lock"
        while not lock.exists() and process.poll() is None:
            time.sleep(0.001)
        try:
            process.wait(timeout=moments.uniform(0, 0.2) * length)
        except subprocess.TimeoutExpired:
            process.kill()
            killed += 1
        _, said = process.communicate()
        assert not said, said
        # What a killed one leaves there must not be taken for the next one's.
        lock.unlink(missing_ok=True)
    subprocess.run(command(tmp_path / "killed"), check=True, capture_output=True)
    assert killed >= 5
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
