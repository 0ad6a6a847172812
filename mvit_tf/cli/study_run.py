"""The process of one run of `mvit study`: trains, then scores.

    python -m mvit_tf.cli.study_run JOB

JOB is JSON of `model_dir`, `config_file`, `overrides`, and `evaluations`, the overrides of each.
It ends as `mvit train` does, by a signal, and as by SIGTERM when its standard input ends.
"""

import json
import os
import signal
import sys
import threading

from mvit_tf.cli.startup import interrupted_by, quiet_tensorflow, run_cli, run_program
from mvit_tf.interruption import STOP_SIGNALS


def main() -> int:
    quiet_tensorflow()
    job = json.loads(sys.argv[1])
    threading.Thread(target=_end_with_input, daemon=True).start()

    def run():
        with interrupted_by(*STOP_SIGNALS):
            from mvit_tf.training import trainer

            trainer.run(
                mode="train",
                model_dir=job["model_dir"],
                config_file=job["config_file"],
                overrides=job["overrides"],
            )
            for overrides in job["evaluations"].values():
                trainer.run(mode="eval", model_dir=job["model_dir"], overrides=overrides)

    return run_cli(run)


def _end_with_input():
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    run_program(main)
