"""Requests that TensorFlow Serving replays when it loads a version, before others come.

`assets.extra/tf_serving_warmup_requests` is a TFRecord file of `PredictionLog` messages
(`tensorflow_serving/apis/prediction_log.proto`). They are written without that package, which has
no other use here: the messages around the tensors are three fields deep.
"""

import io
import os
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf
from PIL import Image

from mvit_tf.data.records.examples import FRAME_RATE, FRAMES
from mvit_tf.export.metadata import ExportMetadata
from mvit_tf.export.signatures import VIDEO_EXAMPLES, VIDEOS, Signature

WARMUP_FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")
_WHOLE_VIDEOS = (VIDEOS, VIDEO_EXAMPLES)
# Field numbers.
_PREDICT_LOG, _REQUEST, _MODEL_SPEC, _INPUTS = 6, 1, 1, 2
_NAME, _SIGNATURE_NAME = 1, 3
_KEY, _VALUE = 1, 2
_BYTES = 2  # Wire type of a field whose length goes before it.


def write_warmup(
    path: str | os.PathLike,
    signatures: dict[str, Signature],
    metadata: ExportMetadata,
    *,
    model_name: str,
    batch_sizes: Sequence[int],
):
    """Writes requests for every signature, each in batches of these sizes.

    Args:
        path: the file.
        signatures: by name.
        metadata: of the model.
        model_name: under which the model is served.
        batch_sizes: of clips or images; whole videos come alone.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tf.io.TFRecordWriter(os.fspath(path)) as file:
        for name, signature in signatures.items():
            for size in [1] if name in _WHOLE_VIDEOS else batch_sizes:
                inputs = {
                    spec.name: _input(spec, name, metadata, size) for spec in signature.inputs
                }
                file.write(prediction_log(model_name, name, inputs))


def prediction_log(model_name: str, signature_name: str, inputs: dict) -> bytes:
    """A serialized `PredictionLog` of a `PredictRequest`.

    Args:
        model_name, signature_name: of `ModelSpec`.
        inputs: TensorProto by name.
    """
    spec = _field(_NAME, model_name.encode()) + _field(_SIGNATURE_NAME, signature_name.encode())
    request = _field(_MODEL_SPEC, spec)
    for name, tensor in sorted(inputs.items()):
        entry = _field(_KEY, name.encode()) + _field(_VALUE, tensor.SerializeToString())
        request += _field(_INPUTS, entry)
    return _field(_PREDICT_LOG, _field(_REQUEST, request))


def _input(spec, signature_name, metadata, batch_size):
    """A gray input: what a picture shows makes no difference to the time."""
    short = metadata.preprocessing.short_side
    height, width = short, short * 4 // 3
    sampling = metadata.sampling
    num_frames = sampling.num_frames
    if signature_name in _WHOLE_VIDEOS and sampling.rule != "segments":
        num_frames = max(round(sampling.span(sampling.target_fps)), num_frames)
    if spec.name == "fps":
        return tf.make_tensor_proto([sampling.target_fps] * batch_size, spec.dtype)
    if spec.dtype == tf.string:
        example = _example(height, width, num_frames, metadata)
        return tf.make_tensor_proto([example] * batch_size)
    lead = [batch_size] if metadata.image else [batch_size, num_frames]
    # One value stands for all in the message.
    return tf.make_tensor_proto(128, spec.dtype, [*lead, height, width, 3])


def _example(height, width, num_frames, metadata):
    content = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 128, np.uint8)).save(content, "JPEG")
    picture = tf.train.Feature(bytes_list=tf.train.BytesList(value=[content.getvalue()]))
    if metadata.image:
        return tf.train.Example(
            features=tf.train.Features(feature={FRAMES: picture})
        ).SerializeToString()
    rate = tf.train.Feature(float_list=tf.train.FloatList(value=[metadata.sampling.target_fps]))
    return tf.train.SequenceExample(
        context=tf.train.Features(feature={FRAME_RATE: rate}),
        feature_lists=tf.train.FeatureLists(
            feature_list={FRAMES: tf.train.FeatureList(feature=[picture] * num_frames)}
        ),
    ).SerializeToString()


def _field(number: int, content: bytes) -> bytes:
    return bytes(_varint(number << 3 | _BYTES)) + bytes(_varint(len(content))) + content


def _varint(value: int) -> Iterable[int]:
    while value > 0x7F:
        yield value & 0x7F | 0x80
        value >>= 7
    yield value
