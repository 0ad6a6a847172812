"""Trains a small MViT from nothing and uses it, in one command.

Makes videos of shapes that move in one of eight directions, trains on them, evaluates on held-out
ones, in order and with the frames of every clip shuffled, draws the training curves and the
confusion matrix, exports a SavedModel, and predicts a few held-out videos with it.
Stopped and started again, it goes on where it was.
"""

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path

from mvit_tf.cli.configs import find_config
from mvit_tf.console import progress
from mvit_tf.prediction.output import format_prediction

NAME = "demo"
SUMMARY = "make videos, train, evaluate, export and predict, to see everything work"

# Videos of each of the eight directions. The best checkpoint is chosen by `validation`, so the
# score that is reported comes from videos that had no part in anything: `held_out`.
VIDEOS_PER_CLASS = {"train": 96, "validation": 6, "held_out": 16}
_PREDICTED_VIDEOS = 4
_CLASSES_SHOWN = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        default="demo_run",
        help="where everything is written (default: demo_run)",
    )


def run(arguments: argparse.Namespace) -> None:
    run_demo(Path(arguments.output), find_config("demo"))


def run_demo(
    output: Path, config_file: Path, videos_per_class: Mapping[str, int] = VIDEOS_PER_CLASS
) -> None:
    """Runs every stage and prints what it does.

    Args:
        output: folder for the videos and the model directory.
        config_file: the experiment; its videos are replaced by those made here.
        videos_per_class: videos to make of each direction, for each of the three splits.

    Raises:
        UserError: `output` holds another experiment.
    """
    from mvit_tf.data.moving_shapes import write_moving_shapes
    from mvit_tf.export.predictor import SavedModelPredictor
    from mvit_tf.training import trainer
    from mvit_tf.training.evaluation import scoring
    from mvit_tf.training.experiments.experiment import load_experiment
    from mvit_tf.training.storage.model_directory import ModelDirectory

    started = time.monotonic()
    videos = {split: output / "videos" / split for split in videos_per_class}
    directory = ModelDirectory(output / "model")

    def experiment(validation: Path, **data):
        data = {"train": str(videos["train"]), "validation": str(validation), **data}
        overrides = {"data": data, "train": {"devices": 1}}
        return load_experiment(config_file, json.dumps(overrides))

    _headline("Making videos")
    for seed, (split, count) in enumerate(videos_per_class.items()):
        with progress(f"{split} videos") as show:
            write_moving_shapes(videos[split], videos_per_class=count, seed=seed, progress=show)
    print(f"{output / 'videos'}: {', '.join(videos)}")

    _headline("Training")
    trainer.train(experiment(videos["validation"]), directory)

    _headline("Evaluating on held-out videos")
    in_order = scoring.evaluate(experiment(videos["held_out"]), directory)

    _headline("Evaluating the same model on shuffled frames")
    shuffled = scoring.evaluate(experiment(videos["held_out"], shuffle_frames=True), directory)

    _headline("Exporting")
    version = trainer.export(experiment(videos["held_out"]), directory)

    _headline("Predicting held-out videos from the SavedModel")
    predictor = SavedModelPredictor(version)
    for video in _first_of_each_class(videos["held_out"])[:_PREDICTED_VIDEOS]:
        probabilities = predictor.predict_video(video)
        ranked = sorted(
            zip(predictor.metadata.class_names, map(float, probabilities), strict=True),
            key=lambda pair: -pair[1],
        )
        print(format_prediction(str(video), ranked[:_CLASSES_SHOWN]))

    _headline("Done")
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    results = {
        "held-out videos": f"top-1 {in_order.top1_of_all:.1%} of {in_order.num_videos}, "
        f"with shuffled frames {shuffled.top1_of_all:.1%}",
        "videos": output / "videos",
        "training curves": directory.plots / "training_curves.png",
        "confusion matrix": directory.plots / "confusion_matrix.png",
        "scores": directory.evaluation_file(shuffled=False),
        "TensorBoard": directory.tensorboard,
        "SavedModel": version,
        "predict": f"mvit predict {directory.export} VIDEO...",
        "time": f"{minutes} min {seconds:02} s",
    }
    for name, result in results.items():
        print(f"{name:17}{result}")


def _first_of_each_class(root: Path) -> list[Path]:
    return [min(folder.iterdir()) for folder in sorted(root.iterdir())]


def _headline(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}", flush=True)
