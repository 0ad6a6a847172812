"""Makes the weights that `small_data` starts from: a small MViTv2 that knows motion.

    python examples/motion_pretraining.py FOLDER

makes videos of moving shapes in FOLDER/videos, trains on them what configs/moving_shapes.yaml says,
in FOLDER/model, and writes FOLDER/small_data.weights.h5, which is what the package brings as
configs/small_data.weights.h5. Stopped, the same command goes on.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mvit_tf.data.moving_shapes import MovingShapes, write_moving_shapes
from mvit_tf.training import trainer
from mvit_tf.training.experiments.experiment import load_experiment
from mvit_tf.training.experiments.files import package_configs
from mvit_tf.training.storage.model_directory import ModelDirectory
from mvit_tf.training.storage.trained_model import load_trained_model
from mvit_tf.weights_file import save_weights_file

# More shapes of more sizes and speeds than in the demo.
SHAPES = MovingShapes(height=72, width=72, num_shapes=6, radius=(3, 10), speed=(0.8, 4.0))
SEEDS = {"train": 1, "validation": 2}


def main(arguments: Sequence[str] | None = None) -> Path:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where everything is written")
    parser.add_argument("--videos_per_class", type=int, default=60)
    parser.add_argument("--params_override", default="", help="as of train.py")
    flags = parser.parse_args(arguments)
    videos = {split: flags.folder / "videos" / split for split in SEEDS}
    counts = {"train": flags.videos_per_class, "validation": max(flags.videos_per_class // 7, 1)}
    for split, seed in SEEDS.items():
        if not videos[split].is_dir():
            write_moving_shapes(
                videos[split], videos_per_class=counts[split], seed=seed, shapes=SHAPES
            )
    sources = ",".join(f"data.{split}={folder}" for split, folder in videos.items())
    trainer.run(
        mode="train",
        model_dir=flags.folder / "model",
        config_file=package_configs()["moving_shapes"],
        overrides=",".join(filter(None, (sources, flags.params_override))),
    )
    directory = ModelDirectory(flags.folder / "model")
    model, _ = load_trained_model(load_experiment(directory.saved_experiment()), directory)
    weights = flags.folder / "small_data.weights.h5"
    save_weights_file(model, weights, optimizer=False)
    print(f"{weights}: {model.count_params():,} parameters")
    return weights


if __name__ == "__main__":
    main()
