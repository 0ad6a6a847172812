"""The exported SavedModel: what it computes, what it says, what it needs."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from mvit_tf.data.transforms import Preprocessing, evaluation_preprocess
from mvit_tf.errors import UserError
from mvit_tf.export.metadata import find_version, list_versions, load_metadata
from mvit_tf.export.saved_model import export_saved_model
from tests.export.tiny import CLASS_NAMES, PREPROCESSING, SAMPLING, tiny_model

OPTIONS = {"class_names": CLASS_NAMES, "sampling": SAMPLING, "num_clips": 2}


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def version(model, tmp_path_factory):
    directory = tmp_path_factory.mktemp("export")
    return export_saved_model(model, directory, preprocessing=PREPROCESSING, **OPTIONS)


@pytest.fixture(scope="module")
def serve(version):
    loaded = tf.saved_model.load(str(version))
    signature = loaded.signatures["serving_default"]
    signature.owner = loaded
    return signature


def random_frames(*shape):
    return np.random.default_rng(sum(shape)).integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "shape", [(1, 4, 36, 36), (2, 4, 40, 64), (3, 4, 75, 33), (1, 4, 20, 24), (5, 4, 48, 36)]
)
def test_raw_frames_give_what_keras_gives_after_preprocessing(model, serve, shape):
    frames = random_frames(*shape)
    outputs = serve(frames=tf.constant(frames))
    logits = model.predict(evaluation_preprocess(frames, PREPROCESSING), verbose=0)
    assert np.ptp(logits, axis=1).min() > 0.1
    np.testing.assert_allclose(outputs["logits"], logits, rtol=0, atol=1e-5)
    np.testing.assert_allclose(outputs["probabilities"], tf.nn.softmax(logits), rtol=0, atol=1e-5)
    assert np.array_equal(outputs["classes"].numpy().astype(str), [CLASS_NAMES] * shape[0])


@pytest.mark.parametrize(
    ("sent", "used"), [(7, [0, 2, 4, 6]), (4, [0, 1, 2, 3]), (13, [0, 4, 8, 12]), (1, [0] * 4)]
)
def test_clips_of_another_length_are_sampled_evenly(serve, sent, used):
    frames = random_frames(1, sent, 36, 36)
    whole = serve(frames=tf.constant(frames))["logits"]
    np.testing.assert_allclose(
        whole, serve(frames=tf.constant(frames[:, used]))["logits"], rtol=0, atol=1e-5
    )


def test_a_bfloat16_model_in_another_channel_order_serves_float32(tmp_path):
    model = tiny_model(dtype="mixed_bfloat16")
    preprocessing = Preprocessing(size=(32, 32), short_side=32, channel_order="bgr")
    version = export_saved_model(model, tmp_path, preprocessing=preprocessing, **OPTIONS)
    frames = random_frames(2, 4, 32, 48)
    outputs = tf.saved_model.load(str(version)).signatures["serving_default"](
        frames=tf.constant(frames)
    )
    assert outputs["logits"].dtype == outputs["probabilities"].dtype == tf.float32
    np.testing.assert_allclose(outputs["probabilities"].numpy().sum(axis=1), 1, atol=1e-6)
    expected = model.predict(evaluation_preprocess(frames, preprocessing), verbose=0)
    # bfloat16 keeps 8 bits: fused and unfused kernels round apart.
    np.testing.assert_allclose(outputs["logits"], expected, atol=0.05 * np.abs(expected).max())


def test_the_signature_names_its_arguments_and_leaves_all_sizes_open(serve):
    (frames,) = serve.structured_input_signature[1].values()
    assert frames == tf.TensorSpec([None, None, None, None, 3], tf.uint8, name="frames")
    outputs = {name: (spec.dtype, spec.shape[1]) for name, spec in
               serve.structured_outputs.items()}  # fmt: skip
    assert outputs == {
        "probabilities": (tf.float32, 3),
        "logits": (tf.float32, 3),
        "classes": (tf.string, 3),
    }


def test_the_graph_needs_no_compiler_and_no_python(version):
    saved_model = saved_model_pb2.SavedModel()
    saved_model.ParseFromString((version / "saved_model.pb").read_bytes())
    graph = saved_model.meta_graphs[0].graph_def
    nodes = [node for function in graph.library.function for node in function.node_def]
    assert len(nodes) > 100
    assert {"PyFunc", "EagerPyFunc", "XlaLaunch"}.isdisjoint(node.op for node in nodes)
    compiled = [
        function.signature.name
        for function in graph.library.function
        if function.attr["_XlaMustCompile"].b
    ]
    assert not compiled
    assert not any(node.attr["_XlaMustCompile"].b for node in nodes)


def test_the_metadata_is_a_registered_asset_that_needs_no_tensorflow(version):
    saved_model = saved_model_pb2.SavedModel()
    saved_model.ParseFromString((version / "saved_model.pb").read_bytes())
    assert sorted(asset.filename for asset in saved_model.meta_graphs[0].asset_file_def) == [
        "labels.txt",
        "metadata.json",
    ]
    assert (version / "assets" / "labels.txt").read_text().splitlines() == list(CLASS_NAMES)
    written = json.loads((version / "assets" / "metadata.json").read_text())
    assert written["class_names"] == list(CLASS_NAMES)
    metadata = load_metadata(version)
    assert metadata.class_names == CLASS_NAMES
    assert metadata.preprocessing == PREPROCESSING
    assert metadata.sampling == SAMPLING
    assert metadata.num_clips == 2


LOAD_ALONE = """
import sys
sys.modules["mvit_tf"] = None  # An import of it now raises ImportError.
import numpy as np
import tensorflow as tf

loaded = tf.saved_model.load(sys.argv[1])
outputs = loaded.signatures["serving_default"](frames=tf.constant(np.load(sys.argv[2])))
np.save(sys.argv[3], outputs["probabilities"])
"""


def test_loading_needs_nothing_of_this_project(serve, version, tmp_path):
    frames = random_frames(1, 4, 50, 40)
    np.save(tmp_path / "frames.npy", frames)
    arguments = [version, tmp_path / "frames.npy", tmp_path / "probabilities.npy"]
    subprocess.run([sys.executable, "-c", LOAD_ALONE, *map(str, arguments)], check=True)
    np.testing.assert_allclose(
        np.load(tmp_path / "probabilities.npy"),
        serve(frames=tf.constant(frames))["probabilities"],
        atol=1e-6,
    )


def test_versions_number_up_and_are_never_written_over(model, tmp_path):
    export = tmp_path / "export"
    options = {"preprocessing": PREPROCESSING, **OPTIONS}
    assert export_saved_model(model, export, version=7, **options) == export / "7"
    (export / "notes").mkdir()
    assert export_saved_model(model, export, **options) == export / "8"
    with pytest.raises(UserError, match=r"export/7 exists already"):
        export_saved_model(model, export, version=7, **options)
    assert list_versions(export) == [7, 8]
    assert find_version(export) == export / "8"
    assert find_version(export / "7") == export / "7"


def test_a_version_appears_whole_or_not_at_all(model, tmp_path, monkeypatch):
    seen = []

    def fail_midway(trackable, path, **kwargs):
        seen.append(list_versions(tmp_path))
        tf.io.gfile.makedirs(f"{path}/variables")
        raise OSError("disk full")

    monkeypatch.setattr(tf.saved_model, "save", fail_midway)
    with pytest.raises(OSError, match="disk full"):
        export_saved_model(model, tmp_path, preprocessing=PREPROCESSING, **OPTIONS)
    assert seen == [[]]
    assert list(tmp_path.iterdir()) == []


def test_other_users_may_read_an_export(version):
    assert version.stat().st_mode & 0o055 == 0o055


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ("a", "b")}, "3 outputs, but there are 2 class names"),
        ({"preprocessing": Preprocessing(size=(30, 32))}, r"make \(4, 30, 32, 3\)"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(model, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        export_saved_model(
            model, tmp_path, **{"preprocessing": PREPROCESSING, **OPTIONS, **changes}
        )
    assert list(tmp_path.iterdir()) == []


def test_a_path_without_an_export_is_a_users_mistake(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        find_version(tmp_path / "nowhere")
    with pytest.raises(UserError, match="neither saved_model.pb nor a numbered version"):
        find_version(tmp_path)
    (tmp_path / "3").mkdir()
    with pytest.raises(UserError, match="not exported by mvit_tf"):
        load_metadata(find_version(tmp_path))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}'])
def test_broken_metadata_is_named(text, tmp_path):
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "metadata.json").write_text(text)
    with pytest.raises(UserError, match="metadata.json is broken .*: export the model again"):
        load_metadata(tmp_path)
