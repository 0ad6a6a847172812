"""The table of all formats beside Keras, and `mvit export` for them."""

import json

import numpy as np
import pytest

from mvit_tf import factory
from mvit_tf.cli.export import _videos
from mvit_tf.cli.main import main
from mvit_tf.errors import UserError
from mvit_tf.export.formats import compare, names
from mvit_tf.export.formats.compare import Row, compare_formats, format_table
from mvit_tf.export.predictor import ModelPredictor
from tests.export.formats.models import needs


@pytest.fixture
def few(monkeypatch):
    """Two formats of two, one of which cannot be had."""
    few = {"litert": ("float32", "int8"), "openvino": ("float32",)}
    monkeypatch.setattr(compare, "DTYPES", few)
    monkeypatch.setitem(compare.export_format.__globals__, "require_runtime", _only_litert)


def _only_litert(format, **_):
    if format != "litert":
        raise UserError(f"{format} needs an extra: pip install 'mvit_tf[{format}]'")


@needs("litert")
def test_rows_have_the_differences_to_keras_and_the_reasons(model, video, few, tmp_path):
    rows = compare_formats(model, [video], output=tmp_path, rounds=2)
    keras_row, exact, rounded, refused = rows
    assert (keras_row.format, keras_row.logit_difference, keras_row.top1_agreement) == (
        "keras", 0, 1,
    )  # fmt: skip
    assert exact.probability_difference < 1e-5 < rounded.probability_difference < 0.1
    assert exact.top1_agreement == 1
    assert 0 < rounded.megabytes < exact.megabytes
    assert all(row.seconds > 0 for row in rows[:3])
    assert "pip install 'mvit_tf[openvino]'" in refused.refused
    assert refused.seconds is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["litert-float32", "litert-int8"]
    with pytest.raises(UserError, match="litert-float32 exists already"):
        compare_formats(model, [video], output=tmp_path)


def test_the_table_is_one_line_a_row():
    rows = [
        Row("keras", "float32", None, 0.0, 0.0, 1.0, 0.1234),
        Row("litert", "int8", 35.5, 0.015, 0.5, 0.5, 2.0),
        Row("onnx", "int8", refused="onnx needs an extra"),
    ]
    header, *lines = format_table(rows).splitlines()
    assert header.split() == ["format", "dtype", "MB", "probability", "logit", "top-1", "ms"]
    assert lines[0].split() == ["keras", "float32", "0.0e+00", "0.0e+00", "100%", "123.4"]
    assert lines[1].split() == ["litert", "int8", "35.5", "1.5e-02", "5.0e-01", "50%", "2000.0"]
    assert lines[2].split(maxsplit=2) == ["onnx", "int8", "onnx needs an extra"]


@needs("litert")
def test_the_command_exports_predicts_and_compares(
    model, video, few, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(factory, "create_model", lambda name, weights: model)
    named = ["export", "--model", "mvitv2_s_16x4", "--weights", "set"]
    output = tmp_path / "tflite"
    assert main([*named, "--format", "litert", "--output", str(output)]) == 0
    capsys.readouterr()
    assert main(["predict", "--json", str(output), str(video)]) == 0
    probabilities = json.loads(capsys.readouterr().out)["probabilities"]
    expected = ModelPredictor(model).predict_videos(video)[0]
    assert probabilities == pytest.approx(dict(expected.top()), abs=1e-5)

    assert main([*named, "--json", "--compare", str(video.parent)]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["format"], row["dtype"]) for row in rows] == [
        ("keras", "float32"), ("litert", "float32"), ("litert", "int8"), ("openvino", "float32"),
    ]  # fmt: skip
    assert np.isfinite([row["seconds"] for row in rows[:3]]).all()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--format", "openvino", "--dtype", "int8"], "openvino in int8: its int8 weights"),
        (["--batch_size", "2"], "--batch_size goes with --format"),
        (["--format", "onnx", "--model_name", "x"], "--model_name goes with a SavedModel"),
        (["--compare", "a.mp4", "--model_name", "x"], "--model_name goes with a SavedModel"),
        (["--json"], "--json goes with --compare"),
        (["--dtype", "int8", "--compare", "a.mp4"], "--dtype does not go with --compare"),
        (["--format", "onnx", "--compare", "a.mp4"], "--format does not go with --compare"),
    ],
)
def test_flags_that_do_not_go_together(flags, message, capsys):
    assert main(["export", "--model_dir", "runs/none", *flags]) == 2
    assert message in capsys.readouterr().err


def test_a_remote_folder_is_refused(model, video):
    with pytest.raises(UserError, match="gs://b/x: --compare keeps .*: give --output a local"):
        compare_formats(model, [video], output="gs://b/x")


def test_urls_are_compared_as_they_are(tmp_path):
    (tmp_path / "a.mp4").touch()
    url = "https://host/a%20b.mp4?sig=1"
    assert list(_videos([url, str(tmp_path)], images=False)) == [url, tmp_path / "a.mp4"]


def test_every_pair_is_held_or_has_a_reason():
    everything = {dtype for dtypes in names.DTYPES.values() for dtype in dtypes}
    for format, held in names.DTYPES.items():
        for dtype in everything - set(held):
            with pytest.raises(UserError, match=f"{format} in {dtype}: .+; give one of"):
                names.check_dtype(format, dtype)
