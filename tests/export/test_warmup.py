"""The requests that TensorFlow Serving replays when it loads an export."""

import collections

import pytest
import tensorflow as tf

from mvit_tf.data.sampling import ClipSampling
from mvit_tf.data.transforms import Preprocessing
from mvit_tf.export.metadata import ExportMetadata
from mvit_tf.export.saved_model import export_saved_model
from mvit_tf.export.serving_files import batch_sizes
from mvit_tf.export.warmup import WARMUP_FILE
from mvit_tf.models import build_mvit, get_config
from tests.export.tiny import CLASS_NAMES, PREPROCESSING, SAMPLING, tiny_model

prediction_log_pb2 = pytest.importorskip(
    "tensorflow_serving.apis.prediction_log_pb2", reason="needs tensorflow-serving-api"
)


def tiny_image_model():
    return build_mvit(
        get_config("mvit_b_16").replace(
            input_shape=(32, 32, 3), depths=(1, 1), embed_dim=16, num_classes=len(CLASS_NAMES)
        )
    )


@pytest.mark.parametrize("image", [False, True])
def test_warmup_requests_parse_by_the_official_protos_and_replay(tmp_path, image):
    version = export_saved_model(
        tiny_image_model() if image else tiny_model(),
        tmp_path / "my model",
        class_names=CLASS_NAMES,
        preprocessing=PREPROCESSING,
        sampling=ClipSampling(num_frames=1) if image else SAMPLING,
        num_clips=1,
        views_in_graph=not image,
        num_crops=1 if image else 3,
    )
    file = version / WARMUP_FILE
    assert file.stat().st_size < 2**20  # Gray frames are one value in the message.
    signatures = tf.saved_model.load(str(version)).signatures
    sizes = collections.defaultdict(list)
    for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        assert log.SerializeToString(deterministic=True) == record
        request = log.predict_log.request
        assert request.model_spec.name == "my_model"
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        name = request.model_spec.signature_name
        outputs = signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})
        (size,) = {len(value) for value in (*inputs.values(), *outputs.values())}
        sizes[name].append(size)
    expected = {"serving_default": [1, 64], "serve_examples": [1, 64], "features": [1, 64]}
    if not image:
        expected |= {"serve_crops": [1, 64], "serve_videos": [1], "serve_video_examples": [1]}
    assert sizes == expected


@pytest.mark.parametrize(
    ("clip", "largest"), [((16, 224), 8), ((32, 224), 4), ((40, 312), 2), ((1, 224), 64)]
)
def test_a_batch_is_of_as_many_clips_as_memory_is_for(clip, largest):
    frames, side = clip
    metadata = ExportMetadata(
        "mvit", CLASS_NAMES, Preprocessing((side, side), short_side=side),
        ClipSampling(num_frames=frames), 1,
    )  # fmt: skip
    assert batch_sizes(metadata)[-1] == largest
