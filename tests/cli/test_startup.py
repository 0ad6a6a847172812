"""How command lines end, and what they keep off the console."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import warnings

import pytest

from mvit_tf.cli import run_cli
from mvit_tf.cli.startup import interrupted_by, require_tensorflow
from mvit_tf.errors import FormerNameWarning, UserError
from tests.own_words import own_words


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


@contextlib.contextmanager
def handled_by(handler, number):
    before = signal.signal(number, handler)
    try:
        yield
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_that_became_another_error(number):
    with (
        handled_by(signal.default_int_handler, number),
        pytest.raises(KeyboardInterrupt) as raised,
        interrupted_by(number),
    ):
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            raise SystemError("returned a result with an exception set") from None
    assert isinstance(raised.value.__cause__, SystemError)


def test_what_the_process_was_started_to_ignore_stays_ignored():
    with handled_by(signal.SIG_IGN, signal.SIGINT), interrupted_by(signal.SIGINT):
        signal.raise_signal(signal.SIGINT)


def test_other_exceptions_are_defects_and_pass_through():
    def main():
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        run_cli(main)


def test_a_defect_ends_the_process_while_videos_are_being_decoded():
    code = """
import time
import tensorflow as tf
from mvit_tf.cli.startup import run_cli, run_program

def decode(number):
    time.sleep(0.2)
    return number

def main():
    clips = tf.data.Dataset.range(1000)
    clips = clips.map(lambda n: tf.py_function(decode, [n], tf.int64), num_parallel_calls=4)
    iterator = iter(clips.batch(2, num_parallel_calls=2).prefetch(2))
    next(iterator)
    raise ValueError("a defect")

run_program(lambda: run_cli(main))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 1
    assert own_words(done.stderr).rstrip().endswith("ValueError: a defect")


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (3, 3)])
def test_the_status_of_main_is_the_status(returned, status):
    assert run_cli(lambda: returned) == status


def test_a_new_name_is_said_in_one_line_and_other_warnings_as_ever(capsys):
    def main():
        warnings.warn("widen_in is now expand_in", FormerNameWarning, stacklevel=1)
        warnings.warn("of a dependency", FutureWarning, stacklevel=1)
        warnings.warn("another", UserWarning, stacklevel=1)

    with pytest.warns(UserWarning, match="another") as others:
        assert run_cli(main) == 0
    assert len(others) == 1
    assert capsys.readouterr().err == "warning: widen_in is now expand_in\n"


@pytest.fixture
def keras_home(tmp_path, monkeypatch):
    """A folder for keras.json; the environment names no backend."""
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("text", [None, "{}", "not JSON", '{"backend": "tensorflow"}'])
def test_tensorflow_is_kerass_backend_unless_its_file_says_otherwise(keras_home, text):
    if text is not None:
        (keras_home / "keras.json").write_text(text)
    require_tensorflow()


def test_another_backend_in_kerass_file_is_named_with_the_way_out(keras_home, monkeypatch):
    (keras_home / "keras.json").write_text(json.dumps({"backend": "jax"}))
    with pytest.raises(UserError, match="keras.json asks for Keras on jax.*=tensorflow"):
        require_tensorflow()
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    require_tensorflow()


OTHER_BACKEND = """
import sys
from mvit_tf.cli.main import main
try:
    sys.exit(main())
finally:
    assert not {"tensorflow", "keras", "torch", "jax"} & set(sys.modules)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--model_dir=x"],
        ["evaluate", "--model_dir=x"],
        ["export", "--model_dir=x"],
        ["predict", "x", "a.mp4"],
        ["demo"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_commands_on_tensorflow_refuse_another_backend_at_once(arguments, tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", OTHER_BACKEND, *arguments],
        env={**os.environ, "KERAS_BACKEND": "torch"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: KERAS_BACKEND asks for Keras on torch")
    assert len(ended.stderr.splitlines()) == 1
    assert not any(tmp_path.iterdir())


def test_a_stopped_command_does_not_wait_for_its_threads():
    program = (
        "import threading; from mvit_tf.cli.startup import run_program;"
        "threading.Thread(target=threading.Event().wait).start();"
        "print('said'); run_program(lambda: 3)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert (ended.returncode, ended.stdout) == (3, "said\n")


TRACE = """
import os, tempfile
import tensorflow as tf
from mvit_tf.cli.startup import run_program

@tf.function
def positive(x):
    if tf.reduce_sum(x) > 0:
        x = -x
    return x

def main():
    positive(tf.ones(2))
    print(len(os.listdir(tempfile.gettempdir())) > 0)
    return 3

run_program(main)
"""


def test_a_stopped_command_leaves_no_files_of_tensorflow(tmp_path):
    program, temporary = tmp_path / "trace.py", tmp_path / "tmp"
    program.write_text(TRACE)
    temporary.mkdir()
    ended = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "TMPDIR": str(temporary)},
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (3, "True\n")
    assert [path for path in temporary.rglob("*") if path.is_file()] == []


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
        # What dependencies say of Python's age apart.
        [sys.executable, "-W", "ignore::FutureWarning", "-c", USE_TENSORFLOW],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "done\n"
    assert own_words(ended.stderr) == ""


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
