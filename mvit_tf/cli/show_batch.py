"""Draws the first training batch of an experiment, as the model will see it.

  mvit show-batch finetune --params_override=data.train=VIDEOS,data.mixup_alpha=0.8

A row is a clip, or an image, after cropping, augmentation and mixing, with its labels; noise of
random erasing is cut off at black and white.
"""

import argparse

from mvit_tf.cli.configs import find_config
from mvit_tf.errors import UserError
from mvit_tf.remote_path import as_path

NAME = "show-batch"
SUMMARY = "draw the first training batch of an experiment, as the model will see it"

_MAX_CLIPS = 12
# Labels that weigh less are left out: those of a mixed clip are two.
_LEAST_WEIGHT = 0.005


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "experiment",
        metavar="EXPERIMENT",
        help="a YAML file, or the name of an experiment of the package, for example finetune",
    )
    parser.add_argument(
        "--params_override",
        metavar="KEYS",
        default="",
        help="as for `mvit train`: 'data.train=/videos,data.rand_augment=rand-m7-n4-inc1'",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        default="batch.png",
        help="the PNG picture to write (default: batch.png)",
    )


def run(arguments: argparse.Namespace) -> None:
    output = as_path(arguments.output)
    if output.suffix.lower() != ".png":
        raise UserError(f"--output={output}: the name of the picture must end in .png")

    from mvit_tf.analysis.plots import plot_clips
    from mvit_tf.data.transforms import denormalise
    from mvit_tf.training.experiments.clips import first_training_batch, with_time
    from mvit_tf.training.experiments.experiment import load_experiment

    experiment = load_experiment(find_config(arguments.experiment), arguments.params_override)
    clips, labels, class_names = first_training_batch(experiment)
    shown = with_time(experiment, clips[:_MAX_CLIPS])
    pixels = denormalise(shown, experiment.preprocessing())
    rows = [format_label(row, class_names) for row in labels[:_MAX_CLIPS]]
    try:
        plot_clips(pixels, rows, output)
    except OSError as error:
        raise UserError(f"--output={output} cannot be written: {error.strerror}") from error
    what = "images" if experiment.images else "clips"
    print(f"{output}: {len(rows)} of {len(clips)} {what} of the first batch")


def format_label(weights, class_names) -> str:
    """The classes of a clip, the heaviest first.

    Args:
        weights: (K,) array, one-hot, multi-hot, or mixed of such.
        class_names: the K names.

    Returns:
        A line for each class: "left"; in mixed clips "0.70 left", "0.30 up". Or "no label".
    """
    order = [index for index in weights.argsort()[::-1] if weights[index] >= _LEAST_WEIGHT]
    if not order:
        return "no label"
    if all(weights[index] > 1 - _LEAST_WEIGHT for index in order):
        return "\n".join(class_names[index] for index in order)
    return "\n".join(f"{weights[index]:.2f} {class_names[index]}" for index in order)
