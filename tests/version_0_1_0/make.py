"""What version 0.1.0 wrote: checkpoints, `.keras` files and the logits of their models.

Ran once, with that version (commit 3a07cf3) in place of this one: `python make.py`. Later
versions must read the files, so they are not made again. `frames` are what the logits are of.
"""

import gzip
import tempfile
from pathlib import Path

import keras
import numpy as np

from mvit_tf.models import build_mvit, get_config
from mvit_tf.training.optimization.optimizer import ReplicaAdamW
from mvit_tf.training.storage.checkpoints import CheckpointStore, Progress

FOLDER = Path(__file__).parent
FIELDS = {"num_classes": 3, "depths": (1, 1), "embed_dim": 4, "drop_path_rate": 0.3}


def main():
    frames = np.random.default_rng(0).normal(size=(2, 4, 32, 32, 3)).astype("float32")
    for name in ("mvit_s_16x4", "mvitv2_s_16x4"):
        keras.utils.set_random_seed(7)
        config = get_config(name).replace(input_size=(4, 32, 32), **FIELDS)
        model = build_mvit(config, name=name)
        optimizer = ReplicaAdamW(1e-2)
        optimizer.build(model.trainable_variables)
        model.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True))
        model.train_on_batch(frames, np.eye(3, dtype="float32")[:2])
        plain = build_mvit(config, name=name)
        plain.set_weights(model.get_weights())
        np.save(FOLDER / f"{name}.npy", plain.predict(frames, verbose=0))
        with tempfile.TemporaryDirectory() as folder:
            store = CheckpointStore(folder)
            store.save(model, Progress(1, 1, 0.5, 1.0))
            keep(store.path("last"), f"{name}.weights.h5.gz")
            plain.save(f"{folder}/model.keras")
            keep(Path(folder, "model.keras"), f"{name}.keras.gz")


def keep(path, name):
    (FOLDER / name).write_bytes(gzip.compress(path.read_bytes(), mtime=0))


if __name__ == "__main__":
    main()
