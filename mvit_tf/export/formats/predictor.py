"""Predicting on video files by LiteRT, ONNX Runtime or OpenVINO."""

import os
import tempfile
from pathlib import Path

import numpy as np

from mvit_tf.export.formats.artefact import load_artefact
from mvit_tf.export.formats.names import MODEL_FILES
from mvit_tf.export.formats.runtimes import open_runtime
from mvit_tf.export.metadata import METADATA_FILE
from mvit_tf.export.predictor import PreparingPredictor
from mvit_tf.remote_path import RemotePath, as_path


class FormatPredictor(PreparingPredictor):
    """Predicts with an artefact of `export_format`.

    Args:
        folder: of the artefact.
        threads: of a call; by default one for each processor that this process may use.

    Attributes:
        artefact: what the folder holds.

    Raises:
        UserError: the folder is broken, or the runtime not installed.
    """

    def __init__(self, folder: str | os.PathLike, *, threads: int | None = None):
        with tempfile.TemporaryDirectory() as beside:
            folder = _local_folder(as_path(folder), Path(beside))
            self.artefact = load_artefact(folder)
            super().__init__(self.artefact.metadata)
            self._run = open_runtime(folder, self.artefact, threads)

    def _probabilities(self, frames):
        return self.run(frames[:, 0] if self.metadata.image else frames).probabilities

    def run(self, clips: np.ndarray):
        """The `Answer` to any number of clips as the model takes them, preprocessed."""
        batch = self.artefact.batch_size
        answers = []
        for start in range(0, len(clips), batch):
            part = clips[start : start + batch]
            # The last part is filled up: these graphs take one batch size only.
            filled = np.resize(part, (batch, *part.shape[1:])) if len(part) < batch else part
            answer = self._run(np.ascontiguousarray(filled, np.float32))
            answers.append(type(answer)(*(values[: len(part)] for values in answer)))
        return type(answers[0])(*map(np.concatenate, zip(*answers, strict=True)))


def _local_folder(folder: Path | RemotePath, beside: Path) -> Path:
    """The folder itself, or a copy of a remote one below `beside`."""
    if not isinstance(folder, RemotePath):
        return folder
    for name in (*MODEL_FILES.values(), "model.bin", METADATA_FILE):
        if (folder / name).is_file():
            (folder / name).fetch_to(beside / name)
    return beside
