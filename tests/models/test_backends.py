"""The same numbers on Keras' JAX and PyTorch backends, with no TensorFlow installed."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import mvit_tf

RUN = """
import sys
sys.modules["tensorflow"] = None  # as if it were not installed
import numpy as np
import mvit_tf
from mvit_tf.analysis.describe import describe
name, folder = sys.argv[1:]
model = mvit_tf.create_model(name, weights=folder + "/model.weights.h5")
frames = np.load(folder + "/frames.npy")
np.save(folder + "/logits.npy", model.predict(frames, verbose=0))
assert name in describe(name)
"""


@pytest.mark.compare
@pytest.mark.parametrize("backend", ["jax", "torch"])
@pytest.mark.parametrize("name", ["mvit_b_16x4", "mvitv2_s_16x4"])
def test_full_size_logits_agree(name, backend, tmp_path):
    keras.utils.set_random_seed(0)
    model = mvit_tf.create_model(name)
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign_add(0.02 * rng.standard_normal(weight.shape))
    frames = rng.standard_normal((1, 16, 224, 224, 3)).astype(np.float32)
    expected = np.asarray(model(frames, training=False))
    model.save_weights(tmp_path / "model.weights.h5")
    np.save(tmp_path / "frames.npy", frames)
    subprocess.run(
        [sys.executable, "-c", RUN, name, str(tmp_path)],
        check=True,
        env={**os.environ, "KERAS_BACKEND": backend},
        timeout=600,
    )
    logits = np.load(tmp_path / "logits.npy")
    assert np.abs(logits - expected).max() / np.abs(expected).max() < 1e-5
