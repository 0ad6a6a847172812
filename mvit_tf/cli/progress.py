"""A counter that rewrites its own line on a terminal and is silent elsewhere."""

import sys


def show_progress(done: int, total: int, what: str) -> None:
    """Shows "done of total what" on stderr; ends the line at the last one."""
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r{done} of {total} {what}", end=end, file=sys.stderr, flush=True)
