"""What stands for the scan along a video and for the explanation of a model in the tests."""

import sys
import types

import numpy as np
from PIL import Image

from mvit_tf.data.video.decoding import DecodeError


def module(name, **contents):
    made = types.ModuleType(name)
    vars(made).update(contents)
    return made


def stand_in(patch, *, scan_error=None):
    """Puts them into `sys.modules`; returns a list of what they are called with."""
    calls = []

    def scan_video(predictor, path, *, stride=None, threshold=0.5, workers=None, on_progress=None):
        calls.append(("scan", path))
        if scan_error:
            raise DecodeError(path, "decode_error", scan_error)
        return "scanned"

    def plot_timeline(scan, file):
        assert scan == "scanned"
        Image.new("RGB", (600, 150), "steelblue").save(file)

    def explain_clip(model, frames, *, method="relevance", class_index=None):
        calls.append(("explain", model, frames.shape))
        return frames

    def heat_grid(explanation):
        return Image.fromarray(np.concatenate(list(explanation), axis=1))

    for made in (
        module("mvit_tf.prediction"),
        module("mvit_tf.prediction.scan", scan_video=scan_video),
        module("mvit_tf.prediction.timeline", plot_timeline=plot_timeline),
        module("mvit_tf.explain", explain_clip=explain_clip),
        module("mvit_tf.explain.overlays", heat_grid=heat_grid),
    ):
        patch.setitem(sys.modules, made.__name__, made)
    return calls
