"""Predicting on video files, from whatever holds a model that knows its frames and classes."""

import contextlib
import os
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from mvit_tf.data.clips import clip_parts, evaluation_frames, gather_frames, whole_clips
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.data.transforms import evaluation_preprocess
from mvit_tf.data.video.decode_workers import DecodeWorkers, in_this_process
from mvit_tf.errors import UserError
from mvit_tf.export.metadata import ExportMetadata, find_version, load_metadata, model_metadata
from mvit_tf.export.saved_model import SIGNATURE
from mvit_tf.files import local_copy
from mvit_tf.remote_path import RemotePath, as_path, reached

_WEIGHTS_SUFFIXES = (".h5", ".pth", ".pyth", ".pt", ".safetensors")


@dataclass(frozen=True)
class Prediction:
    """What a model makes of a video.

    Attributes:
        path: of the video.
        probabilities: float32 (K,).
        class_names: the K classes.
        multi_label: whether each class has a probability of its own.
    """

    path: str
    probabilities: np.ndarray
    class_names: tuple[str, ...]
    multi_label: bool = False

    def top(self, count: int | None = None) -> list[tuple[str, float]]:
        """The `count` most probable classes (all when `None`) with their probabilities."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.class_names[index], float(self.probabilities[index])) for index in order]

    def at_least(self, threshold: float) -> list[tuple[str, float]]:
        """The classes with so high a probability, the most probable first."""
        return [(name, value) for name, value in self.top() if value >= threshold]


class VideoPredictor:
    """What all predictors share; a subclass turns one clip into probabilities.

    Clips and what becomes of them are those of evaluation with centre crops: `metadata.num_clips`
    clips evenly along the video, the mean (or maximum) of their probabilities.

    Args:
        metadata: frames and classes of the model.
    """

    def __init__(self, metadata: ExportMetadata):
        self.metadata = metadata

    def predict_videos(
        self, paths: Iterable[str | os.PathLike], *, workers: DecodeWorkers | None = None
    ) -> list[Prediction]:
        """A `Prediction` for each video, in order; one path alone is a list of one.

        Args:
            paths: the files.
            workers: processes to decode in, so that no video can crash or stop this one; by
                default this one decodes.

        Raises:
            DecodeError: a video cannot be decoded.
        """
        if isinstance(paths, str | os.PathLike):
            paths = [paths]
        return [
            Prediction(
                os.fspath(path),
                self.predict_video(path, workers=workers),
                self.metadata.class_names,
                self.metadata.multi_label,
            )
            for path in paths
        ]

    def predict_video(
        self, path: str | os.PathLike, *, workers: DecodeWorkers | None = None
    ) -> np.ndarray:
        """Decodes a video's clips and puts their probabilities together.

        Args:
            path, workers: see `predict_videos`.

        Returns:
            float32 (K,), in the order of `metadata.class_names`.

        Raises:
            DecodeError: the video cannot be decoded.
        """
        run = in_this_process if workers is None else workers.run
        decoded = run(
            self._decoder, os.fspath(path), self.metadata.sampling, self.metadata.num_clips
        )
        # Closed whatever happens: a worker is held until then.
        with contextlib.closing(decoded):
            combine = np.max if self.metadata.ensemble_method == "max" else np.mean
            # By `map`, no clip is held while the next one is decoded.
            return combine(list(map(self._probabilities_of_clip, self._clips(decoded))), axis=0)

    def predict_frames(self, frames: np.ndarray) -> np.ndarray:
        """Probabilities of clips in memory.

        Args:
            frames: uint8 (B, T, H, W, 3), RGB, any H and W; T is `metadata.sampling.num_frames`.

        Returns:
            float32 (B, K), in the order of `metadata.class_names`.
        """
        return self._probabilities(frames)

    def _probabilities_of_clip(self, clip):
        return self._probabilities(clip[np.newaxis])[0]

    @staticmethod
    def _decoder(path: str, sampling: ClipSampling, num_clips: int) -> Iterable:
        """The generator function that decodes; a function of `mvit_tf.data.clips`."""
        raise NotImplementedError

    def _clips(self, decoded: Iterable) -> Iterable[np.ndarray]:
        """The clips that `_decoder` gives, each as `_probabilities` takes it."""
        raise NotImplementedError

    def _probabilities(self, frames: np.ndarray) -> np.ndarray:
        """A clip (1, T, ...) -> float32 (1, K)."""
        raise NotImplementedError


class ModelPredictor(VideoPredictor):
    """Predicts with a model in memory.

    Args:
        model: an `MViT` with `preprocessing`, `sampling` and `class_names`.
        num_clips: clips of each video; by default five, one for the sampling rule "segments".
        ensemble_method: what their probabilities become, "mean" or "max".

    Raises:
        UserError: the model lacks one of them.
    """

    def __init__(
        self, model: keras.Model, *, num_clips: int | None = None, ensemble_method: str = "mean"
    ):
        super().__init__(model_metadata(model, num_clips, ensemble_method))
        self._model = model
        self._activation = tf.nn.sigmoid if self.metadata.multi_label else tf.nn.softmax

    def predict_frames(self, frames):
        return self._probabilities(evaluation_preprocess(frames, self.metadata.preprocessing))

    _decoder = staticmethod(evaluation_frames)

    def _clips(self, decoded):
        # The frames are shrunk as they come: those of all clips would fill the memory.
        frames, facts = gather_frames(
            decoded,
            lambda frames, _: evaluation_preprocess(frames, self.metadata.preprocessing).numpy(),
        )
        return (frames[picks] for picks in facts.picks)

    def _probabilities(self, frames):
        frames = frames[:, 0] if self.metadata.image else frames
        logits = self._model(keras.ops.convert_to_tensor(frames), training=False)
        return self._activation(keras.ops.convert_to_numpy(logits)).numpy()


class SavedModelPredictor(VideoPredictor):
    """Predicts with an exported SavedModel alone.

    Args:
        path: an export directory (its highest version is taken) or a version's directory.

    Attributes:
        directory: the version's directory.

    Raises:
        UserError: there is no export of this project at the path.
    """

    def __init__(self, path: str | os.PathLike):
        self.directory = find_version(path)
        super().__init__(load_metadata(self.directory))
        # Held because the signature's variables live only as long as the loaded object.
        self._loaded = tf.saved_model.load(os.fspath(self.directory))
        self._serve = self._loaded.signatures[SIGNATURE]

    _decoder = staticmethod(clip_parts)

    def _clips(self, decoded):
        return whole_clips(decoded)

    def _probabilities(self, frames):
        if self.metadata.image:
            answer = self._serve(images=tf.constant(frames[:, 0]))
        else:
            answer = self._serve(frames=tf.constant(frames))
        return answer["probabilities"].numpy()


def open_predictor(path: str | os.PathLike) -> VideoPredictor:
    """The predictor of what lies at a path.

    Args:
        path: an export directory or one version of it; a model directory of training, whose
            best checkpoint is taken; or a `.keras` file.

    Raises:
        UserError: nothing of that kind lies there, or it does not know its frames and classes.
    """
    path = as_path(path)
    with reached(path):
        return _open_predictor(path)


def _open_predictor(path: Path | RemotePath) -> VideoPredictor:
    if path.suffix == ".keras" and path.is_file():
        with local_copy(path) as file:
            return ModelPredictor(_load_keras_file(file))
    if path.suffix in _WEIGHTS_SUFFIXES and path.is_file():
        raise UserError(
            f"{path} holds weights alone; name their model: mvit predict --model NAME "
            f"--weights {path} VIDEO"
        )
    if (path / "experiment.yaml").is_file():
        return _trained_predictor(path)
    return SavedModelPredictor(path)


def _trained_predictor(path: Path | RemotePath) -> ModelPredictor:
    from mvit_tf.training.experiment import load_experiment
    from mvit_tf.training.model_directory import ModelDirectory
    from mvit_tf.training.trained_model import load_trained_model

    directory = ModelDirectory(path)
    experiment = load_experiment(directory.saved_experiment())
    model, _ = load_trained_model(experiment, directory)
    return ModelPredictor(
        model,
        num_clips=experiment.data.evaluation_clips,
        ensemble_method=experiment.data.ensemble_method,
    )


def _load_keras_file(path: Path) -> keras.Model:
    # Keras says "file not found" of what is no archive.
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path} is cut short or no Keras model")
    try:
        return keras.saving.load_model(path, compile=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = (str(error).strip().splitlines() or ["unreadable"])[0]
        raise UserError(f"{path} cannot be loaded as a Keras model: {reason}") from error
