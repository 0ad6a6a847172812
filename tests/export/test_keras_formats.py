"""`model.export` of Keras, format by format: the table of docs/keras.md."""

import numpy as np
import pytest
import tensorflow as tf

from tests.training.tiny import tiny_model

pytestmark = pytest.mark.slow


@pytest.fixture
def model():
    model = tiny_model()
    model(np.zeros((1, 4, 32, 32, 3)))  # Keras writes ONNX of what was called
    return model


@pytest.fixture
def clips():
    return np.random.default_rng(0).standard_normal((3, 4, 32, 32, 3)).astype(np.float32)


def test_tf_saved_model(model, clips, tmp_path):
    model.export(tmp_path / "model", format="tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "model")
    np.testing.assert_allclose(loaded.serve(clips), model(clips), rtol=0, atol=1e-5)


def test_litert(model, clips, tmp_path):
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    path = str(tmp_path / "model.tflite")
    model.export(path, format="litert", verbose=False)
    run = litert.Interpreter(path).get_signature_runner()
    (name,) = run.get_input_details()
    (logits,) = run(**{name: clips}).values()
    np.testing.assert_allclose(logits, model(clips), rtol=0, atol=1e-5)


def test_onnx_lacks_the_error_function_complement(model, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("tf2onnx")
    path = str(tmp_path / "model.onnx")
    model.export(path, format="onnx", verbose=False)
    operations = {node.op_type for node in onnx.load(path).graph.node}
    assert "Erfc" in operations  # which is none of ONNX


def test_openvino_refuses_explicit_padding(model, tmp_path):
    pytest.importorskip("openvino")
    with pytest.raises(Exception, match="Explicit padding for DepthwiseConv2dNative"):
        model.export(str(tmp_path / "model.xml"), format="openvino", verbose=False)


def test_torch_needs_its_backend(model, tmp_path):
    with pytest.raises((RuntimeError, NotImplementedError, ValueError), match="PyTorch backend"):
        model.export(str(tmp_path / "model.pt2"), format="torch", verbose=False)
