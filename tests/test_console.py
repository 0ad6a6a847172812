"""Tables that stay whole wherever they go, and progress that only terminals see."""

import resource
import subprocess
import sys

import pytest

from mvit_tf.console import format_table, progress

DESCRIBE = """
import sys
from mvit_tf.cli.main import main
main(["describe", {arguments}])
assert not {{"tensorflow", "keras", "numpy", "matplotlib", "av", "h5py"}} & set(sys.modules)
"""


def test_columns_line_up_numbers_on_the_right():
    table = format_table(("", "b"), [("one", "1.5"), ("three", "10.25")], numbers=["b"])
    assert table.splitlines() == [
        "           b",
        "------ -----",
        "one      1.5",
        "three  10.25",
    ]


def test_text_is_kept_as_it_is_in_any_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    long = "/videos/" + 40 * "long name " + ".mp4"
    table = format_table(("video", "reason"), [(long, "[red]x[/red] :smile: 12"), ("踊り", "y")])
    header, rule, first, second = table.splitlines()
    assert first == f"{long}  [red]x[/red] :smile: 12"
    assert second.startswith("踊り ") and second.endswith(" y")
    assert "\x1b" not in table


def test_progress_is_silent_without_a_terminal(capfd):
    with progress("videos") as show:
        show(1, 2)
        show(2, 2)
    assert capfd.readouterr() == ("", "")


def test_progress_counts_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress("videos") as show:
        show(3, 3)
    printed = capsys.readouterr()
    assert "videos" in printed.err and "3/3" in printed.err
    assert printed.out == ""


@pytest.mark.parametrize("arguments", ["'mvit_b_16x4'", "", "'--compare', 'paper'"])
def test_describe_answers_at_once(arguments):
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ended = subprocess.run(
            [sys.executable, "-c", DESCRIBE.format(arguments=arguments)],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Of the processor, not of the clock: others may be using the machine.
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert ended.stderr == ""
    assert "mvit_b_16x4" in ended.stdout
    assert min(seconds) < 0.5
