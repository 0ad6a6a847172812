"""Trains, evaluates and exports video models.

    python train.py --config_file=finetune --mode=train_and_eval \
        --model_dir=/tmp/mine --params_override=data.train=/path/to/class_folders

The flags are those of the TensorFlow Model Garden. A run that was stopped goes on at the step it
was stopped at when it is started again with the same --model_dir.
"""

import sys

from absl import app, flags

from mvit_tf.cli.logs import follow_logging_flags
from mvit_tf.cli.startup import quiet_tensorflow, require_tensorflow, run_cli, run_program
from mvit_tf.cli.train import run_experiment
from mvit_tf.errors import UserError

flags.DEFINE_string(
    "config_file",
    None,
    "YAML experiment: a file, or the name of one in configs/; default: the one saved in "
    "--model_dir.",
)
_MODE = flags.DEFINE_enum(
    "mode", "train", ["train", "eval", "train_and_eval", "export"], "What to do."
)
flags.DEFINE_string("model_dir", None, "Where everything is written and resumed from.")
flags.DEFINE_string(
    "params_override",
    "",
    "'train.epochs=3,data.train=/videos' or YAML, over the config file; a value with a comma is "
    "quoted: data.train='/videos/a,b'.",
)


def main() -> int | None:
    """Parses the flags and runs the experiment; returns an exit status."""
    app.define_help_flags()
    try:
        rest = flags.FLAGS(sys.argv)[1:]
    except flags.Error as error:
        raise UserError(" ".join(str(error).split())) from error
    if rest:
        raise UserError(f"unexpected argument {rest[0]!r}; the flags are --name=value")
    if flags.FLAGS.model_dir is None:
        raise UserError("--model_dir is missing: where everything is written")
    follow_logging_flags()
    require_tensorflow()
    return run_experiment(_MODE.value, flags.FLAGS, ["python", *sys.argv])


if __name__ == "__main__":
    quiet_tensorflow()
    run_program(lambda: run_cli(main))
