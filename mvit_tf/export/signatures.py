"""The signatures of an export: from what a request holds to probabilities or features.

Each is one function of tensors with its input's specs, to be traced. All share one forward pass,
so that the weights are in the export once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import tensorflow as tf

from mvit_tf.data.records.examples import FRAME_RATE, FRAMES
from mvit_tf.data.transforms import CROPS, evaluation_preprocess, temporal_subsample
from mvit_tf.export import requests
from mvit_tf.export.metadata import ExportMetadata
from mvit_tf.export.view_sampling import evaluation_indices
from mvit_tf.models.mvit import MViT

SIGNATURE = "serving_default"
EXAMPLES, FEATURES = "serve_examples", "features"
# Of exports with several views in the graph.
VIDEOS, VIDEO_EXAMPLES, CROPPED = "serve_videos", "serve_video_examples", "serve_crops"

_DECODER = "CPU:0"  # Which alone decodes JPEG.
# Decoded frames of so many are in memory at once.
_EXAMPLES_AT_ONCE, _FRAMES_AT_ONCE = 2, 8


@dataclass(frozen=True)
class Signature:
    """One way to ask.

    Attributes:
        function: tensors, as `inputs` names them, to a dict of tensors.
        inputs: their specs.
        summary: what it is for, in a line.
        outputs: specs of the outputs by name, once it is traced.
    """

    function: Callable
    inputs: Sequence[tf.TensorSpec]
    summary: str
    outputs: dict[str, tf.TensorSpec] | None = None


def with_features(model: keras.Model) -> keras.Model:
    """A model of the same layers with a dict of outputs, float32.

    Returns:
        `logits` (B, K); of an `MViT` with a head also `pooled` (B, C), what the head reads, and
        `stage_1`, `stage_2`, ... (B, C), the mean of each stage's tokens but the class token.
    """
    outputs = {"logits": model.output}
    if isinstance(model, MViT) and model.config.num_classes:
        outputs["pooled"] = model.get_layer("head").input
        first = int(model.config.class_token)
        for spec in model.config.blocks():
            # Each stage's last block is the one that stays.
            outputs[f"stage_{spec.stage + 1}"] = model.get_layer(spec.name).output[:, first:]
    outputs = {name: keras.ops.cast(tensor, "float32") for name, tensor in outputs.items()}
    outputs = {
        name: keras.ops.mean(tensor, axis=1) if name.startswith("stage_") else tensor
        for name, tensor in outputs.items()
    }
    return keras.Model(model.input, outputs, name=model.name)


def make_signatures(forward: Callable, metadata: ExportMetadata) -> dict[str, Signature]:
    """The signatures by name.

    Args:
        forward: model input to what `with_features` returns.
        metadata: of the model.
    """
    graph = _Graph(forward, metadata)
    pixels = _pixels_spec(metadata)
    examples = tf.TensorSpec([None], tf.string, name="examples")
    fps = tf.TensorSpec([None], tf.float64, name="fps")
    what, one = ("images", "image") if metadata.image else ("clips", "clip")
    found = {
        SIGNATURE: Signature(graph.serve, [pixels], f"probabilities of {what}, raw frames"),
        EXAMPLES: Signature(
            graph.serve_examples,
            [examples],
            f"the same of {what} as JPEG pictures, a serialized {_example_kind(metadata)} each "
            f"('{FRAMES}')",
        ),
    }
    if "pooled" in forward.structured_outputs:
        found[FEATURES] = Signature(
            graph.features,
            [pixels],
            f"embeddings of {what}: what the head reads, and the mean token of each stage",
        )
    if metadata.views_in_graph:
        views = f"{metadata.num_clips} x {metadata.num_crops} views (clips x crops)"
        found[VIDEOS] = Signature(
            graph.serve_videos,
            [pixels, fps],
            f"probabilities of whole videos, all their frames: {views}, put together",
        )
        found[VIDEO_EXAMPLES] = Signature(
            graph.serve_video_examples,
            [examples],
            f"the same of whole videos with JPEG frames ('{FRAMES}', and '{FRAME_RATE}')",
        )
        if metadata.num_crops > 1:
            found[CROPPED] = Signature(
                graph.serve_crops,
                [pixels],
                f"probabilities of one {one}, {metadata.num_crops} crops put together",
            )
    return found


def _pixels_spec(metadata):
    if metadata.image:
        return tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")
    return tf.TensorSpec([None, None, None, None, 3], tf.uint8, name="frames")


def _example_kind(metadata):
    return "tf.train.Example" if metadata.image else "tf.train.SequenceExample"


class _Graph:
    """What the signatures compute, each a method."""

    def __init__(self, forward, metadata):
        self._forward = forward
        self._metadata = metadata
        self._spec = _pixels_spec(metadata)
        self._preprocessing = self._view_preprocessing = metadata.preprocessing
        self._crops = ("center",)
        if metadata.num_crops == 3:
            self._crops = CROPS
            # As evaluation does.
            self._view_preprocessing = self._preprocessing.with_short_side(
                min(self._preprocessing.size)
            )
        self._num_frames = metadata.sampling.num_frames
        self._input_shape = (self._num_frames, *self._preprocessing.size, 3)

    def serve(self, frames):
        return self._classified(self._inputs(frames))

    def features(self, frames):
        found = dict(self._forward(self._inputs(frames)))
        del found["logits"]
        return found

    def serve_examples(self, examples):
        if self._metadata.image:
            inputs = self._of_each(examples, self._image_of_example, self._input_shape[1:])
        else:
            inputs = self._of_each(examples, self._clip_of_example, self._input_shape)
        return self._classified(inputs)

    def serve_crops(self, frames):
        frames = self._checked(frames, self._view_preprocessing)
        clips = temporal_subsample(frames, self._num_frames)
        return self._named(self._combined(lambda _: self._cropped(clips), 1))

    def serve_videos(self, frames, fps):
        metadata = self._metadata
        frames = self._checked(frames, self._view_preprocessing)
        fps = requests.require_frame_rates(fps, frames)
        count = tf.shape(frames)[1]
        indices = tf.map_fn(
            lambda rate: evaluation_indices(metadata.sampling, metadata.num_clips, count, rate),
            fps,
            fn_output_signature=tf.TensorSpec([metadata.num_clips, self._num_frames], tf.int32),
        )
        probabilities = self._combined(
            lambda clip: self._cropped(tf.gather(frames, indices[:, clip], axis=1, batch_dims=1)),
            metadata.num_clips,
        )
        return self._named(probabilities)

    def serve_video_examples(self, examples):
        examples = requests.require_strings(examples, "examples", _example_kind(self._metadata))

        def of_video(numbered):
            with tf.device(_DECODER):
                views = self._views_of_example(*numbered)
            return self._combined(lambda clip: views[clip][None], self._metadata.num_clips)[0]

        # One after the other: the views of a video are a batch, and enough for the memory.
        probabilities = tf.map_fn(
            of_video,
            (examples, tf.range(tf.size(examples))),
            fn_output_signature=tf.TensorSpec([len(self._metadata.class_names)], tf.float32),
            parallel_iterations=1,
        )
        return self._named(probabilities)

    def _checked(self, frames, preprocessing):
        return requests.require_frames(frames, self._spec, preprocessing, self._num_frames)

    def _inputs(self, frames):
        frames = self._checked(frames, self._preprocessing)
        if not self._metadata.image:
            frames = temporal_subsample(frames, self._num_frames)
        return evaluation_preprocess(frames, self._preprocessing, crop="center")

    def _cropped(self, clips):
        """Raw clips (B, T, H, W, 3) -> (B, crops, T, h, w, 3)."""
        preprocessing = self._view_preprocessing
        return tf.stack([evaluation_preprocess(clips, preprocessing, c) for c in self._crops], 1)

    def _activation(self, logits):
        return tf.nn.sigmoid(logits) if self._metadata.multi_label else tf.nn.softmax(logits)

    def _named(self, probabilities):
        # One row of names per clip: the row format of TF Serving's REST interface wants every
        # output to have the batch dimension.
        names = tf.constant([self._metadata.class_names])
        classes = tf.tile(names, [tf.shape(probabilities)[0], 1])
        return {"probabilities": probabilities, "classes": classes}

    def _classified(self, inputs):
        logits = self._forward(inputs)["logits"]
        return {**self._named(self._activation(logits)), "logits": logits}

    def _combined(self, crops_of_clip, num_clips):
        """The probabilities of views put together, a clip at a time, as memory is for one.

        Args:
            crops_of_clip: function of the clip's number to (B, crops, T, h, w, 3).
            num_clips: int.

        Returns:
            float32 (B, K).
        """
        crops, classes = len(self._crops), len(self._metadata.class_names)

        def of_clip(clip):
            views = crops_of_clip(clip)
            flat = tf.reshape(views, [-1, *views.shape[2:]])
            probabilities = self._activation(self._forward(flat)["logits"])
            return tf.reshape(probabilities, [-1, crops, classes])

        # (clips, B, crops, K)
        probabilities = tf.map_fn(
            of_clip,
            tf.range(num_clips),
            fn_output_signature=tf.TensorSpec([None, crops, classes], tf.float32),
            parallel_iterations=1,
        )
        combine = tf.reduce_max if self._metadata.ensemble_method == "max" else tf.reduce_mean
        return combine(probabilities, axis=(0, 2))

    def _of_each(self, examples, parse, shape):
        """`parse` of each example and its number, float32 (B, *shape)."""
        examples = requests.require_strings(examples, "examples", _example_kind(self._metadata))
        with tf.device(_DECODER):
            return tf.map_fn(
                lambda numbered: parse(*numbered),
                (examples, tf.range(tf.size(examples))),
                fn_output_signature=tf.TensorSpec(shape, tf.float32),
                parallel_iterations=_EXAMPLES_AT_ONCE,
            )

    def _image_of_example(self, example, number):
        parsed = tf.io.parse_single_example(
            example, {FRAMES: tf.io.FixedLenFeature([], tf.string, "")}
        )
        return self._decoded(parsed[FRAMES][None], number, self._preprocessing)[0, 0]

    def _clip_of_example(self, example, number):
        pictures, _ = _parse_sequence(example, number)
        # Frames that the clip leaves out are not decoded.
        pictures = temporal_subsample(pictures[None], self._num_frames)[0]
        return self._decoded(pictures, number, self._preprocessing)[0]

    def _views_of_example(self, example, number):
        """float32 (clips, crops, T, h, w, 3)"""
        metadata = self._metadata
        pictures, rates = _parse_sequence(example, number)
        rate = requests.require_example_rate(rates, number, metadata.sampling.target_fps)
        count = tf.size(pictures)
        indices = evaluation_indices(metadata.sampling, metadata.num_clips, count, rate)
        # Clips overlap: each frame is decoded once.
        distinct, places = tf.unique(tf.reshape(indices, [-1]))
        frames = self._decoded(
            tf.gather(pictures, distinct), number, self._view_preprocessing, self._crops
        )
        clips = tf.gather(frames, tf.reshape(places, tf.shape(indices)), axis=1)
        return tf.transpose(clips, [1, 0, 2, 3, 4, 5])

    def _decoded(self, pictures, number, preprocessing, crops=("center",)):
        """JPEG pictures (n,) -> float32 (crops, n, h, w, 3)."""
        pictures = requests.require_jpegs(pictures, number, preprocessing)

        def decode(picture):
            # As Pillow and libjpeg's own default decode, not TensorFlow's faster one.
            frame = tf.io.decode_jpeg(picture, channels=3, dct_method="INTEGER_ACCURATE")
            return tf.stack([evaluation_preprocess(frame, preprocessing, crop) for crop in crops])

        frames = tf.map_fn(
            decode,
            pictures,
            fn_output_signature=tf.TensorSpec([len(crops), *preprocessing.size, 3], tf.float32),
            parallel_iterations=_FRAMES_AT_ONCE,
        )
        return tf.transpose(frames, [1, 0, 2, 3, 4])


def _parse_sequence(example, number):
    """(encoded frames (T,), frames a second (1,), or (0,) of none) of a SequenceExample."""
    context, sequences = tf.io.parse_single_sequence_example(
        example,
        context_features={FRAME_RATE: tf.io.VarLenFeature(tf.float32)},
        sequence_features={
            FRAMES: tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True)
        },
    )
    pictures = requests.require_some_frames(sequences[FRAMES], number)
    return pictures, context[FRAME_RATE].values
