"""A trained model as a SavedModel that takes raw frames.

    <directory>/<version>/saved_model.pb, variables/, assets/metadata.json

The versions are integers, as TF Serving wants them. The signature `serving_default`:

    frames: uint8 [B, T, H, W, 3], any B, T, H and W, RGB; of an image model
            images: uint8 [B, H, W, 3]
    -> probabilities: float32 [B, K], adding up to 1 unless the model is a multi-label one
       logits:        float32 [B, K]
       classes:       string [B, K], the class names in the order of the columns

Weights of a model that computes in bfloat16 are constants of the graph, see `frozen_call`.
Everything between decoded frames and the model is in the graph, by the same functions that
evaluation uses. What is left to a client, which frames of a video to send, is written in
`assets/metadata.json`.
"""

import functools
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from mvit_tf.data.sampling import ClipSampling
from mvit_tf.data.transforms import Preprocessing, evaluation_preprocess, temporal_subsample
from mvit_tf.errors import UserError
from mvit_tf.export.frozen import frozen_call, is_freezable
from mvit_tf.export.metadata import (
    GRAPH_FILE,
    METADATA_FILE,
    ExportMetadata,
    list_versions,
    model_metadata,
)
from mvit_tf.files import copy_tree
from mvit_tf.layers.kernels.compiled import without_xla
from mvit_tf.remote_path import RemotePath, as_path

SIGNATURE = "serving_default"


def export_model(
    model: keras.Model,
    directory: str | os.PathLike,
    *,
    num_clips: int | None = None,
    ensemble_method: str = "mean",
    version: int | None = None,
) -> Path | RemotePath:
    """`export_saved_model` of a model that knows its frames and classes.

    Args:
        model: an `MViT` with `preprocessing`, `sampling` and `class_names`.
        directory, ensemble_method, version: as of `export_saved_model`.
        num_clips: likewise; by default five, one for the sampling rule "segments".

    Returns:
        The directory of the version.

    Raises:
        UserError: the model lacks one of them, or the version is there already.
    """
    metadata = model_metadata(model, num_clips, ensemble_method)
    return export_saved_model(
        model,
        directory,
        class_names=metadata.class_names,
        preprocessing=metadata.preprocessing,
        sampling=metadata.sampling,
        num_clips=metadata.num_clips,
        multi_label=metadata.multi_label,
        ensemble_method=metadata.ensemble_method,
        version=version,
    )


def export_saved_model(
    model: keras.Model,
    directory: str | os.PathLike,
    *,
    class_names: Sequence[str],
    preprocessing: Preprocessing,
    sampling: ClipSampling,
    num_clips: int,
    multi_label: bool = False,
    ensemble_method: str = "mean",
    version: int | None = None,
) -> Path | RemotePath:
    """Writes a new version of a model into an export directory.

    The files are written under a temporary name and renamed when complete, so that a server
    polling the directory never sees half a version. An object store cannot rename a folder: there
    the graph is copied last, without which TensorFlow Serving does not load a version.

    Args:
        model: normalised float frames (B, T, H, W, 3) or images (B, H, W, 3) -> logits (B, K).
        directory: the export directory, made if missing.
        class_names: the K class names in the order of the logits.
        preprocessing: what evaluation does to the frames.
        sampling: which frames of a video make a clip.
        num_clips: clips of a video whose probabilities a client puts together.
        multi_label: each class has a probability of its own, sigmoid instead of softmax.
        ensemble_method: what the clips' probabilities become, "mean" or "max".
        version: number of the version; the highest present plus one when `None`.

    Returns:
        The directory of the version.

    Raises:
        UserError: the arguments do not fit the model, or the version is there already.
    """
    metadata = ExportMetadata(
        model_name=model.name,
        class_names=tuple(class_names),
        preprocessing=preprocessing,
        sampling=sampling,
        num_clips=num_clips,
        multi_label=multi_label,
        ensemble_method=ensemble_method,
        image=len(model.input_shape) == 4,
    )
    metadata.check_fit(model)
    directory = as_path(directory)
    remote = isinstance(directory, RemotePath)
    directory.mkdir(parents=True, exist_ok=True)
    if version is None:
        version = max(list_versions(directory), default=0) + 1
    target = directory / str(version)
    if target.exists():
        raise UserError(f"{target} exists already: choose another version number")
    beside = None if remote else directory
    with tempfile.TemporaryDirectory(dir=beside, prefix=".export-") as partial, without_xla():
        asset = Path(partial, METADATA_FILE)
        asset.write_text(json.dumps(metadata.to_dict(), indent=2) + "\n", encoding="utf-8")
        archive = keras.export.ExportArchive()
        # In float32 constants gain 3 % of the time, and a server takes 2.7 times the memory.
        in_bfloat16 = any(layer.compute_dtype == "bfloat16" for layer in model.layers)
        if in_bfloat16 and is_freezable(model):
            call = frozen_call(model)
        else:
            archive.track(model)
            call = functools.partial(model, training=False)
        archive.add_endpoint(
            SIGNATURE,
            _serving_function(call, metadata),
            input_signature=[_input_spec(metadata)],
        )
        # `track` keeps variables and lookup tables only: an asset hangs on the root itself.
        archive._tf_trackable.metadata = tf.saved_model.Asset(str(asset))
        written = Path(partial, "saved_model")
        archive.write_out(str(written), verbose=False)
        if remote:
            copy_tree(written, target, last=GRAPH_FILE)
        else:
            os.rename(written, target)
    return target


def _input_spec(metadata: ExportMetadata) -> tf.TensorSpec:
    if metadata.image:
        return tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")
    return tf.TensorSpec([None, None, None, None, 3], tf.uint8, name="frames")


def _serving_function(call: Callable, metadata: ExportMetadata) -> Callable:
    activation = tf.nn.sigmoid if metadata.multi_label else tf.nn.softmax

    def serve(frames):
        if not metadata.image:
            frames = temporal_subsample(frames, metadata.sampling.num_frames)
        inputs = evaluation_preprocess(frames, metadata.preprocessing, crop="center")
        logits = tf.cast(call(inputs), tf.float32)
        # One row of names per clip: the row format of TF Serving's REST interface wants every
        # output to have the batch dimension.
        classes = tf.tile(tf.constant([metadata.class_names]), [tf.shape(frames)[0], 1])
        return {
            "probabilities": activation(logits),
            "logits": logits,
            "classes": classes,
        }

    return serve
