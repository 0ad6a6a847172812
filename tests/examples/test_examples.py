"""The examples, run as a reader would, on small videos."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import mvit_tf
from tests.training.tiny import write_videos

ROOT = Path(__file__).parents[2]
SMALL = ["--model=mvit_s_16x4", "--frames=4", "--size=32", "--depths", "1", "1"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_videos(tmp_path_factory.mktemp("videos"), videos_per_class=3)


def load_example(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Runs the example and keeps what its model says to some frames.
ON_JAX = """
import json, runpy, sys
import numpy as np
folder, *flags = sys.argv[1:]
example = runpy.run_path("examples/jax_training.py")
model, history = example["main"](flags)
import keras
frames = np.load(folder + "/frames.npy")
logits = model.predict(frames, verbose=0)
np.save(folder + "/logits.npy", logits)
print("RESULT" + json.dumps([keras.backend.backend(), history.history]))
"""


@pytest.mark.compare
def test_a_model_trained_on_jax_is_the_same_on_tensorflow(tmp_path, videos):
    frames = np.random.default_rng(0).standard_normal((3, 4, 32, 32, 3)).astype("float32")
    np.save(tmp_path / "frames.npy", frames)
    weights = tmp_path / "trained.weights.h5"
    flags = [*SMALL, "--epochs=6", "--batch_size=8", "--learning_rate=3e-3"]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", ON_JAX, str(tmp_path), str(videos), str(weights), *flags],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    backend, history = json.loads(done.stdout.split("RESULT")[-1])
    assert backend == "jax"
    assert len(history["loss"]) == 6 and history["loss"][-1] < history["loss"][0] - 0.05

    assert keras.backend.backend() == "tensorflow"
    config = mvit_tf.get_config("mvit_s_16x4").replace(
        num_classes=8, input_shape=(4, 32, 32, 3), depths=(1, 1)
    )
    model = mvit_tf.MViT(config)
    before = model.predict(frames, verbose=0)
    model.load_weights(weights)
    logits = np.load(tmp_path / "logits.npy")
    np.testing.assert_allclose(model.predict(frames, verbose=0), logits, rtol=0, atol=1e-4)
    assert np.abs(before - logits).max() > 0.05


def test_keras_own_fit(tmp_path, videos):
    output = tmp_path / "trained.keras"
    flags = [*SMALL, "--epochs=2", "--batch_size=8", "--learning_rate=3e-3"]
    history = load_example("keras_fit").main([str(videos), str(output), *flags]).history
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert len(history["loss"]) == 2 and np.isfinite(history["val_loss"]).all()
    model = keras.models.load_model(output)
    (said,) = model.predict_videos([next(videos.glob("up/*.mp4"))])
    assert len(said.top(8)) == 8 and {name for name, _ in said.top(8)} == set(model.class_names)
    assert sum(share for _, share in said.top(8)) == pytest.approx(1, abs=1e-4)
