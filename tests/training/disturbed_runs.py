"""Trainings that are killed, told to stop or spoilt at a moment that is told beforehand.

    python disturbed_runs.py PLAN.json

The plan has `config`, `overrides` and `runs`, a list of {"model_dir", "overrides", "disturb"}; the
exit statuses are printed as JSON. TensorFlow is imported once: each run is a fork of this process.
"""

import contextlib
import json
import os
import signal
import sys
import threading
import time
from types import SimpleNamespace

from mvit_tf.cli.startup import quiet_tensorflow, run_cli

quiet_tensorflow()

from mvit_tf.cli.train import run_experiment  # noqa: E402
from mvit_tf.data.pipeline import steps_per_epoch, training_steps  # noqa: E402
from mvit_tf.training.evaluation import scoring  # noqa: E402
from mvit_tf.training.loop import callbacks, training_loop, training_state  # noqa: E402
from mvit_tf.training.optimization import training_model as training_model_module  # noqa: E402
from mvit_tf.training.storage import checkpoints  # noqa: E402


def send(number):
    os.kill(os.getpid(), number)


def before(owner, name, act, count=1):
    """Calls `act` at the beginning of the call of this number."""
    original, calls = getattr(owner, name), iter(range(1, 10**9))

    def disturbed(*args, **kwargs):
        if next(calls) == count:
            act(*args)
        return original(*args, **kwargs)

    setattr(owner, name, disturbed)


def half_written(path):
    os.truncate(path, os.path.getsize(path) // 2)


def poisoned(step):
    """The clips of one step are NaN."""
    make = training_loop.training_clips

    def clips(experiment, videos, *, start_step=0, skipped_steps=(), **options):
        made = make(
            experiment, videos, start_step=start_step, skipped_steps=skipped_steps, **options
        )
        steps = steps_per_epoch(videos, experiment.train.batch_size)
        end = experiment.train.epochs * steps
        numbers = training_steps(start_step, end, skipped_steps)
        import tensorflow as tf

        nan = float("nan")
        return tf.data.Dataset.zip((numbers, made)).map(
            lambda number, batch: (tf.where(number == step, nan, batch[0]), batch[1])
        )

    training_loop.training_clips = clips


def left_out(step):
    training_state.Progress = lambda: checkpoints.Progress(skipped_steps=(step,))


def by_timer(seconds):
    before(
        training_loop,
        "fit",
        lambda *_: threading.Timer(seconds, lambda: send(signal.SIGKILL)).start(),
    )


def fill(path):
    """Takes all that is free on a file system."""
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


WRITE = (sys.modules["mvit_tf.weights_file"], "append_checksum")
STEP = (training_state.TrainingState, "after_batch")
DISTURBANCES = {
    "kill_in_write": lambda n: before(
        *WRITE, lambda path: (half_written(path), send(signal.SIGKILL)), n
    ),
    "kill_after_step": lambda n: before(*STEP, lambda *_: send(signal.SIGKILL), n),
    "kill_before_best": lambda n: before(
        checkpoints.CheckpointStore, "_save_best", lambda *_: send(signal.SIGKILL), n
    ),
    "kill_in_validation": lambda n: before(
        scoring, "_probabilities", lambda *_: send(signal.SIGKILL), n
    ),
    "kill_in_log": lambda n: before(
        callbacks.EpochLog, "on_epoch_end", lambda *_: send(signal.SIGKILL), n
    ),
    "kill_at_epoch_end": lambda n: before(
        callbacks.EpochCheckpoints, "on_epoch_end", lambda *_: send(signal.SIGKILL), n
    ),
    "kill_after_seconds": by_timer,
    "sigterm_while_tracing": lambda n: before(
        training_model_module.TrainingModel, "train_step", lambda *_: send(signal.SIGTERM), n
    ),
    "sigterm_in_step": lambda n: before(*STEP, lambda *_: send(signal.SIGTERM), n),
    "sigint_in_step": lambda n: before(*STEP, lambda *_: send(signal.SIGINT), n),
    "sigusr1_in_step": lambda n: before(*STEP, lambda *_: send(signal.SIGUSR1), n),
    "sigterm_in_write": lambda n: before(*WRITE, lambda *_: send(signal.SIGTERM), n),
    "two_sigterms_in_write": lambda n: before(
        *WRITE, lambda *_: (send(signal.SIGTERM), time.sleep(0.1), send(signal.SIGTERM)), n
    ),
    "sigterm_in_validation": lambda n: before(
        scoring, "_probabilities", lambda *_: (send(signal.SIGTERM), time.sleep(60)), n
    ),
    "full_disk_in_step": lambda path: before(*STEP, lambda *_: fill(path), 2),
    "full_disk_in_validation": lambda path: before(
        scoring, "_probabilities", lambda *_: fill(path)
    ),
    "freed_disk": os.remove,
    "poisoned_step": poisoned,
    "left_out_step": left_out,
}


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        plan = json.load(file)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    statuses = []
    for number, run in enumerate(plan["runs"]):
        flags = SimpleNamespace(
            model_dir=run["model_dir"],
            config_file=plan["config"],
            params_override=",".join(filter(None, (plan["overrides"], run.get("overrides", "")))),
        )
        child = os.fork()
        if not child:
            with open(f"{sys.argv[1]}.{number}.log", "w", encoding="utf-8") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            for kind, value in run.get("disturb", {}).items():
                DISTURBANCES[kind](value)
            status = 1
            try:
                status = run_cli(lambda flags=flags: run_experiment("train", flags, ["mvit"]))
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(json.dumps(statuses))


if __name__ == "__main__":
    main()
