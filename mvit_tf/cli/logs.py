"""Where what the project says by absl.logging goes: a console with plain lines, and absl's flags.

Imports nothing heavy, as `startup`.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from absl import flags
from absl import logging as absl_logging

from mvit_tf.errors import UserError
from mvit_tf.files import one_line, printable
from mvit_tf.urls import without_secrets

_PACKAGE = os.path.join(Path(__file__).parents[1], "")


class ConsoleHandler(logging.Handler):
    """Shows what this package says as plain lines, and warnings of others as Python does.

    What is said goes to standard output, warnings and errors to standard error.
    """

    def emit(self, record):
        warns = record.levelno >= logging.WARNING
        if record.pathname.startswith(_PACKAGE):
            said = without_secrets(one_line(record.getMessage()))
            line = f"{record.levelname.lower()}: " * warns + said
        elif warns:
            line = logging.Formatter(logging.BASIC_FORMAT).format(record)
        else:
            return
        print(line, file=sys.stderr if warns else sys.stdout, flush=True)


@contextlib.contextmanager
def console_lines() -> Iterator[None]:
    """Context in which one `ConsoleHandler` shows all from `absl.logging.INFO` up."""
    if _console_handlers():
        yield
        return
    handler, before = ConsoleHandler(), absl_logging.get_verbosity()
    logging.root.addHandler(handler)
    absl_logging.set_verbosity(absl_logging.INFO)
    try:
        yield
    finally:
        absl_logging.set_verbosity(before)
        logging.root.removeHandler(handler)


def follow_logging_flags() -> None:
    """Does what absl's parsed flags say: `--log_dir`, `--alsologtostderr`, `--logtostderr`.

    `absl.app.run`, which would, also takes over how a program ends. `--verbosity` needs nothing.

    Raises:
        UserError: nothing can be written into `--log_dir`.
    """
    folder = flags.FLAGS.log_dir
    to_stderr = flags.FLAGS.logtostderr
    if not (folder or to_stderr or flags.FLAGS.alsologtostderr):
        return
    handler = absl_logging.get_absl_handler()
    if folder and not to_stderr:
        try:
            os.makedirs(folder, exist_ok=True)
            handler.use_absl_log_file(log_dir=folder)
        except OSError as error:
            raise UserError(
                f"--log_dir={folder} cannot be written: {error.strerror or error}"
            ) from error
    handler.addFilter(_make_printable)
    absl_logging.use_absl_handler()
    if to_stderr:
        for shown in _console_handlers():
            logging.root.removeHandler(shown)


def _console_handlers():
    return [handler for handler in logging.root.handlers if isinstance(handler, ConsoleHandler)]


def log_to_file(error: str) -> None:
    """Logs what ended a program, if absl keeps a log file; the console was told already."""
    handler = absl_logging.get_absl_handler()
    if handler in logging.root.handlers and handler.python_handler.stream is not sys.stderr:
        absl_logging.error(error)


def _make_printable(record):
    """File names need not be text, which a log file is, and addresses may hold a password."""
    record.msg, record.args = without_secrets(printable(record.getMessage())), ()
    return True
