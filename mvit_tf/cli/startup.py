"""How every command line of the project starts and ends.

Imports nothing heavy: `quiet_tensorflow` has to run before TensorFlow is imported.
"""

import contextlib
import io
import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from importlib.util import cache_from_source
from pathlib import Path

from mvit_tf.cli.logs import console_lines, log_to_file
from mvit_tf.errors import FormerNameWarning, UserError
from mvit_tf.interruption import Interrupted

DEFECT_STATUS = 1
USER_ERROR_STATUS = 2
INTERRUPTED_STATUS = 130


def quiet_tensorflow():
    """Keeps TensorFlow's start-up messages off the console.

    Must be called before TensorFlow is imported. 3 lets only fatal messages of the C++ side
    through; its other errors also arrive as Python exceptions. A level that the caller's
    environment already sets is left alone: `TF_CPP_MIN_LOG_LEVEL=0 mvit ...` shows everything.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def require_tensorflow():
    """Refuses another backend of Keras, before anything imports it.

    Raises:
        UserError: the environment or Keras' own file names another one.
    """
    name, source = os.environ.get("KERAS_BACKEND"), "KERAS_BACKEND"
    if not name:
        source = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "keras.json"
        try:
            name = json.loads(source.read_text(encoding="utf-8")).get("backend")
        except (OSError, ValueError):  # Keras passes over such a file too.
            return
    if name not in (None, "tensorflow"):
        raise UserError(
            f"{source} asks for Keras on {name}, and this command works on TensorFlow only; run "
            "it with KERAS_BACKEND=tensorflow"
        )


def run_program(main: Callable[[], int]):
    """Runs the main function of a program and ends the process with the exit status it returns.

    The status after an exception, which is a defect, is 1, as of any Python program.

    Stopped in the middle, videos are still being decoded: their threads wait for an interpreter
    that is closing, it waits for them. All that is kept has been written by then. TensorFlow-io's
    file systems are gone before TensorFlow's last files on them, and abort the process.
    """
    try:
        status = main()
    except Exception:
        sys.excepthook(*sys.exc_info())
        status = DEFECT_STATUS
    _delete_generated_files()
    if status or "tensorflow_io" in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _delete_generated_files():
    """Deletes the Python files that TensorFlow wrote of the functions it traced.

    It does so itself only where the interpreter closes, and never with their bytecode: a training
    that is stopped and goes on a thousand times would leave as many times twenty in the temporary
    folder.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith("__autograph_generated_file"):
            for path in (module.__file__, cache_from_source(module.__file__)):
                with contextlib.suppress(OSError):
                    os.unlink(path)


def run_cli(main: Callable[[], int | None]) -> int:
    """Runs a command's main function and turns its end into an exit status.

    Args:
        main: called without arguments; returns an exit status, or `None` for success.

    Returns:
        `main`'s status (0 for `None`); 2 after a `UserError`, whose message is printed on
        stderr as one line (or its `exit_status`); 130 after Ctrl-C. Any other exception passes
        through. What has
        a new name (a `FormerNameWarning`) is said in one line too.
    """
    _print_anything()
    try:
        with warnings.catch_warnings(), console_lines(), interrupted_by(signal.SIGINT):
            warnings.showwarning = _show_in_one_line(warnings.showwarning)
            return main() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        log_to_file(str(error))
        return getattr(error, "exit_status", USER_ERROR_STATUS)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED_STATUS


@contextlib.contextmanager
def interrupted_by(*signals: signal.Signals) -> Iterator[None]:
    """Whatever a block raises after one of these signals is an `Interrupted`.

    Python handles a signal wherever the main thread is, which may be in a function that C code
    calls: a KeyboardInterrupt that is raised there can come out as another error. A signal that
    the process was started to ignore, as Ctrl-C is in the background of a shell, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():  # signals are not ours there
        yield
        return
    received = []

    def handle(number, frame):
        received.append(number)
        raise Interrupted(number)

    before = {number: signal.getsignal(number) for number in signals}
    before = {number: was for number, was in before.items() if was != signal.SIG_IGN}
    for number in before:
        signal.signal(number, handle)
    try:
        yield
    except Exception as error:
        if not received:
            raise
        raise Interrupted(received[-1]) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show_in_one_line(show):
    """`warnings.showwarning` without the place in the code where it is for the user."""

    def show_warning(message, category, *place, **place_by_name):
        if issubclass(category, FormerNameWarning):
            print(f"warning: {message}", file=sys.stderr)
        elif not issubclass(category, FutureWarning):  # those are for dependencies' developers
            show(message, category, *place, **place_by_name)

    return show_warning


def _print_anything():
    """Lets what the console cannot show be printed escaped: a file name need not be text."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
