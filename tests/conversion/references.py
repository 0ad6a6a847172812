"""Small models of the PyTorch implementations, stored by `tests/make_references.py`."""

import json
import warnings
from pathlib import Path

import numpy as np

import mvit_tf

FOLDER = Path(__file__).parent.parent / "references"
NAMES = sorted(path.stem for path in FOLDER.glob("*.npz") if path.with_suffix(".pth").exists())


def weights_path(name):
    return FOLDER / f"{name}.pth"


def arrays(name):
    """The stored arrays: frames as float32, `config` a MViTConfig."""
    with np.load(FOLDER / f"{name}.npz") as stored:
        values = dict(stored)
    with warnings.catch_warnings():
        # Written with the field names of version 0.1.
        warnings.simplefilter("ignore", FutureWarning)
        values["config"] = mvit_tf.MViTConfig(**json.loads(str(values["config"])))
    values["frames"] = values["frames"].astype(np.float32)
    return values


def build(name, **fields):
    """A fresh Keras model of a reference's config."""
    return mvit_tf.build_mvit(arrays(name)["config"].replace(**fields))


def gradient_error(gradient, expected, largest):
    """Largest difference over the variable's largest gradient.

    Some gradients are zero on paper, and float noise in both implementations: the shift of
    pooled keys moves all scores of a query alike. Hence the floor, by the model's `largest`.
    """
    scale = max(np.abs(expected).max(), 1e-3 * largest)
    return np.abs(np.asarray(gradient) - expected).max() / scale


def relative_error(values, expected):
    return np.abs(np.asarray(values) - expected).max() / np.abs(expected).max()
