"""The loading of videos, on short ones made for it."""

import importlib.util

import av
import pytest

from benchmarks import input_workload, inputs, videos
from benchmarks.__main__ import main
from benchmarks.cases import Case
from tests.data.videos import write_numbered


@pytest.mark.parametrize(
    ("write", "codec", "size", "fps"),
    [
        (videos.write_ucf101_like, "mpeg4", (320, 240), 25),
        (videos.write_kinetics_like, "h264", (340, 256), 30),
    ],
)
def test_made_videos_are_what_they_are_called(write, codec, size, fps, tmp_path):
    (path,) = write(tmp_path, 1, seconds=1.0)
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == (codec, *size)
        assert float(stream.average_rate) == fps
        assert sum(1 for _ in container.decode(stream)) == fps


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    files = videos.write_kinetics_like(tmp_path_factory.mktemp("videos"), 2, seconds=2.0)
    loaders = [inputs.find_loader(name) for name in ("ours", "pytorchvideo")]
    case = Case("mvit_b_16x4", "train", 2, tiny=True)
    return inputs.run_video_set("short", files, case, loaders, rounds=2, threads=1)


@pytest.mark.slow
def test_every_loader_loads_every_clip(result):
    installed = importlib.util.find_spec("pytorchvideo") is not None
    assert list(result["rates"]) == ["ours", "pytorchvideo"][: 1 + installed]
    for name, rates in result["rates"].items():
        assert result["clips"][name] == 4
        assert len(rates) == 2
        assert min(rates) > 0
    assert "1.00x" in inputs.format_result(result)


def test_every_stage_of_loading_takes_time(tmp_path):
    """A stage of zero seconds is one whose method the clocks no longer find."""
    path = str(write_numbered(tmp_path / "keyframes.mp4", 120, gop=4))
    # Not through `build`, which sets TensorFlow's threads: too late in this process.
    stages = input_workload._Stages(files=[path], input_size=[4, 32, 32], threads=1).step()
    assert set(stages) == {"open", "seek", "decode", "colour", "resize"}
    assert min(stages.values()) > 0
    assert max(stages.values()) < 60


@pytest.mark.slow
def test_waiting_is_a_part_of_training(result):
    training = result["training"]
    assert 0 < training["waiting"] < training["total"]
    assert "of the time waiting for data" in inputs.format_result(result)


def test_a_missing_source_is_one_line(capsys):
    assert main(["input", "nowhere"]) == 2
    assert capsys.readouterr().err == "error: no file or folder nowhere\n"
