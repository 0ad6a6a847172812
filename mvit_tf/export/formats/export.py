"""Writing a model in any format, and the check that what was written computes what it should."""

import contextlib
import os
import tempfile
from pathlib import Path

import keras
import numpy as np

from mvit_tf.data.transforms import evaluation_preprocess
from mvit_tf.errors import UserError
from mvit_tf.export.formats.artefact import Artefact
from mvit_tf.export.formats.converters import write_model
from mvit_tf.export.formats.inference_graph import inference_graph
from mvit_tf.export.formats.names import SAVED_MODEL, check_dtype
from mvit_tf.export.formats.precision import in_dtype
from mvit_tf.export.formats.runtimes import Answer, open_runtime, require_runtime
from mvit_tf.export.frozen import MAX_BYTES, is_freezable
from mvit_tf.export.metadata import METADATA_FILE, ExportMetadata, model_metadata
from mvit_tf.export.saved_model import export_model
from mvit_tf.files import copy_tree
from mvit_tf.folders import make_folder
from mvit_tf.remote_path import RemotePath, as_path

# How far logits may lie from Keras' own, as a share of how far they lie from one another.
TOLERANCES = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.15, "int8": 0.3, "int4": 0.75}


def export_format(
    model: keras.Model,
    output: str | os.PathLike,
    format: str,
    *,
    dtype: str = "float32",
    batch_size: int = 1,
    num_clips: int | None = None,
    ensemble_method: str = "mean",
    model_name: str | None = None,
) -> Path | RemotePath:
    """Writes a model for another runtime, once its answer there is that of Keras.

    Args:
        model: an `MViT` with `preprocessing`, `sampling` and `class_names`.
        output: the folder to write; must not exist. For a SavedModel the export directory, in
            which a new version is written.
        format: "saved_model", "litert", "onnx" or "openvino".
        dtype: one of `names.DTYPES[format]`.
        batch_size: clips of a call, fixed in all formats but the SavedModel.
        num_clips, ensemble_method: as of `export_saved_model`.
        model_name: likewise; of a SavedModel alone.

    Returns:
        The folder, or the directory of the SavedModel's version.

    Raises:
        UserError: the format cannot hold the model, its package is missing, the output exists,
            or the answer is too far from Keras'. Nothing is written then.
    """
    check_dtype(format, dtype)
    metadata = model_metadata(model, num_clips, ensemble_method)
    if format == SAVED_MODEL:
        options = {
            "num_clips": num_clips,
            "ensemble_method": ensemble_method,
            "model_name": model_name,
        }
        return _export_saved_model(model, output, dtype, metadata, options)
    require_runtime(format, to_write=True)
    output = as_path(output)
    if output.exists():
        raise UserError(f"{output} exists already: choose another --output")
    whole = in_dtype(model, "float32")
    if not is_freezable(whole):
        raise UserError(
            f"{format} cannot hold {model.name}: its weights take more than the "
            f"{MAX_BYTES / 2**30:.1f} GiB of one graph; use the SavedModel"
        )
    artefact = Artefact(format, dtype, batch_size, metadata)
    remote = isinstance(output, RemotePath)
    if not remote:
        make_folder(output.parent)
    beside = None if remote else output.parent
    with tempfile.TemporaryDirectory(dir=beside, prefix=".export-") as partial:
        written = Path(partial, "artefact")
        written.mkdir()
        graph = inference_graph(whole, batch_size=batch_size, multi_label=metadata.multi_label)
        with _told(f"{format} cannot hold {model.name}"):
            write_model(graph, written, format, dtype)
        artefact.write(written)
        clips = example_clips(metadata, batch_size)
        run = open_runtime(written, artefact)
        with _told(f"{format} cannot run {model.name} in {dtype}"):
            answer = run(clips)
        check_answer(answer, whole, clips, f"{format} in {dtype}", dtype)
        if remote:
            copy_tree(written, output, last=METADATA_FILE)
        else:
            os.rename(written, output)
    return output


def _export_saved_model(model, output, dtype, metadata, options):
    with _told(f"{SAVED_MODEL} cannot hold {model.name} in {dtype}"):
        copy = in_dtype(model, dtype)
    if copy is not model:
        clips = example_clips(metadata, 1)
        logits = keras.ops.convert_to_numpy(copy(clips, training=False))
        check_answer(Answer(logits, None), model, clips, f"a model in {dtype}", dtype)
    return export_model(copy, output, **options)


@contextlib.contextmanager
def _told(what):
    """Context in which an error is a `UserError` that begins so, in one line.

    Converters and runtimes raise classes of their own and bare RuntimeErrors, Keras' `quantize`
    ValueErrors and NotImplementedErrors.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError | MemoryError | OSError):
            raise
        raise UserError(f"{what}: {first_line(error)}") from error


def example_clips(metadata: ExportMetadata, count: int) -> np.ndarray:
    """Clips as the model takes them: a drifting texture, of which each is another part."""
    height, width = metadata.preprocessing.size
    frames = metadata.sampling.num_frames
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (count, -(-height // 8), -(-width // 8) + frames, 3))
    texture = blocks.repeat(8, axis=1).repeat(8, axis=2)[:, :height].astype(np.uint8)
    video = np.stack([texture[:, :, 4 * t : 4 * t + width] for t in range(frames)], axis=1)
    clips = evaluation_preprocess(video, metadata.preprocessing).numpy()
    return clips[:, 0] if metadata.image else clips


def relative_error(logits: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference of logits, as a share of how far the expected ones lie apart."""
    centred = expected
    if expected.shape[-1] > 1:
        centred = expected - expected.mean(axis=-1, keepdims=True)
    scale = max(float(np.abs(centred).max()), 1e-6)
    return float(np.abs(logits - expected).max()) / scale


def check_answer(answer: Answer, model: keras.Model, clips: np.ndarray, what: str, dtype: str):
    """Refuses an answer that is too far from Keras'.

    Raises:
        UserError: it is, or has numbers that are not finite.
    """
    expected = keras.ops.convert_to_numpy(model(clips, training=False)).astype(np.float32)
    error = relative_error(np.asarray(answer.logits, np.float32), expected)
    if not error <= TOLERANCES[dtype]:  # Not a number is refused too.
        raise UserError(
            f"{what} was refused: its logits differ from Keras' by {error:.2g} of their range, "
            f"where {TOLERANCES[dtype]:g} is allowed; nothing was written"
        )


def first_line(error: Exception) -> str:
    """What an error of a converter says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def default_output(model_dir: str | os.PathLike, format: str, dtype: str):
    """Where it goes by default: beside `export/`, whose versions TF Serving reads."""
    return as_path(model_dir) / f"export-{format}-{dtype}"
