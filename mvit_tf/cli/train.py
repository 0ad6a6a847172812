"""Trains the model of an experiment; started again, goes on at the step it was stopped at.

  mvit train --config_file=finetune --model_dir=runs/mine --params_override=data.train=VIDEOS
  mvit train --model_dir=runs/mine               go on with it
  mvit evaluate --model_dir=runs/mine            score it on the validation videos
  mvit export --model_dir=runs/mine              for TF Serving and `mvit predict`

Ctrl-C, SIGTERM and SIGUSR1 let the training step end and save it; a second signal ends at once.
On several machines a signal to one ends all.
Exit status: 0 when done, 2 after an error, 130, 143 or 138 after these signals, 75 if another
machine was lost: the same command goes on.
The flags are those of train.py in the project's repository.
"""

import argparse
import shlex
import sys

from mvit_tf.cli.configs import find_config
from mvit_tf.cli.startup import INTERRUPTED_STATUS, interrupted_by
from mvit_tf.interruption import STOP_SIGNALS, Interrupted

NAME = "train"
SUMMARY = "train or fine-tune a model on videos, by an experiment of the package or your own"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_experiment_flags(parser)
    parser.add_argument(
        "--mode",
        choices=("train", "train_and_eval"),
        default="train",
        help="train_and_eval: score the best weights at the end (default: train)",
    )


def add_experiment_flags(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Adds the flags of train.py that say which experiment and where."""
    parser.add_argument(
        "--model_dir",
        metavar="FOLDER",
        required=required,
        help="where everything is written and resumed from",
    )
    parser.add_argument(
        "--config_file",
        metavar="EXPERIMENT",
        help="a YAML file, or the name of an experiment of the package, for example finetune; "
        "default: the one saved in --model_dir",
    )
    parser.add_argument(
        "--params_override",
        metavar="KEYS",
        default="",
        help="'train.epochs=3,data.train=/videos' or YAML, over the experiment; a value with a "
        "comma is quoted: data.train='/videos/a,b'",
    )


def run(arguments: argparse.Namespace) -> int | None:
    return run_experiment(arguments.mode, arguments, ["mvit", *sys.argv[1:]])


def run_experiment(mode: str, flags, command: list[str], **options) -> int | None:
    """Runs one mode of an experiment; Ctrl-C, SIGTERM and SIGUSR1 end it with how to resume.

    Args:
        mode: see `mvit_tf.training.trainer.MODES`.
        flags: an object with `model_dir`, `config_file` and `params_override`.
        command: what the person at the keyboard typed.
        **options: of the mode, see `mvit_tf.training.trainer.run`.

    Returns:
        An exit status where the run was interrupted.
    """
    config_file = None if flags.config_file is None else find_config(flags.config_file)
    try:
        # Schedulers end a job with SIGTERM: it is to say how to resume, as Ctrl-C does.
        with interrupted_by(*STOP_SIGNALS):
            from mvit_tf.training import trainer

            trainer.run(
                mode=mode,
                model_dir=flags.model_dir,
                config_file=config_file,
                overrides=flags.params_override,
                **options,
            )
    except KeyboardInterrupt as error:
        said = f"interrupted; the same command resumes: {shlex.join(command)}"
        print(f"\n{said}", file=sys.stderr)
        return error.exit_status if isinstance(error, Interrupted) else INTERRUPTED_STATUS
    return None
