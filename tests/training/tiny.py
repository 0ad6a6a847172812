"""A tiny experiment on real H.264 files, and tiny models, for the tests of training."""

import h5py
import keras

from mvit_tf.data.moving_shapes import MovingShapes, write_moving_shapes
from mvit_tf.models import build_mvit, get_config

CONFIG = """\
model:
  name: mvit_s_16x4
  input_shape: [4, 32, 32, 3]
  overrides: {{depths: [1, 1], embed_dim: 16, drop_path_rate: 0.3}}
data:
  train: {videos}
  validation_fraction: 0.25
  sampling_rate: 2
  short_side: 36
  evaluation_clips: 2
train: {{epochs: 4, batch_size: 8, learning_rate: 1e-3, warmup_epochs: 1}}
"""


def write_videos(root, *, videos_per_class=4, seed=0):
    """Eight class folders of 24-frame 48x48 videos; returns the folder."""
    shapes = MovingShapes(num_frames=24, height=48, width=48)
    write_moving_shapes(root, videos_per_class=videos_per_class, seed=seed, shapes=shapes)
    return root


def write_config(path, videos):
    """Writes the tiny experiment on these videos; returns the path."""
    path.write_text(CONFIG.format(videos=videos))
    return path


def tiny_model(*, name="mvit_s_16x4", num_classes=3, seed=0, **fields):
    """An uncompiled model on clips (4, 32, 32, 3), with stochastic depth and dropout."""
    keras.utils.set_random_seed(seed)
    fields = {"depths": (1, 1), "embed_dim": 16, "drop_path_rate": 0.3, **fields}
    config = get_config(name).replace(input_shape=(4, 32, 32, 3), num_classes=num_classes, **fields)
    return build_mvit(config)


def newest_checkpoint(directory):
    """The path of the newest checkpoint of a model directory."""
    return max((directory / "checkpoints").glob("step-*.weights.h5"))


def arrays(path):
    """Every array of a checkpoint: weights, optimizer, random generators, metrics."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, node: (
                found.update({name: node[()]}) if isinstance(node, h5py.Dataset) else None
            )
        )
    return found
