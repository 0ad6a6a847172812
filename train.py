"""Trains, evaluates and exports video models.

    python train.py --config_file=configs/finetune.yaml --mode=train_and_eval \
        --model_dir=/tmp/mine --params_override=data.train=/path/to/class_folders

The flags are those of the TensorFlow Model Garden. A run that was stopped goes on where its last
complete epoch ended when it is started again with the same --model_dir.
"""

import os
import shlex
import signal
import sys

from absl import app, flags

_CONFIG_FILE = flags.DEFINE_string(
    "config_file", None, "YAML experiment (see configs/); default: the one saved in --model_dir."
)
_MODE = flags.DEFINE_enum(
    "mode", "train", ["train", "eval", "train_and_eval", "export"], "What to do."
)
_MODEL_DIR = flags.DEFINE_string("model_dir", None, "Where everything is written and resumed from.")
_PARAMS_OVERRIDE = flags.DEFINE_string(
    "params_override", "", "'train.epochs=3,data.train=/videos' or YAML, over the config file."
)


def main() -> int | None:
    """Parses the flags and runs the experiment; returns an exit status."""
    from mvit_tf.cli.startup import INTERRUPTED_STATUS
    from mvit_tf.errors import UserError

    app.define_help_flags()
    try:
        rest = flags.FLAGS(sys.argv)[1:]
    except flags.Error as error:
        raise UserError(" ".join(str(error).split())) from error
    if rest:
        raise UserError(f"unexpected argument {rest[0]!r}; the flags are --name=value")
    if _MODEL_DIR.value is None:
        raise UserError("--model_dir is missing: where everything is written")

    from mvit_tf.training import trainer

    # Schedulers end a job with SIGTERM: it is to say how to resume, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        trainer.run(
            mode=_MODE.value,
            model_dir=_MODEL_DIR.value,
            config_file=_CONFIG_FILE.value,
            overrides=_PARAMS_OVERRIDE.value,
        )
    except KeyboardInterrupt:
        command = shlex.join(["python", *sys.argv])
        print(f"\ninterrupted; the same command resumes: {command}", file=sys.stderr)
        return INTERRUPTED_STATUS
    return None


if __name__ == "__main__":
    # Before anything imports TensorFlow, which `import mvit_tf` does.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from mvit_tf.cli.startup import end_process, run_cli

    end_process(run_cli(main))
