"""The Python and the commands of a page of the documentation, run as a reader would."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(
    r"(?:<!-- (?P<note>[^>]*) -->\n)?```(?P<kind>python|sh)\n(?P<code>.*?)```", re.S
)


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block: `kind` is "python" or "sh", `note` the comment before it, `line` its first.

    A note of "not run" is for what needs a network. One that begins with "run alone" has the block
    run in a process of its own; see `run_alone`.
    """

    kind: str
    code: str
    note: str
    line: int


def blocks_of(page):
    """The blocks of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(
            found["kind"],
            found["code"],
            found["note"] or "",
            text.count("\n", 0, found.start("code")) + 1,
        )
        for found in _BLOCK.finditer(text)
    ]


def run_page(page, namespace=None, *, run_command=None, skip=(), skip_notes=("not run",)):
    """Runs what a page shows, from top to bottom in one namespace and the current folder.

    Args:
        page: path below the root of the checkout.
        namespace: names that its Python finds.
        run_command: function of a line of a block of commands.
        skip: texts; blocks that hold one of them are passed over.
        skip_notes: notes; likewise.

    Returns:
        (the namespace, number of blocks that ran).
    """
    namespace = {} if namespace is None else namespace
    ran = 0
    for block in blocks_of(page):
        if block.note in skip_notes or any(text in block.code for text in skip):
            continue
        if block.kind == "sh":
            for line in block.code.splitlines():
                run_command(line)
        elif block.note.startswith("run alone"):
            run_alone(block, f"{page}:{block.line}")
        else:
            # Lines are numbered as in the page.
            code = "\n" * (block.line - 1) + block.code
            exec(compile(code, str(ROOT / page), "exec"), namespace)
        ran += 1
    return namespace, ran


def run_alone(block, place):
    """Runs a block in a process of its own, as its note says: without mvit_tf, or on JAX."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    code = block.code
    if "without mvit_tf" in block.note:
        code = "import sys\nsys.modules['mvit_tf'] = None\n" + code
        environment.pop("PYTHONPATH", None)
    else:
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]
        )
    if "KERAS_BACKEND=jax" in block.note:
        environment["KERAS_BACKEND"] = "jax"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, f"{place}\n{done.stderr}"
