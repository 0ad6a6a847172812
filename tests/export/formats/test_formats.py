"""Exports for LiteRT, ONNX Runtime and OpenVINO: what they compute, hold and refuse."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from mvit_tf.data.sampling import ClipSampling
from mvit_tf.data.transforms import Preprocessing
from mvit_tf.errors import UserError
from mvit_tf.export.formats import converters, runtimes
from mvit_tf.export.formats.artefact import find_artefact, load_artefact
from mvit_tf.export.formats.export import export_format
from mvit_tf.export.formats.inference_graph import inference_graph
from mvit_tf.export.formats.names import DTYPES, MODEL_FILES
from mvit_tf.export.formats.precision import in_dtype
from mvit_tf.export.predictor import ModelPredictor, SavedModelPredictor, open_predictor
from mvit_tf.models import MViT, get_config
from tests.export.formats.models import needs, tiny
from tests.export.tiny import CLASS_NAMES

# Of float32, how far probabilities may lie from Keras'; weights of fewer bits have less.
ERRORS = {"float32": 1e-5, "float16": 0.01, "bfloat16": 0.05, "int8": 0.1}


def each_format(*dtypes):
    return [
        pytest.param(format, dtype, marks=needs(format))
        for format in MODEL_FILES
        for dtype in DTYPES[format]
        if not dtypes or dtype in dtypes
    ]


@pytest.mark.parametrize(("format", "dtype"), each_format())
def test_a_video_gets_keras_probabilities(model, video, tmp_path, format, dtype):
    batch_size = 2 if dtype == "float16" else 1
    folder = export_format(
        model, tmp_path / "out", format, dtype=dtype, batch_size=batch_size, num_clips=3
    )
    predictor = open_predictor(folder)
    assert predictor.metadata.num_clips == 3
    expected = ModelPredictor(model, num_clips=3)
    got, wanted = (each.predict_video(video) for each in (predictor, expected))
    assert np.ptp(wanted) > 0.2
    assert np.abs(got - wanted).max() < ERRORS[dtype]
    assert not any(tmp_path.glob(".*"))

    frames = np.random.default_rng(0).integers(0, 256, (3, 4, 40, 50, 3), dtype=np.uint8)
    assert predictor.predict_frames(frames).shape == (3, 3)
    by_file = open_predictor(folder / MODEL_FILES[format])
    np.testing.assert_array_equal(by_file.predict_frames(frames), predictor.predict_frames(frames))


@pytest.mark.parametrize(("format", "dtype"), each_format("float32"))
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("mvit_b_16x4", {}),
        ("mvit_b_16x4", {"pool_mode": "max"}),
        ("mvitv2_s_16x4", {"class_token": False, "readout": "mean"}),
        ("mvitv2_t", {"input_shape": (32, 32, 3)}),
    ],
)
def test_every_kind_of_model_is_held(tmp_path, name, fields, format, dtype):
    # The export itself compares with Keras.
    folder = export_format(tiny(name, **fields), tmp_path / "out", format, dtype=dtype)
    written = json.loads((folder / "metadata.json").read_text())
    image = name == "mvitv2_t"
    shape = [1, 32, 32, 3] if image else [1, 4, 32, 32, 3]
    assert written["runtime"]["inputs"]["frames"]["shape"] == shape
    assert written["image"] is image
    assert (folder / "labels.txt").read_text().split("\n") == [*CLASS_NAMES, ""]


@pytest.mark.slow
@pytest.mark.parametrize(("format", "dtype"), each_format("float32"))
def test_a_model_of_full_size_is_held(tmp_path, format, dtype):
    model = MViT(
        get_config("mvitv2_s_16x4"),
        name="mvitv2_s_16x4",
        preprocessing=Preprocessing(size=(224, 224)),
        sampling=ClipSampling(num_frames=16, sampling_rate=4),
        class_names=[f"class {index}" for index in range(400)],
    )
    # The export itself compares with Keras.
    folder = export_format(model, tmp_path / "out", format, dtype=dtype)
    assert load_artefact(folder).input_shape == (1, 16, 224, 224, 3)


@pytest.mark.parametrize(("format", "dtype"), each_format("float16"))
def test_half_the_bits_are_half_the_size(model, tmp_path, format, dtype):
    graph = inference_graph(model)
    sizes = []
    for kept in ("float32", dtype):
        (tmp_path / kept).mkdir()
        converters.write_model(graph, tmp_path / kept, format, kept)
        file = {"openvino": "model.bin"}.get(format, MODEL_FILES[format])
        sizes.append((tmp_path / kept / file).stat().st_size)
    parameters = 4 * sum(np.prod(weight.shape) for weight in model.weights)
    assert sizes[0] - sizes[1] > 0.4 * parameters


@pytest.mark.parametrize(
    "dtype", ["bfloat16", "int8", pytest.param("int4", marks=pytest.mark.slow)]
)
def test_a_saved_model_in_fewer_bits(model, video, tmp_path, dtype):
    version = export_format(model, tmp_path / "out", "saved_model", dtype=dtype, num_clips=1)
    got = SavedModelPredictor(version).predict_video(video)
    wanted = ModelPredictor(model, num_clips=1).predict_video(video)
    assert 0 < np.abs(got - wanted).max() < {"bfloat16": 0.05, "int8": 0.1, "int4": 0.5}[dtype]


def test_a_model_in_bfloat16_is_exported_in_float32(model):
    rounded = MViT.from_config({**model.get_config(), "dtype": "mixed_bfloat16"})
    rounded.set_weights(model.get_weights())
    clips = np.random.default_rng(0).normal(size=(1, 4, 32, 32, 3)).astype(np.float32)
    again = in_dtype(rounded, "float32")
    np.testing.assert_allclose(again(clips), model(clips), atol=1e-6)
    assert in_dtype(model, "float32") is model
    quantised = in_dtype(model, "int8")
    with pytest.raises(UserError, match="quantised already .int8."):
        in_dtype(quantised, "float32")


def test_converters_get_no_operation_that_one_of_them_lacks(model):
    graph = inference_graph(model)
    paddings = {node.attr["padding"].s for node in graph.node if node.op == "DepthwiseConv2dNative"}
    assert paddings == {b"VALID"}
    assert {node.attr["shape"].shape.dim[0].size for node in graph.node
            if node.op == "Placeholder"} == {1}  # fmt: skip
    with tf.Graph().as_default() as imported:
        tf.graph_util.import_graph_def(graph, name="")
    shapes = [output.shape for op in imported.get_operations() for output in op.outputs]
    assert max(shape.rank for shape in shapes) == 5


@pytest.mark.parametrize("format", [pytest.param(name, marks=needs(name)) for name in MODEL_FILES])
def test_a_signal_is_handled_after_models_that_were_opened_together(model, tmp_path, format):
    folder = export_format(model, tmp_path / "out", format)
    program = """
import gc, signal, sys
from mvit_tf.export.predictor import open_predictor
first, second = open_predictor(sys.argv[1]), open_predictor(sys.argv[1])
del first
gc.collect()
del second
gc.collect()
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
signal.raise_signal(signal.SIGTERM)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, folder], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "handled\n")


@needs("litert")
def test_a_wrong_answer_is_refused_and_leaves_nothing(model, tmp_path, monkeypatch):
    def wrong(graph, folder, format, dtype):
        converters.write_model(inference_graph(tiny("mvit_b_16x4")), folder, format, dtype)

    monkeypatch.setattr("mvit_tf.export.formats.export.write_model", wrong)
    with pytest.raises(UserError, match="logits differ from Keras' by .* nothing was written"):
        export_format(model, tmp_path / "out", "litert")
    assert list(tmp_path.iterdir()) == []


@needs("litert")
def test_what_a_converter_refuses_is_said_in_one_line(model, tmp_path, monkeypatch):
    def refuse(graph, folder, format, dtype):
        raise RuntimeError("no kernel for Sparkle\nat line 7")

    monkeypatch.setattr("mvit_tf.export.formats.export.write_model", refuse)
    with pytest.raises(UserError) as caught:
        export_format(model, tmp_path / "out", "litert")
    assert str(caught.value) == "litert cannot hold mvitv2_s_16x4: no kernel for Sparkle"
    assert list(tmp_path.iterdir()) == []


@needs("litert")
def test_what_a_runtime_refuses_is_said_in_one_line(model, tmp_path, monkeypatch):
    def refuse(clips):
        raise RuntimeError("no room for Sparkle\nat line 7")

    monkeypatch.setattr("mvit_tf.export.formats.export.open_runtime", lambda *_: refuse)
    with pytest.raises(UserError) as caught:
        export_format(model, tmp_path / "out", "litert", dtype="int8")
    said = "litert cannot run mvitv2_s_16x4 in int8: no room for Sparkle"
    assert str(caught.value) == said
    assert list(tmp_path.iterdir()) == []


def test_what_keras_cannot_quantise_is_said_in_one_line(model, tmp_path, monkeypatch):
    def quantize(self, *_, **__):
        raise NotImplementedError("no int4 here\nat line 7")

    monkeypatch.setattr(MViT, "quantize", quantize)
    with pytest.raises(UserError) as caught:
        export_format(model, tmp_path / "out", "saved_model", dtype="int4")
    said = "saved_model cannot hold mvitv2_s_16x4 in int4: no int4 here"
    assert str(caught.value) == said
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_told_before_anything_is_written(model, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="litert in int4: .* give one of float32, float16, int8"):
        export_format(model, tmp_path / "out", "litert", dtype="int4")
    monkeypatch.setitem(runtimes._TO_RUN, "openvino", ("no_such_package",))
    with pytest.raises(UserError, match=r"no_such_package .* pip install 'mvit_tf\[openvino\]'"):
        export_format(model, tmp_path / "out", "openvino")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_named_is_the_one_that_is_meant(tmp_path):
    (tmp_path / "model.onnx").touch()
    assert find_artefact(tmp_path) == find_artefact(tmp_path / "model.onnx") == tmp_path
    assert find_artefact(tmp_path / "model.tflite") is None


@needs("litert")
def test_broken_folders(model, tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(UserError, match="taken exists already"):
        export_format(model, tmp_path / "taken", "litert")
    folder = export_format(model, tmp_path / "out", "litert")
    assert load_artefact(folder).input_shape == (1, 4, 32, 32, 3)
    file = folder / MODEL_FILES["litert"]
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match="model.tflite cannot be opened by litert"):
        open_predictor(folder)
    metadata = folder / "metadata.json"
    values = json.loads(metadata.read_text())
    for broken in ("{", json.dumps({**values, "runtime": {}}), json.dumps([values])):
        metadata.write_text(broken)
        with pytest.raises(UserError, match="metadata.json is broken"):
            open_predictor(folder)
    metadata.unlink()
    with pytest.raises(UserError, match="was not exported by mvit_tf"):
        open_predictor(folder)
