"""What version 0.1.0 wrote still loads; see tests/version_0_1_0/make.py."""

import gzip
from pathlib import Path

import keras
import numpy as np
import pytest

import mvit_tf

FOLDER = Path(__file__).parents[1] / "version_0_1_0"
NAMES = ["mvit_s_16x4", "mvitv2_s_16x4"]


@pytest.mark.parametrize("name", NAMES)
def test_keras_files_load_and_compute_the_same(name, tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(gzip.decompress((FOLDER / f"{name}.keras.gz").read_bytes()))
    model = keras.models.load_model(path, compile=False)
    frames = np.random.default_rng(0).normal(size=(2, 4, 32, 32, 3)).astype(np.float32)
    expected = np.load(FOLDER / f"{name}.npy")
    np.testing.assert_allclose(model(frames), expected, rtol=0, atol=1e-6)
    # It has no config: the way on is a model of today with the same weights.
    with pytest.raises(mvit_tf.UserError, match="convert into such a model"):
        mvit_tf.to_pytorch_state_dict(model)
