"""How command lines end, and what they keep off the console."""

import os
import subprocess
import sys

import pytest

from mvit_tf.cli import run_cli
from mvit_tf.errors import UserError


def test_a_users_mistake_is_one_line_and_status_2(capsys):
    def main():
        raise UserError("no folder at /videos: check data.train")

    assert run_cli(main) == 2
    printed = capsys.readouterr()
    assert printed.err == "error: no folder at /videos: check data.train\n"
    assert printed.out == ""


def test_a_name_that_is_not_utf8_can_be_printed():
    code = """
import os
from mvit_tf.cli import run_cli
run_cli(lambda: print(os.fsdecode(b"caf\\xe9.mp4")))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        check=False,
    )
    assert done.stdout == b"caf\\udce9.mp4\n", done.stderr


def test_control_c_is_status_130_without_a_traceback(capsys):
    def main():
        raise KeyboardInterrupt

    assert run_cli(main) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_other_exceptions_are_defects_and_pass_through():
    def main():
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        run_cli(main)


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (3, 3)])
def test_the_status_of_main_is_the_status(returned, status):
    assert run_cli(lambda: returned) == status


def test_a_stopped_command_does_not_wait_for_its_threads():
    program = (
        "import threading; from mvit_tf.cli.startup import end_process;"
        "threading.Thread(target=threading.Event().wait).start();"
        "print('said'); end_process(3)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert (ended.returncode, ended.stdout) == (3, "said\n")


USE_TENSORFLOW = """
from mvit_tf.cli.startup import quiet_tensorflow
quiet_tensorflow()
import sys
assert "tensorflow" not in sys.modules, "imported before it could be quieted"
import keras, tensorflow as tf
model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2)])
model.compile("adam", "mse")
data = tf.data.Dataset.from_tensors((tf.ones((8, 4)), tf.ones((8, 2))))
model.fit(data, epochs=2, shuffle=False, verbose=0)
print("done")
"""


def test_tensorflow_starts_and_trains_in_silence():
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    ended = subprocess.run(
        [sys.executable, "-c", USE_TENSORFLOW],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "done\n"
    assert ended.stderr == ""


def test_a_log_level_of_the_users_own_is_left_alone():
    program = (
        "from mvit_tf.cli.startup import quiet_tensorflow; import os;"
        "quiet_tensorflow(); print(os.environ['TF_CPP_MIN_LOG_LEVEL'])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "0\n"
