"""Every format beside Keras, on clips of real videos."""

import contextlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from mvit_tf.data.clips import clip_parts, whole_clips
from mvit_tf.data.transforms import evaluation_preprocess
from mvit_tf.data.video.decode_workers import DecodeWorkers
from mvit_tf.errors import UserError
from mvit_tf.export.formats.export import export_format
from mvit_tf.export.formats.names import DTYPES, SAVED_MODEL
from mvit_tf.export.formats.predictor import FormatPredictor
from mvit_tf.export.formats.runtimes import Answer
from mvit_tf.export.metadata import model_metadata
from mvit_tf.export.saved_model import SIGNATURE
from mvit_tf.folders import make_folder
from mvit_tf.remote_path import RemotePath, as_path

KERAS = "keras"
# Raw frames uint8 (1, T, H, W, 3) -> Answer.
_Run = Callable[[np.ndarray], Answer]


@dataclass
class Row:
    """What one format makes of a model.

    Attributes:
        format, dtype: which.
        megabytes: on disk, 10**6 bytes each; None for Keras.
        probability_difference, logit_difference: the largest one to Keras' over all clips.
        top1_agreement: share of the clips whose first class is Keras'.
        seconds: median of a call with one clip, from decoded frames to probabilities.
        refused: why there is no such export; all numbers are None then.
    """

    format: str
    dtype: str
    megabytes: float | None = None
    probability_difference: float | None = None
    logit_difference: float | None = None
    top1_agreement: float | None = None
    seconds: float | None = None
    refused: str | None = None

    def to_dict(self) -> dict:
        return asdict(self)


def compare_formats(
    model: keras.Model,
    videos: Sequence[str | os.PathLike],
    *,
    output: str | os.PathLike | None = None,
    num_clips: int | None = None,
    ensemble_method: str = "mean",
    rounds: int = 5,
    time_limit: float = 120.0,
    report: Callable[[str], None] = lambda line: None,
) -> list[Row]:
    """Exports a model in every format and dtype, and runs real clips through each.

    Calls are timed in turns, one format after the other for each clip, all with one thread for
    each processor, so that a busy moment of the machine hits all alike.

    Args:
        model: an `MViT` with `preprocessing`, `sampling` and `class_names`.
        videos: files; the middle clip of each is taken.
        output: the folder in which the exports stay; they are removed when None.
        num_clips, ensemble_method: as of `export_saved_model`.
        rounds: how often each clip is timed.
        time_limit: seconds without a frame, after which a video counts as undecodable.
        report: called with a line of progress.

    Returns:
        A row for Keras, then one for each format and dtype.

    Raises:
        UserError: the model does not know its frames, or a folder in `output` exists already.
        DecodeError: a video cannot be decoded.
    """
    metadata = model_metadata(model, num_clips, ensemble_method)
    with DecodeWorkers(1, time_limit=time_limit) as workers:
        clips = [_middle_clip(path, metadata.sampling, workers) for path in videos]
    with _folder(output) as folder:
        runs: dict[int, _Run] = {0: _keras_runner(model, metadata)}
        rows = [Row(KERAS, model.get_layer(index=1).compute_dtype)]
        for format, dtype in _variants():
            report(f"{format} {dtype}")
            target = Path(folder, f"{format}-{dtype}")
            try:
                written = export_format(
                    model,
                    target,
                    format,
                    dtype=dtype,
                    num_clips=num_clips,
                    ensemble_method=ensemble_method,
                )
                run = _runner(format, written)
            except UserError as error:
                shutil.rmtree(target, ignore_errors=True)
                rows.append(Row(format, dtype, refused=str(error)))
                continue
            runs[len(rows)] = run
            rows.append(Row(format, dtype, megabytes=_size(target)))
        report(f"{len(clips)} clips, {rounds} rounds")
        _measure(rows, runs, clips, rounds)
    return rows


def format_table(rows: Iterable[Row]) -> str:
    """The rows as text, for a terminal; refused formats with their reason."""
    lines = [
        f"{'format':<12}{'dtype':<10}{'MB':>8}{'probability':>13}{'logit':>10}{'top-1':>7}{'ms':>9}"
    ]
    for row in rows:
        head = f"{row.format:<12}{row.dtype:<10}"
        if row.refused:
            lines.append(f"{head}{row.refused}")
            continue
        size = "" if row.megabytes is None else f"{row.megabytes:.1f}"
        lines.append(
            f"{head}{size:>8}{row.probability_difference:>13.1e}{row.logit_difference:>10.1e}"
            f"{row.top1_agreement:>7.0%}{1000 * row.seconds:>9.1f}"
        )
    return "\n".join(lines)


def _variants() -> Iterator[tuple[str, str]]:
    return ((format, dtype) for format, dtypes in DTYPES.items() for dtype in dtypes)


def _folder(output):
    if output is None:
        return tempfile.TemporaryDirectory(prefix="mvit-compare-")
    path = as_path(output)
    if isinstance(path, RemotePath):
        raise UserError(
            f"{path}: --compare keeps its exports on this machine: give --output a local folder"
        )
    make_folder(path)
    taken = [name for name in ("-".join(pair) for pair in _variants()) if (path / name).exists()]
    if taken:
        raise UserError(f"{path / taken[0]} exists already: choose another --output")
    return contextlib.nullcontext(path)


def _middle_clip(path, sampling, workers):
    decoded = workers.run(clip_parts, os.fspath(path), sampling, 1)
    try:
        (clip,) = whole_clips(decoded)
    finally:
        decoded.close()
    return clip[np.newaxis]


def _keras_runner(model, metadata) -> _Run:
    activation = tf.nn.sigmoid if metadata.multi_label else tf.nn.softmax
    spec = tf.TensorSpec((None, metadata.sampling.num_frames, None, None, 3), tf.uint8)

    @tf.function(autograph=False, input_signature=[spec])
    def call(frames):
        clips = evaluation_preprocess(frames, metadata.preprocessing)
        logits = model(clips[:, 0] if metadata.image else clips, training=False)
        logits = tf.cast(logits, tf.float32)
        return logits, activation(logits)

    return lambda frames: Answer(*(value.numpy() for value in call(tf.constant(frames))))


def _runner(format, written) -> _Run:
    if format == SAVED_MODEL:
        return _saved_model_runner(written)
    predictor = FormatPredictor(written)

    def run(frames):
        clips = evaluation_preprocess(frames, predictor.metadata.preprocessing).numpy()
        return predictor.run(clips[:, 0] if predictor.metadata.image else clips)

    return run


def _saved_model_runner(written) -> _Run:
    loaded = tf.saved_model.load(os.fspath(written))
    serve = loaded.signatures[SIGNATURE]
    (name,) = serve.structured_input_signature[1]

    def run(frames):
        inputs = tf.constant(frames[:, 0] if name == "images" else frames)
        answer = serve(**{name: inputs})
        return Answer(*(answer[field].numpy() for field in Answer._fields))

    run.loaded = loaded  # Its variables live only as long as it.
    return run


def _measure(rows, runs, clips, rounds):
    answers = {index: [run(clip) for clip in clips] for index, run in runs.items()}
    times = {index: [] for index in runs}
    for _ in range(rounds):
        for clip in clips:
            for index, run in runs.items():
                start = time.perf_counter()
                run(clip)
                times[index].append(time.perf_counter() - start)
    expected = answers[0]
    for index, row in enumerate(rows):
        if index not in runs:
            continue
        pairs = list(zip(answers[index], expected, strict=True))
        row.logit_difference, row.probability_difference = (
            max(float(np.abs(getattr(a, field) - getattr(b, field)).max()) for a, b in pairs)
            for field in ("logits", "probabilities")
        )
        row.top1_agreement = statistics.mean(
            float(a.logits.argmax() == b.logits.argmax()) for a, b in pairs
        )
        row.seconds = statistics.median(times[index])


def _size(folder):
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6
