"""The README and the batching parameters of an export directory."""

import base64
import concurrent.futures
import http.server
import json
import re
import shutil
import subprocess
import threading

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)
from PIL import Image

from mvit_tf.data.preprocessing import Preprocessing
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.errors import UserError
from mvit_tf.export.metadata import ExportMetadata
from mvit_tf.export.saved_model import export_saved_model
from mvit_tf.export.serving_files import batch_sizes, check_model_name
from tests.export.tiny import CLASS_NAMES, PREPROCESSING, SAMPLING, tiny_model


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "moves"
    for _ in range(2):
        export_saved_model(
            tiny_model(), folder, class_names=CLASS_NAMES, preprocessing=PREPROCESSING,
            sampling=SAMPLING, num_clips=2, views_in_graph=True,
        )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def signatures(export):
    loaded = tf.saved_model.load(str(export / "2"))
    return {name: (signature, loaded) for name, signature in loaded.signatures.items()}


def snippets(export, language):
    text = (export / "README.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_readme_says_what_the_export_holds(export, signatures):
    text = (export / "README.md").read_text()
    assert text.startswith("# moves\n\n`mvit`, a model of clips of 4 frames of 32 x 32 pixels")
    words = " ".join(text.split())
    assert "version 2, written" in words and "`cartwheel`, `juggling`, `wave`" in words
    for name, (signature, _) in signatures.items():
        assert f"| `{name}` | input |" in text
        for output, spec in signature.structured_outputs.items():
            assert f"| output | `{output}` | {spec.dtype.name} | [B, {spec.shape[1]}] |" in text
    assert "| input | `frames` | uint8 | [B, T, H, W, 3] |" in text
    for path in (export / "2").rglob("*"):
        if path.is_file():
            name = path.relative_to(export).as_posix()
            assert f"| `{name}` | {path.stat().st_size:,} |" in text
    assert "-e MODEL_NAME=moves" in text


def test_the_batching_parameters_are_those_of_the_server(export):
    text = (export / "batching.config").read_text()
    sizes = [int(size) for size in re.findall(r"^allowed_batch_sizes: (\d+)$", text, re.M)]
    assert sizes == [1, 2, 4, 8, 16, 32, 64]
    assert "max_batch_size { value: 64 }" in text
    parsed = text_format.Parse(text, batching_parameters())
    assert parsed.max_batch_size.value == 64 and parsed.num_batch_threads.value == 2


def test_batches_are_smaller_where_a_clip_has_several_crops():
    clips = ClipSampling(num_frames=16, sampling_rate=4)
    fields = ("mvit", CLASS_NAMES, Preprocessing(size=(224, 224)), clips)
    sizes = [
        batch_sizes(ExportMetadata(*fields, num_clips=5, views_in_graph=views, num_crops=3))[-1]
        for views in (False, True)
    ]
    assert sizes == [8, 4]


def batching_parameters():
    """An empty BatchingParameters, of session_bundle_config.proto, which no package has."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="batching.proto", syntax="proto3")
    file.dependency.append("google/protobuf/wrappers.proto")
    message = file.message_type.add(name="BatchingParameters")
    names = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
    for number, name in enumerate(names, 1):
        message.field.add(
            name=name, number=number, label=kinds.LABEL_OPTIONAL, type=kinds.TYPE_MESSAGE,
            type_name=".google.protobuf.Int64Value",
        )  # fmt: skip
    message.field.add(
        name="allowed_batch_sizes", number=9, label=kinds.LABEL_REPEATED, type=kinds.TYPE_INT64
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("BatchingParameters"))()


class RestServer(http.server.BaseHTTPRequestHandler):
    """Row format of the REST interface, as its documentation has it, of one string input."""

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        signature, _ = self.server.signatures[request["signature_name"]]
        (name,) = signature.structured_input_signature[1]
        rows = [base64.b64decode(row["b64"]) for row in request["instances"]]
        outputs = signature(**{name: tf.constant(rows)})
        lists = {key: value.numpy().astype(str if value.dtype == tf.string else float).tolist()
                 for key, value in outputs.items()}  # fmt: skip
        rows = [
            dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)
        ]
        self.server.paths.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"predictions": rows}).encode())

    def log_message(self, *_):
        pass


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_request_by_rest_works(export, signatures, tmp_path, monkeypatch):
    frames = np.random.default_rng(0).integers(0, 256, (9, 40, 50, 3), np.uint8)
    (tmp_path / "frames").mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "frames" / f"{number:03}.jpg", quality=100)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    program = next(code for code in snippets(export, "python") if "request.json" in code)
    exec(program, {})
    (command,) = (code for code in snippets(export, "sh") if code.startswith("curl"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), RestServer)
    server.signatures, server.paths = signatures, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    command = command.replace("localhost:8501", f"127.0.0.1:{server.server_address[1]}")
    answer = subprocess.run(
        command, shell=True, check=True, capture_output=True, cwd=tmp_path
    ).stdout
    server.shutdown()
    assert server.paths == ["/v1/models/moves:predict"]
    (prediction,) = json.loads(answer)["predictions"]
    assert prediction["classes"] == list(CLASS_NAMES)
    serve, _ = signatures["serve_videos"]
    fps = tf.constant([30.0], tf.float64)
    expected = serve(frames=tf.constant(frames[None]), fps=fps)["probabilities"][0]
    # JPEG changes the noise.
    np.testing.assert_allclose(prediction["probabilities"], expected, atol=0.1)


def test_the_request_by_grpc_works(export, signatures, monkeypatch, capsys):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    predict_pb2 = pytest.importorskip(
        "tensorflow_serving.apis.predict_pb2", reason="needs tensorflow-serving-api"
    )
    import grpc
    from tensorflow_serving.apis import prediction_service_pb2_grpc as service_grpc

    class Service(service_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            assert request.model_spec.name == "moves"
            signature, _ = signatures[request.model_spec.signature_name]
            inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
            outputs = signature(**{key: tf.constant(value) for key, value in inputs.items()})
            response = predict_pb2.PredictResponse()
            for key, value in outputs.items():
                response.outputs[key].CopyFrom(tf.make_tensor_proto(value.numpy()))
            return response

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
    service_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    program = next(code for code in snippets(export, "python") if "grpc" in code)
    # On a busy machine a first request may take minutes.
    program = program.replace("localhost:8500", f"127.0.0.1:{port}").replace("=60)", "=600)")
    exec(program, {})
    server.stop(0).wait()
    printed = capsys.readouterr().out
    assert "b'cartwheel' b'juggling' b'wave'" in printed
    numbers = re.findall(r"\d+\.\d*(?:e[+-]\d+)?", printed)
    assert sum(map(float, numbers)) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "directory", "expected"),
    [
        (None, "runs/mine/export", "mine"),
        (None, "exported/mvit_b", "mvit_b"),
        (None, "_my model (1)", "my_model__1_"),
        ("Moves-2.1", "anything", "Moves-2.1"),
    ],
)
def test_the_served_name(name, directory, expected):
    assert check_model_name(name, directory) == expected


def test_a_name_that_no_url_takes_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"--model_name='a/b': letters, digits"):
        check_model_name("a/b", tmp_path)
