"""`mvit check-data`: every video decoded to its end, every outcome told."""

import json

import pytest

from mvit_tf.cli.main import main
from tests.data.videos import write_numbered


@pytest.fixture
def folder(tmp_path):
    for name in ("a/one.mp4", "a/two.mp4", "b/three.mp4"):
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_numbered(path, 50)
    return tmp_path / "videos"


def damage_pictures(path):
    """Zeroes the middle third of the media data: the file opens and its first frames decode."""
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 4
    size = int.from_bytes(content[start - 8 : start - 4], "big") - 8
    content[start + size // 3 : start + 2 * size // 3] = bytes(2 * size // 3 - size // 3)
    path.write_bytes(content)


def test_good_videos_are_counted(folder, capsys):
    assert main(["check-data", str(folder), "--threads", "2"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1].split() == ["ok", "3"]
    assert printed.err == ""


def test_bad_videos_are_named_with_the_reason(folder, tmp_path, capsys):
    damage_pictures(folder / "a/two.mp4")
    (folder / "b/empty.mp4").touch()
    (folder / "b/text.mp4").write_text("no video")
    outcomes_file = tmp_path / "outcomes.jsonl"
    assert main(["check-data", str(folder), "--output", str(outcomes_file)]) == 2
    printed = capsys.readouterr()
    outcomes = {
        entry["path"]: entry["outcome"]
        for entry in map(json.loads, outcomes_file.read_text().splitlines())
    }
    assert outcomes == {
        str(folder / "a/one.mp4"): "ok",
        str(folder / "a/two.mp4"): "decode_error",
        str(folder / "b/three.mp4"): "ok",
        str(folder / "b/empty.mp4"): "empty_file",
        str(folder / "b/text.mp4"): "container_error",
    }
    for name, outcome in (("a/two.mp4", "decode_error"), ("b/empty.mp4", "empty_file")):
        (line,) = [line for line in printed.out.splitlines() if name in line]
        assert line.startswith(outcome)
    assert ["ok", "2"] in [line.split() for line in printed.out.splitlines()]
    assert printed.err.startswith(f"error: {folder}: 5 videos, 3 left out")
    assert len(printed.err.splitlines()) == 1


def test_a_missing_folder_is_one_line(tmp_path, capsys):
    assert main(["check-data", str(tmp_path / "nowhere")]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {tmp_path / 'nowhere'}: ")
    assert len(printed.err.splitlines()) == 1
