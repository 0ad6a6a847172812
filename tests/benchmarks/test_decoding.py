"""The parts about decoding alone, on few and short videos."""

import os
import subprocess
import sys

import pytest

from benchmarks import decoding, process_tree, torchcodec_input


@pytest.mark.slow
def test_decoders_and_growth_give_tables(tmp_path):
    table = decoding.format_decoders(decoding.run_decoders(tmp_path, rounds=1, tiny=True))
    assert len(table.splitlines()) == 2 + 8 and "1.00x" in table
    grown = decoding.run_growth(tmp_path, decodes=20)
    for own in grown.values():
        # A tenth is of the damaged file, whose clips may lie beside the damage.
        assert own["failed"] <= 2
        assert [number for number, _ in own["memory"]] == [10, 15, 20]
    assert "+0.0" in decoding.format_growth(grown)


@pytest.mark.slow
def test_memory_gives_a_line_for_every_use(tmp_path):
    result = decoding.run_memory(tmp_path, threads=1, tiny=True)
    assert [case["use"] for case in result["cases"]] == list(decoding._USES)
    for case in result["cases"]:
        assert case["process"] >= case["start"] > 0 and case["workers"] > 10_000_000
    assert len(decoding.format_memory(result).splitlines()) == 2 + len(decoding._USES)


def test_augmentation_prints_every_clip():
    seconds = {"flip": [0.001, 0.003], "blur": []}
    table = decoding.format_augmentation(
        {"seconds": seconds, "cpu_seconds": seconds, "left_out": {"blur": "not installed"}}
    )
    assert table.splitlines()[2].split() == ["flip", "2.0", "2.0", "2.8", "2.0", "2.0", "2.8"]
    assert table.splitlines()[-1] == "left out: blur: not installed"


def test_the_time_and_memory_of_what_a_process_started_count():
    before = process_tree.cpu_seconds(os.getpid())
    code = "sum(range(10**7)); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        child.stdout.readline()
        assert child.pid in process_tree.descendants(os.getpid())
        running = process_tree.cpu_seconds(os.getpid())
        assert process_tree.memory_bytes(child.pid, "VmHWM") > 1_000_000
        child.communicate(b"\n")
    assert before < running <= process_tree.cpu_seconds(os.getpid())
    assert process_tree.memory_bytes(2**30, "VmHWM") == 0


def test_torchcodec_is_given_the_ffmpeg_of_pyav(tmp_path):
    first, *_ = torchcodec_input.library_path(tmp_path).split(os.pathsep)
    assert first == str(tmp_path)
    names = {link.name.partition(".")[0] for link in tmp_path.iterdir()}
    assert {"libavcodec", "libavformat", "libavutil", "libswscale"} <= names
    assert all(link.resolve().is_file() for link in tmp_path.iterdir())
