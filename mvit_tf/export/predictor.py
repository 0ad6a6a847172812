"""Predicting on video files from an exported SavedModel alone."""

import os

import numpy as np
import tensorflow as tf

from mvit_tf.data.pipeline import decode_clips
from mvit_tf.export.metadata import find_version, load_metadata
from mvit_tf.export.saved_model import SIGNATURE


class SavedModelPredictor:
    """A loaded export that turns a video file into class probabilities.

    Clips and their averaging are those of evaluation with centre crops: the export's number of
    clips evenly along the video, the mean of their probabilities.

    Args:
        path: an export directory (its highest version is taken) or a version's directory.

    Attributes:
        directory: the version's directory.
        metadata: its `ExportMetadata`.

    Raises:
        UserError: there is no export of this project at the path.
    """

    def __init__(self, path: str | os.PathLike):
        self.directory = find_version(path)
        self.metadata = load_metadata(self.directory)
        # Held because the signature's variables live only as long as the loaded object.
        self._loaded = tf.saved_model.load(str(self.directory))
        self._serve = self._loaded.signatures[SIGNATURE]

    def predict_video(self, path: str | os.PathLike) -> np.ndarray:
        """Decodes a video's clips and averages their probabilities.

        Returns:
            float32 (K,), in the order of `metadata.class_names`.

        Raises:
            DecodeError: the video cannot be decoded.
        """
        clips = decode_clips(path, self.metadata.sampling, self.metadata.num_clips)
        # Clip by clip: the graph turns full-size frames into floats before it shrinks them.
        rows = [self._serve(frames=tf.constant(clip[np.newaxis])) for clip in clips]
        return np.mean([row["probabilities"].numpy()[0] for row in rows], axis=0)
