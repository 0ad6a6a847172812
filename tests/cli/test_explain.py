"""`mvit explain`: pictures beside the answer, and one line for each thing that goes wrong."""

import re
from pathlib import Path

import av
import pytest
from PIL import Image

from mvit_tf.cli import explain
from mvit_tf.cli.main import main
from mvit_tf.explain.methods import METHODS
from mvit_tf.export.saved_model import export_saved_model
from tests.data.videos import write_numbered
from tests.explain.tiny import CLASS_NAMES, tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.keras"
    tiny_model("v2").save(path)
    return str(path)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return str(write_numbered(tmp_path_factory.mktemp("videos") / "numbers.mp4", 40))


def test_writes_a_picture_and_a_video(model, video, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = ["explain", model, video, video, "--class", "wave", "--output", str(output)]
    assert main(arguments) == 0
    first, line, second, _ = capsys.readouterr().out.splitlines()
    assert first == second == video
    assert re.fullmatch(rf" +[\d.]+%  wave  {output}/numbers_heat\.png", line)
    assert sorted(path.name for path in output.iterdir()) == [
        "numbers_heat.mp4",
        "numbers_heat.png",
        "numbers_heat_2.mp4",
        "numbers_heat_2.png",
    ]
    with Image.open(output / "numbers_heat.png") as picture:
        assert picture.size == (4 * 128 + 3 * 4, 256)
    with av.open(str(output / "numbers_heat.mp4")) as container:
        (stream,) = container.streams.video
        # A step of two at 30 frames a second, and SlowFast's last frame of the span.
        assert 11 < stream.average_rate < 16
        assert sum(1 for _ in container.decode(stream)) == 4


def test_a_video_is_not_written_over(model, video, tmp_path):
    copy = tmp_path / "numbers.mp4"
    copy.write_bytes(Path(video).read_bytes())
    assert main(["explain", model, str(copy), "--output", str(tmp_path)]) == 0
    assert copy.read_bytes() == Path(video).read_bytes()


def test_the_clip_begins_where_asked_for(model, video, tmp_path, capsys):
    pictures = []
    for start in ("0", "0.9"):
        folder = tmp_path / start
        assert main(["explain", model, video, "--start", start, "--output", str(folder)]) == 0
        pictures.append((folder / "numbers_heat.png").read_bytes())
    assert pictures[0] != pictures[1]
    assert main(["explain", model, video, "--start", "9", "--output", str(tmp_path)]) == 2
    assert "the segment begins at 9 s" in capsys.readouterr().err


def test_a_bad_video_is_named_and_the_others_are_explained(model, video, tmp_path, capsys):
    empty = tmp_path / "empty.mp4"
    empty.touch()
    assert main(["explain", model, str(empty), video, "--output", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == video
    first, last = printed.err.splitlines()
    assert "the file is empty" in first
    assert last == "error: 1 of 2 videos could not be decoded"


def test_the_methods_are_the_packages():
    assert tuple(METHODS) == explain.METHODS


def test_mistakes_are_one_line(model, video, tmp_path, capsys):
    (tmp_path / "file").touch()
    for arguments, message in [
        ([model], f"no video after {model}"),
        ([model, video, "--class", "wav"], "--class=wav: no class of the model; did you mean"),
        ([model, video, "--output", str(tmp_path / "file" / "x")], "cannot be written"),
        ([model, video, "--start", "-1"], "--start=-1: must be 0 or more"),
        ([video, "--model", "mvit_b_16x4"], "--model and --weights go together"),
    ]:
        output = [] if "--output" in arguments else ["--output", str(tmp_path)]
        assert main(["explain", *arguments, *output]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line


def test_an_export_is_refused_with_the_reason(video, tmp_path, capsys):
    model = tiny_model("v1")
    export_saved_model(
        model,
        tmp_path,
        class_names=CLASS_NAMES,
        preprocessing=model.preprocessing,
        sampling=model.sampling,
        num_clips=1,
    )
    assert main(["explain", str(tmp_path), video]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path} is an export, which no longer has the layers")
