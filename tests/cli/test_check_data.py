"""`mvit check-data`: every video decoded to its end, every outcome told."""

import json
import shutil

import numpy as np
import pytest

from mvit_tf.cli.main import main
from tests.data.videos import write_numbered, write_video


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
    assert main(["check-data", str(folder), "--workers", "2"]) == 0
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


def test_videos_without_labels_are_looked_at_like_a_pretrainings(folder, tmp_path, capsys):
    shutil.move(folder / "b/three.mp4", folder / "three.mp4")
    assert main(["check-data", str(folder), "--unlabelled"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-1].split() == ["ok", "3"] and "class" not in said
    lines = tmp_path / "list.txt"
    lines.write_text("videos/three.mp4\nvideos/none.mp4\n")
    assert main(["check-data", str(lines), "--unlabelled"]) == 2
    printed = capsys.readouterr()
    assert "missing" in printed.out and "none.mp4" in printed.out
    for mistake, said in (
        ([str(tmp_path / "nowhere")], "no such folder or file; give a folder of videos, or a list"),
        ([str(folder), "--multi_label"], "--multi_label goes with labels"),
    ):
        assert main(["check-data", *mistake, "--unlabelled"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line


def test_a_missing_folder_is_one_line(tmp_path, capsys):
    assert main(["check-data", str(tmp_path / "nowhere")]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {tmp_path / 'nowhere'}: ")
    assert len(printed.err.splitlines()) == 1


def test_what_the_videos_are_and_how_much_of_them_can_be_read(folder, tmp_path, capsys):
    write_numbered(folder / "b/slow.mp4", 20, fps=10, codec="mpeg4")
    damage_pictures(folder / "a/two.mp4")
    (folder / "a/notes.txt").touch()
    (folder / "a/gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    report = tmp_path / "report.jsonl"
    assert main(["check-data", str(folder), "--output", str(report)]) == 2
    printed = capsys.readouterr().out
    lines = [line.split() for line in printed.splitlines()]
    assert ["size", "80x64", "(4)"] in lines
    assert "h264 (3), mpeg4 (1)" in printed
    assert "1.67 to 2.00, median 1.67" in printed
    (missing,) = [line for line in printed.splitlines() if "gone.mp4" in line]
    assert missing.split()[0] == "missing" and "0%" in missing
    assert [str(folder / "a/notes.txt"), "unknown", "extension", ".txt"] in lines
    assert ["train", "a", "3,", "b", "2"] in lines
    assert "2 of 2 classes with fewer than 5 videos: 'a', 'b'" in printed

    known = {entry["path"]: entry for entry in map(json.loads, report.read_text().splitlines())}
    assert known[str(folder / "a/notes.txt")]["outcome"] == "passed_over"
    assert known[str(folder / "b/slow.mp4")] == {
        "path": str(folder / "b/slow.mp4"), "outcome": "ok", "detail": "", "readable": 1.0,
        "duration": 2.0, "fps": 10.0, "width": 80, "height": 64, "codec": "mpeg4", "side": "train",
        "looks_like": None,
    }  # fmt: skip
    assert 0 < known[str(folder / "a/two.mp4")]["readable"] < 0.7


def test_every_mistake_of_a_list_is_named_with_its_line(folder, tmp_path, capsys):
    source = tmp_path / "list.csv"
    source.write_text("path,label\na/one.mp4,0\na/two.mp4,7\na/one.mp4,1\nb/three.mp4,0\n")
    labels = tmp_path / "labels.txt"
    labels.write_text("x\ny\n")
    options = ["--root", str(folder), "--label_map", str(labels)]
    assert main(["check-data", str(source), *options]) == 2
    printed = capsys.readouterr()
    assert f"{source}, line 3: label 7 is outside 0 to 1" in printed.out
    assert f"{source}, line 4: {folder}/a/one.mp4 is already on line 2" in printed.out
    assert "one class only, 'x'" in printed.out
    assert "1 of 2 classes with no video: 'y'" in printed.out
    assert printed.err == f"error: {source}: 3 mistakes in the list, named above\n"


def test_what_is_on_both_sides_of_a_split_is_a_mistake(folder, tmp_path, capsys):
    shutil.copy(folder / "a/one.mp4", folder / "b/copy.mp4")
    write_numbered(folder / "b/three.mp4", 40)
    source = tmp_path / "list.csv"
    source.write_text(
        "path,label,match,split\na/one.mp4,x,1,train\nb/three.mp4,y,2,train\n"
        "b/copy.mp4,y,3,test\na/two.mp4,x,2,test\n"
    )
    options = ["--root", str(folder), "--group_by", "match", "--train_split", "train"]
    assert main(["check-data", str(source), *options]) == 0
    capsys.readouterr()
    options += ["--validation", str(source), "--validation_split", "test"]
    assert main(["check-data", str(source), *options]) == 2
    printed = capsys.readouterr()
    assert f"{folder}/a/one.mp4 = " in printed.out
    assert "1 groups are in training and in validation: 2" in printed.out
    assert printed.err == f"error: {source}: 2 mistakes in the list, named above\n"


def test_segments_and_joined_files_are_looked_at(folder, tmp_path, capsys):
    one = (folder / "a/one.mp4").read_bytes()
    (folder / "a/two.mp4").write_bytes(one * 2)
    source = tmp_path / "list.csv"
    source.write_text(
        "path,label,start,end\na/one.mp4,x,0,1\na/one.mp4,y,2,3\na/two.mp4,x,0.5,9\n"
        "b/three.mp4,y,1,1.2\nb/three.mp4,y,0,2\n"
    )
    options = ["--root", str(folder), "--clip_seconds", "0.5", "--workers", "2"]
    assert main(["check-data", str(source), *options]) == 2
    said = capsys.readouterr().out.splitlines()
    where = "after the end of their video"
    outside = f"{folder}/a/one.mp4 2-3 s of 1.67 s"
    assert f"mistake  train: 1 segments begin {where}: {outside}" in said
    beyond = f"{folder}/a/two.mp4 0.5-9 s of 1.67 s"
    assert f"warning  train: 1 segments end {where}: {beyond}" in said
    (short,) = [line for line in said if "shorter than a clip of 0.5 s" in line]
    assert short.startswith("warning  train: 1 videos are shorter than a clip of 0.5 s: ")
    (joined,) = [line for line in said if "another video after the first" in line]
    assert joined.startswith("warning  1 files hold") and f"{folder}/a/two.mp4" in joined


def of_camera(number, *, start, num_frames=20, height=64):
    """Frames of a camera's still background, across which a small box moves."""
    fields = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
    background = np.kron(fields, np.ones((height // 8, 10, 1), np.uint8))
    frames = np.stack([background] * num_frames)
    for index, frame in enumerate(frames):
        frame[4:12, start + index : start + index + 8] = 255
    return frames


def test_clips_of_one_camera_on_both_sides_are_told(tmp_path, capsys):
    write_video(tmp_path / "one.mp4", of_camera(1, start=0))
    write_video(tmp_path / "two.mp4", of_camera(2, start=0))
    write_video(tmp_path / "three.mp4", of_camera(3, start=0))
    write_video(tmp_path / "later.mp4", of_camera(2, start=40, height=128), fps=15)
    (tmp_path / "train").write_text("one.mp4 0\ntwo.mp4 1\n")
    (tmp_path / "test").write_text("three.mp4 0\nlater.mp4 1\n")
    report = tmp_path / "report.jsonl"
    options = ["--validation", str(tmp_path / "test"), "--output", str(report)]
    assert main(["check-data", str(tmp_path / "train"), *options]) == 0
    assert (
        "1 videos for validation look like one in training, as clips of one camera do: "
        f"{tmp_path}/two.mp4 and {tmp_path}/later.mp4; "
        "data.group_by keeps those of one source on one side\n"
    ) in capsys.readouterr().out
    known = [json.loads(line) for line in report.read_text().splitlines()]
    assert {entry["path"]: entry["looks_like"] for entry in known} == {
        str(tmp_path / "one.mp4"): None,
        str(tmp_path / "two.mp4"): None,
        str(tmp_path / "three.mp4"): None,
        str(tmp_path / "later.mp4"): str(tmp_path / "two.mp4"),
    }
