"""`mvit predict`: the most probable classes, and what becomes of videos that fail."""

import dataclasses
import json

import pytest

from mvit_tf import factory
from mvit_tf.cli.main import main
from mvit_tf.export.predictor import SavedModelPredictor
from mvit_tf.export.saved_model import export_saved_model
from tests.data.video import decoder_functions
from tests.data.videos import write_numbered
from tests.export.tiny import CLASS_NAMES, PREPROCESSING, SAMPLING, tiny_model


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    directory = tmp_path_factory.mktemp("export")
    export_saved_model(
        tiny_model(),
        directory,
        class_names=CLASS_NAMES,
        preprocessing=PREPROCESSING,
        sampling=SAMPLING,
        num_clips=2,
    )
    return directory


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return str(write_numbered(tmp_path_factory.mktemp("videos") / "numbers.mp4", 20))


def test_prints_the_classes_by_probability(export, video, capsys):
    assert main(["predict", str(export), video, "--top", "2"]) == 0
    probabilities = SavedModelPredictor(export).predict_video(video)
    first, second, _ = sorted(zip(probabilities, CLASS_NAMES, strict=True), reverse=True)
    assert capsys.readouterr().out.splitlines() == [
        video,
        f"  {first[0]:6.1%}  {first[1]}",
        f"  {second[0]:6.1%}  {second[1]}",
    ]


def test_a_bad_video_is_named_and_the_others_are_predicted(export, video, tmp_path, capsys):
    empty, missing = tmp_path / "empty.mp4", tmp_path / "missing.mp4"
    empty.touch()
    assert main(["predict", str(export), str(empty), str(missing), video]) == 2
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == video
    assert len(printed.out.splitlines()) == 1 + len(CLASS_NAMES)
    first, second, total = printed.err.splitlines()
    assert str(empty) in first
    assert "the file is empty" in first
    assert str(missing) in second
    assert total == "error: 2 of 3 videos could not be predicted"


def test_a_video_that_crashes_the_decoder_is_one_line(export, video, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        SavedModelPredictor, "_decoder", staticmethod(decoder_functions.aborts_on_bad_names)
    )
    bad = tmp_path / "bad.mp4"
    bad.touch()
    assert main(["predict", str(export), str(bad), video, "--top", "1"]) == 2
    printed, errors = capsys.readouterr()
    assert printed.splitlines()[0] == video
    assert errors.splitlines() == [
        f"error: {bad}: the decoder crashed (SIGABRT)",
        "error: 1 of 2 videos could not be predicted",
    ]


def test_json_holds_all_classes_and_the_failures(export, video, tmp_path, capsys):
    assert main(["predict", str(export), video, str(tmp_path / "no.mp4"), "--json"]) == 2
    good, bad = map(json.loads, capsys.readouterr().out.splitlines())
    assert good["video"] == video
    assert set(good["probabilities"]) == set(CLASS_NAMES)
    assert sum(good["probabilities"].values()) == pytest.approx(1.0, abs=1e-5)
    assert bad["video"] == str(tmp_path / "no.mp4")
    assert bad["error"] == "missing"


def test_a_path_without_an_export_is_one_line(tmp_path, video, capsys):
    assert main(["predict", str(tmp_path / "nothing"), video]) == 2
    assert capsys.readouterr().err == (
        f"error: no model at {tmp_path / 'nothing'}: no such folder; give an export, a model "
        "directory or a .keras file\n"
    )


def test_a_published_model_prints_as_its_export_does(export, video, capsys, monkeypatch):
    def create_model(name, *, weights):
        assert (name, weights) == ("mvit_s_16x4", "kinetics400")
        model = tiny_model()
        model.preprocessing, model.class_names = PREPROCESSING, CLASS_NAMES
        model.sampling = dataclasses.replace(SAMPLING, rule="stride")
        return model

    monkeypatch.setattr(factory, "create_model", create_model)
    named = ["--model", "mvit_s_16x4", "--weights", "kinetics400"]
    assert main(["predict", *named, video, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["video"] == video and set(printed["probabilities"]) == set(CLASS_NAMES)
    assert main(["predict", *named[:2], video]) == 2
    assert "--model and --weights go together" in capsys.readouterr().err
    assert main(["predict", video]) == 2
    assert f"no video after {video}" in capsys.readouterr().err


def test_a_keras_file_without_its_frames_and_classes_is_one_line(video, tmp_path, capsys):
    tiny_model().save(tmp_path / "model.keras")
    assert main(["predict", str(tmp_path / "model.keras"), video]) == 2
    assert "set model.preprocessing, model.sampling, model.class_names" in capsys.readouterr().err


def test_options_go_anywhere(export, video, capsys):
    for arguments in (
        [str(export), "--json", video],
        ["--json", str(export), "--top", "1", video],
        [str(export), video, "--json"],
    ):
        assert main(["predict", *arguments]) == 0
        assert json.loads(capsys.readouterr().out)["video"] == video


def test_csv_and_lines_in_a_file_and_the_accuracy(export, video, tmp_path, capsys):
    best = SavedModelPredictor(export).predict_videos(video)[0].top(1)[0][0]
    listed, output = tmp_path / "list.csv", tmp_path / "out.csv"
    listed.write_text(f"path,label,start,end\n{video},{best},,\nno.mp4,wave,,\n")
    arguments = ["predict", str(export), str(listed), "--format", "csv", "--top", "1"]
    assert main([*arguments, "--output", str(output)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "top-1 100.0% of 1 labelled videos" in printed.err
    header, good, bad = output.read_text().splitlines()
    assert header == "video,start,end,rank,class,probability,error"
    assert good.startswith(f"{video},,,1,{best},0.")
    assert bad == f"{tmp_path / 'no.mp4'},,,,,,missing: no such file"


def test_answers_come_in_the_order_asked_for_and_are_written_at_once(
    export, tmp_path, capsys, monkeypatch
):
    names = [str(write_numbered(tmp_path / f"{n}.mp4", 20 + n)) for n in range(7)]
    output = tmp_path / "out.jsonl"
    arguments = ["predict", str(export), str(tmp_path), "--workers", "3", "--json"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["video"] for line in lines] == names

    def stopped(self, path, **options):
        if path == names[4]:
            raise KeyboardInterrupt
        return one(self, path, **options)

    one = SavedModelPredictor.predict_video
    monkeypatch.setattr(SavedModelPredictor, "predict_video", stopped)
    assert main([*arguments, "--output", str(output)]) == 130
    assert output.read_text().splitlines() == lines[:4]
