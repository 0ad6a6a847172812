"""Sliding over videos: which frames, spans, time lines and annotated copies."""

import dataclasses
import itertools
import json
import tracemalloc

import av
import numpy as np
import pytest
from PIL import Image

from mvit_tf.cli.main import main
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.data.video.decode_workers import DecodeWorkers
from mvit_tf.data.video.decoding import DecodeError, open_video
from mvit_tf.errors import UserError
from mvit_tf.prediction import span_files
from mvit_tf.prediction.annotated import annotate_video
from mvit_tf.prediction.scan import scan_video
from mvit_tf.prediction.spans import Span, find_spans
from mvit_tf.prediction.timeline import clock, plot_timeline
from mvit_tf.prediction.windows import SlidingWindows
from tests.data.videos import read_numbers, write_numbered, write_video
from tests.prediction.predictors import (
    COLOURS,
    SAMPLING,
    ColourPredictor,
    NumberPredictor,
    coloured,
    write_coloured,
)

PARTS = (("red", 90), ("green", 60), ("blue", 75))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_coloured(tmp_path_factory.mktemp("videos") / "colours.mp4", *PARTS, bframes=2)


def test_spans_are_where_the_video_shows_the_class(video):
    scan = scan_video(ColourPredictor(), video, stride=0.2)
    assert [span.label for span in scan.spans] == ["red", "green", "blue"]
    ends = np.cumsum([count / 30 for _, count in PARTS])
    assert scan.duration == pytest.approx(7.5)
    # A border lies between the windows whose centres are on both sides of it.
    np.testing.assert_allclose([span.end for span in scan.spans], ends, atol=0.2)
    assert scan.spans[0].start == 0 and scan.spans[-1].end == pytest.approx(7.5)
    for span, after in zip(scan.spans, scan.spans[1:], strict=False):
        assert span.end <= after.start <= span.end + 0.2
        assert 0.7 < span.score < 0.95
    assert scan.problems == () and scan.to_dict()["spans"][1]["label"] == "green"


@pytest.mark.parametrize("form", ["constant", "variable", "turned", "late"])
def test_windows_hold_the_frames_that_seeking_finds(form, tmp_path):
    rng = np.random.default_rng(0)
    path, options = tmp_path / "numbers.mp4", {"bframes": 2}
    if form == "variable":
        options["stamps"] = np.cumsum(rng.uniform(0.02, 0.07, 120))
    if form == "late":
        path, options["stamps"] = tmp_path / "numbers.mkv", 5 + np.arange(120) / 30
    if form == "turned":
        options["rotation"] = {"degrees": 180}
    write_numbered(path, 120, **options)
    predictor = NumberPredictor()
    scan = scan_video(predictor, path, stride=0.3)
    with open_video(path) as reader:
        info = reader.info
        windows = SlidingWindows(SAMPLING, info.fps, info.num_frames, 0.3)
        expected = [
            read_numbers(reader.frames_at_indices(windows.indices(n))).tolist()
            for n in range(len(windows))
        ]
    assert predictor.numbers == expected
    assert len(np.unique(expected)) > 30 or form == "turned"
    assert scan.times[-1, 1] == pytest.approx(info.duration)
    assert scan.start_time == pytest.approx(5.0 if form == "late" else scan.start_time)
    ends = np.diff(scan.times, axis=1)
    np.testing.assert_allclose(ends, SAMPLING.span(30) / 30, rtol=0.02)


@pytest.mark.parametrize(
    "sampling", [SAMPLING, ClipSampling(1), ClipSampling(4, 8, rule="segments")]
)
def test_windows_cover_the_video_and_stay_inside(sampling):
    for num_frames in (1, 20, 31, 200):
        windows = SlidingWindows(sampling, 25.0, num_frames, 0.5)
        indices = [windows.indices(number) for number in range(len(windows))]
        assert np.min(indices) >= 0 and np.max(indices) < num_frames
        assert list(windows.wanted()) == np.unique(indices).tolist()
        times = np.array([windows.time(number) for number in range(len(windows))])
        assert times[0, 0] == 0 and times[-1, 1] == pytest.approx(num_frames / 25)
        assert (np.diff(times[:, 0]) > 0).all()
    with pytest.raises(UserError, match="stride=0"):
        SlidingWindows(sampling, 25.0, 10, 0.0)


def test_joined_windows_are_one_span():
    times = np.array([[0, 2], [1, 3], [2, 4], [6, 8], [7, 9]], float)
    rows = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]], np.float32)
    found = find_spans(times, rows, ("a", "b"), threshold=0.5)
    assert [(s.start, s.end, s.label, round(s.score, 3)) for s in found] == [
        (0.0, 2.5, "a", 0.8),
        (2.5, 4.0, "b", 0.8),  # the gap from 4 to 6 belongs to nobody
        (6.0, 7.5, "b", 0.7),
        (7.5, 9.0, "a", 0.6),
    ]
    assert find_spans(times, rows, ("a", "b"), threshold=0.75) == [
        Span(0.0, 1.5, "a", pytest.approx(0.9)),
        Span(2.5, 4.0, "b", pytest.approx(0.8)),
    ]
    both = find_spans(times, np.full((5, 2), 0.6), ("a", "b"), multi_label=True)
    assert [(s.start, s.end, s.label) for s in both] == [
        (0.0, 4.0, "a"), (0.0, 4.0, "b"), (6.0, 9.0, "a"), (6.0, 9.0, "b"),
    ]  # fmt: skip


def test_a_long_video_is_never_held(tmp_path):
    # 1,800 frames of 320 x 240 are 415 MB, 8 frames of a window 1.8 MB.
    path = write_coloured(
        tmp_path / "long.mp4",
        ("red", 900),
        ("blue", 900),
        height=240,
        width=320,
        preset="ultrafast",
    )
    tracemalloc.start()
    try:
        with DecodeWorkers(1) as workers:
            scan = scan_video(ColourPredictor(), path, stride=1.0, workers=workers)
            worker = workers._idle[0]._process.pid
            peak_of_worker = _peak_bytes(worker)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [span.label for span in scan.spans] == ["red", "blue"]
    assert peak < 60e6
    assert peak_of_worker < 250e6


def _peak_bytes(process):
    with open(f"/proc/{process}/status") as status:
        (line,) = (line for line in status if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def test_a_cut_video_is_scanned_up_to_its_end(tmp_path):
    whole = tmp_path / "whole.mkv"
    write_coloured(whole, ("red", 100), ("green", 100), gop=10)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    scan = scan_video(ColourPredictor(), cut)
    assert len(scan.problems) >= 1 and "ends after" in scan.problems[-1]
    assert 3 < scan.times[-1, 1] < 6.5
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(DecodeError, match="the file is empty"):
        scan_video(ColourPredictor(), tmp_path / "empty.mp4")


@pytest.mark.parametrize("stamps", [None, np.cumsum(np.tile([0.02, 0.05], 45))])
def test_an_annotated_copy_has_the_frames_at_their_times(stamps, tmp_path):
    frames = [coloured("red", 49, 63)[:48, :62]] * 60 + [coloured("blue", 48, 62)] * 30
    path = write_video(tmp_path / "v.mp4", frames, stamps=stamps, rotation={"degrees": 90})
    scan = scan_video(ColourPredictor(), path, stride=0.3)
    annotate_video(scan, tmp_path / "annotated.mp4")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["annotated.mp4", "v.mp4"]
    given, made = (_played(file) for file in (path, tmp_path / "annotated.mp4"))
    assert len(made[0]) == 90
    np.testing.assert_allclose(made[0] - made[0][0], given[0] - given[0][0], atol=1e-3)
    assert made[1] == pytest.approx(given[1], abs=1 / 30)
    picture = made[2]  # turned, so taller than wide
    assert picture.shape[0] > picture.shape[1]
    assert picture[5, 5].argmax() == 0 and picture[5, 5, 0] > 150
    assert np.median(picture[-picture.shape[0] // 8 :, :, 0]) < 130  # the band is dark


def test_labels_on_frames_are_in_whatever_font_draws_them(tmp_path):
    video = write_coloured(tmp_path / "v.mp4", ("red", 30), height=240, width=320)
    scan, pictures = scan_video(ColourPredictor(), video, stride=0.5), []
    # The first two are not in the default font, the last two in none.
    for character in "\u3012\u306e\u0378\u0379":
        named = dataclasses.replace(scan, class_names=(f"label {character}",) * 3)
        annotate_video(named, tmp_path / "annotated.mp4")
        pictures.append(_played(tmp_path / "annotated.mp4")[2])
    for first, second in itertools.combinations(pictures, 2):
        assert not np.array_equal(first, second)


def _played(path):
    """(times of the frames, duration, first picture)."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        duration = float(stream.duration * stream.time_base)
    return (
        np.array([frame.time for frame in frames]),
        duration,
        frames[0].to_ndarray(format="rgb24"),
    )


def test_the_time_line_shows_every_label(video, tmp_path):
    scan = scan_video(ColourPredictor(), video, stride=0.5)
    plot_timeline(scan, tmp_path / "line.png")
    picture = np.asarray(Image.open(tmp_path / "line.png").convert("RGB")).astype(int)
    orange = (abs(picture - [224, 123, 57]).sum(axis=-1) < 30).any(axis=1)
    assert np.count_nonzero(np.diff(orange.astype(int)) == 1) == len(COLOURS)
    assert [clock(value) for value in (0, 61.5, 3723)] == ["0:00", "1:01.5", "1:02:03"]


def test_spans_on_the_command_line(video, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mvit_tf.cli.predict.open_model", lambda *_, **__: (ColourPredictor(), [
        video, str(tmp_path / "missing.mp4")]))  # fmt: skip
    output = tmp_path / "spans"
    assert main(["predict", "m", video, "--spans", "--json", "--output", str(output)]) == 2
    printed = capsys.readouterr()
    good, bad = map(json.loads, printed.out.splitlines())
    assert [span["label"] for span in good["spans"]] == list(COLOURS)
    assert bad["error"] == "missing"
    assert sorted(file.name for file in output.iterdir()) == [
        "colours.annotated.mp4", "colours.spans.json", "colours.timeline.png",
    ]  # fmt: skip
    assert json.loads((output / "colours.spans.json").read_text()) == good
    (output / "colours.timeline.png").unlink()
    (output / "colours.timeline.png").mkdir()
    assert main(["predict", "m", video, "--spans", "--output", str(output)]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: {output}/colours.timeline.png cannot be written: Is a dir")


def test_a_video_that_the_model_refuses_does_not_end_the_scan_of_others(
    video, tmp_path, capsys, monkeypatch
):
    class Choosy(ColourPredictor):
        def _probabilities(self, frames):
            if frames.shape[2] < 48:
                raise UserError("the export refuses these frames: too flat")
            return super()._probabilities(frames)

    flat = write_video(tmp_path / "flat.mp4", [coloured("red", height=32)] * 60)
    monkeypatch.setattr(
        "mvit_tf.cli.predict.open_model", lambda *_, **__: (Choosy(), [str(flat), video])
    )
    assert main(["predict", "m", video, "--spans", "--json"]) == 2
    printed = capsys.readouterr()
    refused, good = map(json.loads, printed.out.splitlines())
    assert refused["error"] == "bad_frames" and len(good["spans"]) == 3
    assert printed.err.splitlines()[-1] == "error: 1 of 2 videos could not be predicted"


def test_copies_of_one_name_and_flags_that_do_not_go_together(video, capsys):
    names = set()
    assert [span_files._free_name(p, names) for p in ("a/x.mp4", "b/x.avi")] == ["x", "x-2"]
    assert main(["predict", "m", video, "--stride", "1"]) == 2
    assert "--stride goes with --spans or --live" in capsys.readouterr().err
