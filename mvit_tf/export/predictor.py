"""Predicting on video files, from whatever holds a model that knows its frames and classes."""

import contextlib
import itertools
import os
import threading
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from mvit_tf.data.clips import clip_parts, evaluation_frames, gather_frames, whole_clips
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.data.transforms import evaluation_preprocess, temporal_subsample
from mvit_tf.data.video.decode_workers import DecodeWorkers, in_this_process
from mvit_tf.errors import UserError
from mvit_tf.export import requests
from mvit_tf.export.formats.artefact import find_artefact
from mvit_tf.export.metadata import ExportMetadata, find_version, load_metadata, model_metadata
from mvit_tf.export.signatures import CROPPED, FEATURES, SIGNATURE
from mvit_tf.files import local_copy
from mvit_tf.presets_hub import is_hub_handle
from mvit_tf.remote_path import RemotePath, as_path, reached

_WEIGHTS_SUFFIXES = (".h5", ".pth", ".pyth", ".pt", ".safetensors")
# The layer of `VideoPredictor.clip_features` that the head reads.
POOLED = "pooled"


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
    """What all predictors share; a subclass turns clips into probabilities.

    Clips and what becomes of them are those of evaluation with centre crops: `metadata.num_clips`
    clips evenly along the video, the mean (or maximum) of their probabilities.

    Videos may be predicted in several threads: they decode side by side, and the model is called
    by one at a time.

    Args:
        metadata: frames and classes of the model.

    Attributes:
        batch_size: clips of a video in one call of the model, at most; 1 by default.
    """

    batch_size = 1

    def __init__(self, metadata: ExportMetadata):
        self.metadata = metadata
        self._turn = threading.Lock()

    def predict_frames(self, frames: np.ndarray) -> np.ndarray:
        """The probabilities of clips in memory.

        Args:
            frames: uint8 (B, T, H, W, 3), RGB, of any size; T frames of one clip each, of which
                as many as the model takes are picked evenly if they are more or fewer.

        Returns:
            float32 (B, K), in the order of `metadata.class_names`.

        Raises:
            UserError: other frames, or frames that the export refuses.
        """
        frames = np.asarray(frames)
        if frames.dtype != np.uint8 or frames.ndim != 5 or frames.shape[-1] != 3 or not frames.size:
            raise UserError(
                f"frames of shape {frames.shape} and type {frames.dtype}: clips are uint8 arrays "
                "(B, T, H, W, 3), RGB, with at least one frame and pixel"
            )
        if frames.shape[1] != self.metadata.sampling.num_frames:
            frames = temporal_subsample(frames, self.metadata.sampling.num_frames).numpy()
        return self.predict_prepared(self.prepare(frames))

    def prepare(self, frames: np.ndarray) -> np.ndarray:
        """What is kept of frames until their clip is whole: as they are, or preprocessed.

        Args:
            frames: uint8 (..., H, W, 3), RGB.

        Returns:
            array (..., h, w, 3), for `predict_prepared` and `clip_features`.
        """
        return frames

    def predict_prepared(self, clips: np.ndarray) -> np.ndarray:
        """Clips (B, T, h, w, 3) of frames from `prepare` -> float32 (B, K); for any thread."""
        with self._turn:
            return self._probabilities(clips)

    def clip_features(self, clips: np.ndarray, layer: str = POOLED) -> np.ndarray:
        """The embeddings of clips.

        Args:
            clips: (B, T, h, w, 3) of frames from `prepare`.
            layer: "pooled", what the head reads; or "stage_1", "stage_2", ..., the mean over the
                token grid after that stage's last block.

        Returns:
            float32 (B, C).

        Raises:
            UserError: no such layer, or this kind of model gives none.
        """
        with self._turn:
            return _flat_features(self._features(clips, layer))

    def prepared_clips(
        self, path: str | os.PathLike, *, segment=None, workers: DecodeWorkers | None = None
    ) -> contextlib.closing:
        """Context with the clips of a video, decoded as they are asked for.

        Args:
            path, segment, workers: see `predict_video`.

        Returns:
            context with an iterator of arrays (T, h, w, 3), for `predict_prepared` and
            `clip_features`.
        """
        run = in_this_process if workers is None else workers.run
        decoded = run(
            self._decoder, os.fspath(path), self.metadata.sampling, self.metadata.num_clips, segment
        )
        # Closed whatever happens: a worker is held until then.
        return contextlib.closing(self._closing_clips(decoded))

    def _closing_clips(self, decoded):
        with contextlib.closing(decoded):
            # By `map` rather than a loop, no clip is held while the next one is decoded.
            yield from map(np.asarray, self._clips(decoded))

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
        self, path: str | os.PathLike, *, segment=None, workers: DecodeWorkers | None = None
    ) -> np.ndarray:
        """Decodes a video's clips and puts their probabilities together.

        Args:
            path, workers: see `predict_videos`.
            segment: optional (start, end) in seconds of the part of the video to look at.

        Returns:
            float32 (K,), in the order of `metadata.class_names`.

        Raises:
            DecodeError: the video cannot be decoded.
        """
        combine = np.max if self.metadata.ensemble_method == "max" else np.mean
        with self.prepared_clips(path, segment=segment, workers=workers) as clips:
            return combine(
                np.concatenate(list(map(self.predict_prepared, self._batches(clips)))), 0
            )

    def _batches(self, clips):
        """Clips stacked, `batch_size` at most."""
        if self.batch_size == 1:
            return map(lambda clip: clip[np.newaxis], clips)
        groups = iter(lambda: list(itertools.islice(clips, self.batch_size)), [])
        return map(np.stack, groups)

    @staticmethod
    def _decoder(path: str, sampling: ClipSampling, num_clips: int, segment=None) -> Iterable:
        """The generator function that decodes; a function of `mvit_tf.data.clips`."""
        raise NotImplementedError

    def _clips(self, decoded: Iterable) -> Iterable[np.ndarray]:
        """The clips that `_decoder` gives, each as `_probabilities` takes it."""
        raise NotImplementedError

    def _probabilities(self, frames: np.ndarray) -> np.ndarray:
        """Clips (B, T, ...) -> float32 (B, K)."""
        raise NotImplementedError

    def _features(self, clips: np.ndarray, layer: str) -> np.ndarray:
        """Clips (B, T, ...) -> (B, C), or a map (B, ..., C)."""
        raise UserError(
            f"{self.metadata.model_name}: this kind of model gives probabilities alone; take "
            "features from the model directory, the .keras file or the SavedModel"
        )


class PreparingPredictor(VideoPredictor):
    """Of models that take clips as they are after preprocessing."""

    _decoder = staticmethod(evaluation_frames)

    def _clips(self, decoded):
        # The frames are shrunk as they come: those of all clips would fill the memory.
        frames, facts = gather_frames(decoded, lambda frames, _: self.prepare(frames))
        return (frames[picks] for picks in facts.picks)

    def prepare(self, frames):
        return evaluation_preprocess(frames, self.metadata.preprocessing).numpy()


class ModelPredictor(PreparingPredictor):
    """Predicts with a model in memory.

    Args:
        model: an `MViT` with `preprocessing`, `sampling` and `class_names`.
        num_clips: clips of each video; by default five, one for the sampling rule "segments".
        ensemble_method: what their probabilities become, "mean" or "max".

    Attributes:
        model: that.

    Raises:
        UserError: the model lacks one of them.
    """

    def __init__(
        self, model: keras.Model, *, num_clips: int | None = None, ensemble_method: str = "mean"
    ):
        super().__init__(model_metadata(model, num_clips, ensemble_method))
        self.model = model
        self._extractors = {}
        self._activation = tf.nn.sigmoid if self.metadata.multi_label else tf.nn.softmax

    def _probabilities(self, frames):
        logits = self._call(self.model, frames)
        return self._activation(keras.ops.convert_to_numpy(logits)).numpy()

    def _features(self, clips, layer):
        if layer not in self._extractors:
            self._extractors[layer] = self._extractor(layer)
        return keras.ops.convert_to_numpy(self._call(self._extractors[layer], clips))

    def _call(self, model, frames):
        frames = frames[:, 0] if self.metadata.image else frames
        return model(keras.ops.convert_to_tensor(frames), training=False)

    def _extractor(self, layer):
        if layer == POOLED:
            return keras.Model(self.model.input, self.model.get_layer("head").input)
        maps = self.model.feature_extractor()
        if layer not in maps.output:
            raise _unknown_layer(layer, maps.output)
        return keras.Model(maps.input, maps.output[layer])


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
        # With several crops in the graph, a clip is predicted by all of them.
        cropped = self.metadata.views_in_graph and self.metadata.num_crops > 1
        self._serve = self._loaded.signatures[CROPPED if cropped else SIGNATURE]

    _decoder = staticmethod(clip_parts)

    def _clips(self, decoded):
        return whole_clips(decoded)

    def _probabilities(self, frames):
        # What the graph takes in one request; a clip that is more alone is refused by it.
        most = max(requests.MAX_REQUEST_BYTES // max(frames[:1].nbytes, 1), 1)
        parts = [frames[start : start + most] for start in range(0, len(frames), most)]
        answers = [self._answer(self._serve, part)["probabilities"].numpy() for part in parts]
        return np.concatenate(answers)

    def _features(self, clips, layer):
        signature = self._loaded.signatures.get(FEATURES)
        if signature is None:
            raise UserError(
                f"{self.directory} has no signature {FEATURES!r}: export the model again, or take "
                "features from its model directory or .keras file"
            )
        answer = self._answer(signature, clips)
        if layer not in answer:
            raise _unknown_layer(layer, answer)
        return answer[layer].numpy()

    def _answer(self, signature, frames):
        try:
            if self.metadata.image:
                return signature(images=tf.constant(frames[:, 0]))
            return signature(frames=tf.constant(frames))
        except tf.errors.InvalidArgumentError as error:
            raise UserError(f"the export refuses these frames: {_refusal(error)}") from None


def _refusal(error):
    """What `requests.require` said, in one line, without TensorFlow's words around it."""
    *_, said = str(error.message).split("assertion failed: ")
    return (said.strip().splitlines() or ["without a reason"])[0]


def _unknown_layer(layer, known):
    known = sorted({POOLED, *(name for name in known if name.startswith("stage_"))})
    return UserError(f"no layer {layer!r} to take features from: give one of {', '.join(known)}")


def _flat_features(features):
    """(B, ..., C) -> float32 (B, C), the mean over what lies between."""
    features = np.asarray(features, np.float32)
    return features.mean(axis=tuple(range(1, features.ndim - 1)))


def open_predictor(path: str | os.PathLike) -> VideoPredictor:
    """The predictor of what lies at a path.

    Args:
        path: an export directory or one version of it; a model directory of training, whose
            best checkpoint is taken; a `.keras` file; a preset, also one of the hub,
            "hf://user/name"; or an export for LiteRT, ONNX Runtime or OpenVINO, a folder or the
            model's file in it.

    Raises:
        UserError: nothing of that kind lies there, or it does not know its frames and classes.
    """
    if is_hub_handle(path):
        return ModelPredictor(load_keras_model(path))
    path = as_path(path)
    with reached(path):
        return _open_predictor(path)


def load_keras_model(path: str | os.PathLike) -> keras.Model:
    """The Keras model of a `.keras` file or a preset, also one of the hub, "hf://user/name".

    Raises:
        UserError: neither lies there, or it cannot be loaded.
    """
    if is_hub_handle(path):
        return _load_preset(path)
    path = as_path(path)
    with reached(path):
        model = _find_keras_model(path)
    if model is None:
        raise UserError(f"{path}: no .keras file and no preset")
    return model


def _find_keras_model(path: Path | RemotePath) -> keras.Model | None:
    """The model of a `.keras` file or of a preset; None of what is neither."""
    if path.suffix == ".keras" and path.is_file():
        with local_copy(path) as file:
            return _load_keras_file(file)
    return _load_preset(path) if (path / "model.weights.h5").is_file() else None


def _load_preset(preset: str | os.PathLike | RemotePath) -> keras.Model:
    from mvit_tf.presets import from_preset

    return from_preset(preset)


def _open_predictor(path: Path | RemotePath) -> VideoPredictor:
    if path.suffix in _WEIGHTS_SUFFIXES and path.is_file():
        raise UserError(
            f"{path} holds weights alone; name their model: mvit predict --model NAME "
            f"--weights {path} VIDEO"
        )
    if (path / "experiment.yaml").is_file():
        return _trained_predictor(path)
    if (model := _find_keras_model(path)) is not None:
        return ModelPredictor(model)
    if (folder := find_artefact(path)) is not None:
        from mvit_tf.export.formats.predictor import FormatPredictor

        return FormatPredictor(folder)
    return SavedModelPredictor(path)


def _trained_predictor(path: Path | RemotePath) -> ModelPredictor:
    from mvit_tf.training.experiments.experiment import load_experiment
    from mvit_tf.training.storage.model_directory import ModelDirectory
    from mvit_tf.training.storage.trained_model import load_trained_model

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
