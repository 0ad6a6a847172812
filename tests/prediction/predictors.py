"""Predictors without a model, that say what is in the frames, and videos for them."""

import time

import numpy as np

from mvit_tf.data.clips import clip_parts, whole_clips
from mvit_tf.data.preprocessing import Preprocessing
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.export.metadata import ExportMetadata
from mvit_tf.export.predictor import VideoPredictor
from tests.data.videos import read_numbers, write_video

COLOURS = ("red", "green", "blue")
SAMPLING = ClipSampling(num_frames=8, sampling_rate=4)


def metadata(sampling=SAMPLING, **fields):
    preprocessing = Preprocessing(size=(32, 32), short_side=36)
    fields = {"num_clips": 2, **fields}
    return ExportMetadata("colours", COLOURS, preprocessing, sampling, **fields)


class ColourPredictor(VideoPredictor):
    """The share of each colour in a clip; takes `seconds` for a call."""

    _decoder = staticmethod(clip_parts)

    def __init__(self, seconds=0.0, **fields):
        super().__init__(metadata(**fields))
        self._seconds = seconds

    def _clips(self, decoded):
        return whole_clips(decoded)

    def _probabilities(self, frames):
        time.sleep(self._seconds)
        sums = frames.reshape(len(frames), -1, 3).sum(axis=1, dtype=np.float64) + 1e-9
        return (sums / sums.sum(axis=1, keepdims=True)).astype(np.float32)

    def _features(self, clips, layer):
        return self._probabilities(clips)


class NumberPredictor(ColourPredictor):
    """Notes the numbers that `numbered_frame` wrote into the frames of each clip."""

    def __init__(self, **fields):
        super().__init__(**fields)
        self.numbers = []

    def _probabilities(self, frames):
        self.numbers += read_numbers(frames).tolist()
        return super()._probabilities(frames)


def coloured(colour, height=48, width=64):
    """uint8 (height, width, 3) almost all of one colour."""
    frame = np.full((height, width, 3), 8, np.uint8)
    frame[..., COLOURS.index(colour)] = 230
    return frame


def write_coloured(path, *parts, **options):
    """A video of (colour, number of frames), one after the other."""
    size = {name: options.pop(name) for name in ("height", "width") if name in options}
    frames = [coloured(colour, **size) for colour, count in parts for _ in range(count)]
    return str(write_video(path, frames, **options))
