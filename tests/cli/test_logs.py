"""What the project says: plain lines on a console, and what absl's flags make of it."""

import subprocess
import sys

import pytest

# As train.py does, with what a module of the package and one of another say.
PROGRAM = """
import os, sys
import mvit_tf
from absl import flags, logging
from mvit_tf.cli.logs import follow_logging_flags
from mvit_tf.cli.startup import run_cli
from mvit_tf.errors import UserError

def main():
    flags.FLAGS(sys.argv)
    follow_logging_flags()
    lines = "logging.info('said of %s', 'a.mp4'); logging.warning('caf\\\\udce9')"
    exec(compile(lines, os.path.join(mvit_tf.__path__[0], "any.py"), "exec"), {"logging": logging})
    logging.info("of another")
    logging.warning("another warns")
    if len(sys.argv) > 2:
        raise UserError("no such folder")

sys.exit(run_cli(main))
"""


def run(*flags):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *flags], capture_output=True, text=True, check=False
    )


def test_a_console_sees_plain_lines():
    done = run()
    assert (done.returncode, done.stdout) == (0, "said of a.mp4\n")
    assert done.stderr == "warning: caf\\udce9\nWARNING:absl:another warns\n"


def test_verbosity_silences():
    done = run("--verbosity=-1")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("warning: caf")
    assert run("--verbosity=-2").stderr == ""


def test_log_dir_keeps_a_file_with_prefixes(tmp_path):
    done = run(f"--log_dir={tmp_path / 'logs'}", "fails")
    assert done.stdout == "said of a.mp4\n", done.stderr
    told, ended = "warning: caf\\udce9\nWARNING:absl:another warns\n", "error: no such folder\n"
    assert done.stderr == told + ended
    (link,) = [path for path in (tmp_path / "logs").iterdir() if path.is_symlink()]
    info, warning, *others = link.read_text().splitlines()
    assert info.startswith("I") and info.endswith("] said of a.mp4")
    assert warning.startswith("W") and warning.endswith("] caf\\udce9")
    assert [line.partition("] ")[2] for line in others] == [
        "of another", "another warns", "no such folder",
    ]  # fmt: skip


@pytest.mark.parametrize(("flag", "shown"), [("alsologtostderr", True), ("logtostderr", False)])
def test_prefixes_on_standard_error_where_asked_for(flag, shown):
    done = run(f"--{flag}")
    assert done.stdout == "said of a.mp4\n" * shown
    assert "] said of a.mp4\n" in done.stderr
    assert ("warning: caf" in done.stderr) == shown


def test_a_log_dir_that_cannot_be_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    done = run(f"--log_dir={tmp_path / 'file' / 'logs'}")
    assert done.returncode == 2
    error = f"error: --log_dir={tmp_path}/file/logs cannot be written: Not a directory\n"
    assert done.stderr == error
