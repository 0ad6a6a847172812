"""How a module of the package is run in a process of its own, with the imports of this one."""

import os
import pathlib
import sys


def module_command(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module by its dotted name."""
    # -P: a module of the current folder must not come before those of this process.
    return [sys.executable, "-P", "-m", module, *arguments]


def module_environment(**variables: str) -> dict[str, str]:
    """This process' environment, its import paths, and further variables."""
    root = str(pathlib.Path(__file__).resolve().parents[1])
    paths = [*(os.path.abspath(entry) for entry in sys.path if entry), root]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), **variables}
