"""A trained model as a SavedModel that takes raw frames.

    <directory>/README.md, batching.config
    <directory>/<version>/saved_model.pb, variables/, assets/metadata.json, assets/labels.txt,
                          assets.extra/tf_serving_warmup_requests

The versions are integers, as TF Serving wants them. The signature `serving_default`:

    frames: uint8 [B, T, H, W, 3], RGB, B and T from 1, H and W of 8 to 65536, 2 GiB at most; of
            an image model images: uint8 [B, H, W, 3]
    -> probabilities: float32 [B, K], adding up to 1 unless the model is a multi-label one
       logits:        float32 [B, K]
       classes:       string [B, K], the class names in the order of the columns

The others are in `signatures.py`. Weights of a model that computes in bfloat16 are constants of the
graph, see `frozen_call`. Everything between decoded frames and the model is in the graph, by the
same functions that evaluation uses. What is left to a client, which frames of a video to send, is
written in `assets/metadata.json`.
"""

import dataclasses
import functools
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from mvit_tf.data.sampling import ClipSampling
from mvit_tf.data.transforms import Preprocessing
from mvit_tf.errors import UserError
from mvit_tf.export.frozen import frozen_call, is_freezable
from mvit_tf.export.metadata import (
    GRAPH_FILE,
    LABELS_FILE,
    METADATA_FILE,
    ExportMetadata,
    list_versions,
    model_metadata,
)
from mvit_tf.export.serving_files import batch_sizes, check_model_name, write_serving_files
from mvit_tf.export.signatures import SIGNATURE, make_signatures, with_features
from mvit_tf.export.warmup import WARMUP_FILE, write_warmup
from mvit_tf.files import copy_tree, one_line
from mvit_tf.folders import make_folder
from mvit_tf.layers.kernels.compiled import without_xla
from mvit_tf.remote_path import RemotePath, as_path

__all__ = ["SIGNATURE", "export_model", "export_saved_model"]


def export_model(
    model: keras.Model,
    directory: str | os.PathLike,
    *,
    num_clips: int | None = None,
    ensemble_method: str = "mean",
    views_in_graph: bool = False,
    num_crops: int = 1,
    version: int | None = None,
    model_name: str | None = None,
) -> Path | RemotePath:
    """`export_saved_model` of a model that knows its frames and classes.

    Args:
        model: an `MViT` with `preprocessing`, `sampling` and `class_names`.
        directory, ensemble_method, views_in_graph, num_crops, version, model_name: as of
            `export_saved_model`.
        num_clips: likewise; by default five, one for the sampling rule "segments".

    Returns:
        The directory of the version.

    Raises:
        UserError: the model lacks one of them, or the version is there already.
    """
    metadata = model_metadata(
        model, num_clips, ensemble_method, views_in_graph=views_in_graph, num_crops=num_crops
    )
    return export_saved_model(
        model,
        directory,
        class_names=metadata.class_names,
        preprocessing=metadata.preprocessing,
        sampling=metadata.sampling,
        num_clips=metadata.num_clips,
        multi_label=metadata.multi_label,
        ensemble_method=metadata.ensemble_method,
        views_in_graph=metadata.views_in_graph,
        num_crops=metadata.num_crops,
        version=version,
        model_name=model_name,
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
    views_in_graph: bool = False,
    num_crops: int = 1,
    version: int | None = None,
    model_name: str | None = None,
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
        views_in_graph: add signatures that take whole videos and make the clips themselves.
        num_crops: crops of each of those clips, 1 or 3.
        version: number of the version; the highest present plus one when `None`.
        model_name: under which TF Serving is to serve it; by default the directory's name, or for
            a folder called "export" that of the folder around it.

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
        views_in_graph=views_in_graph,
        num_crops=num_crops,
    )
    metadata.check_fit(model)
    model_name = check_model_name(model_name, directory)
    directory = as_path(directory)
    remote = isinstance(directory, RemotePath)
    make_folder(directory)
    if version is None:
        version = max(list_versions(directory), default=0) + 1
    target = directory / str(version)
    if target.exists():
        raise UserError(f"{target} exists already: choose another version number")
    beside = None if remote else directory
    with tempfile.TemporaryDirectory(dir=beside, prefix=".export-") as partial, without_xla():
        written = Path(partial, "saved_model")
        signatures = _write(model, metadata, Path(partial), written)
        write_warmup(
            written / WARMUP_FILE,
            signatures,
            metadata,
            model_name=model_name,
            batch_sizes=sorted({1, batch_sizes(metadata)[-1]}),
        )
        file_sizes = {
            path.relative_to(written).as_posix(): path.stat().st_size
            for path in sorted(written.rglob("*"))
            if path.is_file()
        }
        if remote:
            copy_tree(written, target, last=GRAPH_FILE)
        else:
            os.rename(written, target)
    write_serving_files(
        directory,
        version,
        signatures,
        metadata,
        model_name=model_name,
        file_sizes=file_sizes,
    )
    return target


def _write(model, metadata, scratch, target):
    """Writes the SavedModel; returns its signatures by name."""
    texts = {
        METADATA_FILE: json.dumps(metadata.to_dict(), indent=2),
        LABELS_FILE: "\n".join(map(one_line, metadata.class_names)),
    }
    for name, text in texts.items():
        Path(scratch, name).write_text(text + "\n", encoding="utf-8")
    archive = keras.export.ExportArchive()
    forward = _forward(model)
    signatures = make_signatures(forward, metadata)
    for name, signature in signatures.items():
        traced = archive.add_endpoint(
            name, signature.function, input_signature=list(signature.inputs)
        ).get_concrete_function()
        signatures[name] = dataclasses.replace(signature, outputs=traced.structured_outputs)
    # Not by `track`, which is for layers, and would write every weight a second time.
    archive._tf_trackable.metadata = tf.saved_model.Asset(str(scratch / METADATA_FILE))
    archive._tf_trackable.labels = tf.saved_model.Asset(str(scratch / LABELS_FILE))
    archive.write_out(str(target), verbose=False)
    return signatures


def _forward(model: keras.Model) -> Callable:
    """The forward pass that all signatures call, traced once: constants in it are there once."""
    model = with_features(model)
    # In float32 constants gain 3 % of the time, and a server takes 2.7 times the memory.
    in_bfloat16 = any(layer.compute_dtype == "bfloat16" for layer in model.layers)
    if in_bfloat16 and is_freezable(model):
        call = frozen_call(model)
    else:
        call = functools.partial(model, training=False)

    def forward(inputs):
        return call(inputs)

    inputs = tf.TensorSpec([None, *model.input_shape[1:]], tf.float32, name="inputs")
    return tf.function(forward, autograph=False).get_concrete_function(inputs)
