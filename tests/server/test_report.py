"""What the page of `mvit web` shows of a video."""

import copy

import numpy as np
import pytest
from PIL import Image

from mvit_tf.data.clips import clip_parts, whole_clips
from mvit_tf.errors import UserError
from mvit_tf.export.predictor import ModelPredictor
from mvit_tf.server import report as report_module
from mvit_tf.server.page import example_videos
from mvit_tf.server.report import VideoReporter
from tests.data.video import decoder_functions
from tests.data.videos import write_audio, write_numbered
from tests.explain import tiny
from tests.server.page_parts import stand_in
from tests.server.running_server import CLASS_NAMES, METADATA, MeanColour


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return str(write_numbered(tmp_path_factory.mktemp("videos") / "numbers.mp4", 30))


def reports(reporter, path):
    return [copy.copy(report) for report in reporter.reports(str(path))]


def test_a_report_grows_by_time_line_and_heat_map(video, tmp_path, monkeypatch):
    calls = stand_in(monkeypatch)
    predictor = MeanColour()
    predictor.model = "a model"
    first, second, third = reports(VideoReporter(predictor, tmp_path, 60), video)
    clips = list(whole_clips(clip_parts(video, METADATA.sampling, METADATA.num_clips)))
    expected = MeanColour().predict_frames(np.stack(clips)).mean(axis=0)
    np.testing.assert_allclose([first.classes[name] for name in CLASS_NAMES], expected, atol=1e-6)
    assert first.status == "80x64: 2 clips of 4 frames"
    assert [caption for _, caption in first.frames] == ["0.73 s", "0.80 s", "0.87 s", "0.97 s"]
    np.testing.assert_array_equal([picture for picture, _ in first.frames], clips[1])
    assert (first.timeline, second.heat) == (None, None)
    assert second.timeline.startswith(str(tmp_path))
    assert third.heat.size == (4 * 80, 64)
    assert calls == [("scan", video), ("explain", "a model", (4, 64, 80, 3))]
    other = reports(VideoReporter(predictor, tmp_path, 60), video)[1]
    assert other.timeline != second.timeline


def test_the_scan_the_time_line_and_the_explanation_of_a_model(video, tmp_path):
    predictor = ModelPredictor(tiny.tiny_model("v2"), num_clips=1)
    reporter = VideoReporter(predictor, tmp_path, 120)
    assert reporter.explains
    first, second, third = reports(reporter, video)
    assert not third.failed and sorted(first.classes) == sorted(tiny.CLASS_NAMES)
    with Image.open(second.timeline) as picture:
        assert picture.format == "PNG" and picture.width > 600
    assert third.heat.width > third.heat.height > 0


def test_an_export_has_no_heat_map_and_what_fails_later_keeps_the_classes(
    video, tmp_path, monkeypatch
):
    stand_in(monkeypatch, scan_error="damaged at the end")
    reporter = VideoReporter(MeanColour(), tmp_path, 60)
    assert not reporter.explains
    first, second = reports(reporter, video)
    assert second.classes and not second.failed and second.heat is None
    assert second.status == "not a video that can be decoded: damaged at the end"


@pytest.mark.parametrize("kind", ["text", "sound", "playlist", "hangs"])
def test_what_cannot_be_decoded_is_said(kind, video, tmp_path, monkeypatch):
    path, limit = tmp_path / "upload.mp4", 60
    if kind == "text":
        path.write_text("no video\n" * 50)
        wanted = "not a video that can be decoded: cannot be opened as a video: "
    elif kind == "sound":
        write_audio(tmp_path / "sound.m4a").rename(path)
        wanted = "not a video that can be decoded: no video in this file"
    elif kind == "playlist":
        path.write_text(f"ffconcat version 1.0\nfile '{video}'\n")
        wanted = "not a video that can be decoded: cannot be opened as a video: "
    else:
        monkeypatch.setattr(report_module, "untrusted_clip_parts", decoder_functions.hangs)
        limit, wanted = 2, "given up after 2 s: "
    (only,) = reports(VideoReporter(MeanColour(), tmp_path, limit), path)
    assert only.failed and only.status.startswith(wanted), only.status
    assert VideoReporter(MeanColour(), tmp_path, limit).thumbnail(str(path)) is None


def test_examples_are_the_videos_of_a_folder(tmp_path):
    for name in ("b.mp4", "a.AVI", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in example_videos(tmp_path)] == ["a.AVI", "b.mp4"]
    with pytest.raises(UserError, match="nowhere: no such folder"):
        example_videos(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: no video in it"):
        example_videos(tmp_path / "empty")
