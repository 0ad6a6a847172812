"""The parser of `mvit`, and `mvit describe`."""

import subprocess
import sys

import pytest

from mvit_tf.cli.main import main

HELP = """
import sys
from mvit_tf.cli.main import main
try:
    main(["--help"])
finally:
    assert not {"tensorflow", "keras", "matplotlib", "av"} & set(sys.modules)
"""


def test_help_names_every_command_without_importing_tensorflow():
    ended = subprocess.run(
        [sys.executable, "-c", HELP], capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stderr == ""
    commands = "demo train evaluate export predict show-batch check-data describe study"
    for command in commands.split():
        assert f"  {command} " in ended.stdout or f"  {command}\n" in ended.stdout


@pytest.mark.parametrize("arguments", [[], ["convert"], ["nonsense"],
                                       ["train"], ["train", "--model_dir=x", "--mode=eval"],
                                       ["predict", "export", "a.mp4", "--top", "0"]])  # fmt: skip
def test_wrong_arguments_end_in_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_predicting_nothing_ends_in_status_2(capsys):
    assert main(["predict", "export"]) == 2
    assert "error: no video after export" in capsys.readouterr().err
    assert main(["predict"]) == 2
    assert "error: no model is given" in capsys.readouterr().err


def test_describe_prints_parameters_and_the_stages(capsys):
    assert main(["describe", "mvit_b_16x4"]) == 0
    printed = capsys.readouterr().out
    assert "36,610,672" in printed
    assert "25,089" in printed


def test_describe_offers_the_nearest_name(capsys):
    assert main(["describe", "mvit_b_16x"]) == 2
    printed = capsys.readouterr()
    assert printed.err == "error: unknown model 'mvit_b_16x'; did you mean 'mvit_b_16x4'?\n"
    assert printed.out == ""


def test_describe_alone_lists_the_names(capsys):
    assert main(["describe"]) == 0
    assert "mvit_b_16x4" in capsys.readouterr().out.splitlines()
