"""Tables and progress on the console, by rich, which is imported at the first use."""

import contextlib
import io
import sys
from collections.abc import Iterable, Iterator, Sequence

# Where the output is no terminal, rich would cut a table at 80 columns.
_WIDEST = 10**5


def format_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Iterable[str] = ()
) -> str:
    """Rows in aligned columns under a ruled header, as plain text that nothing wraps or colours.

    Args:
        header: names of the columns.
        rows: the cells of each.
        numbers: names of the columns that are flush right.
    """
    from rich.box import Box
    from rich.console import Console
    from rich.table import Table

    ruled = Box("    \n    \n -  \n    \n    \n    \n    \n    \n", ascii=True)
    table = Table(box=ruled, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in header:
        table.add_column(name, no_wrap=True, justify="right" if name in numbers else "left")
    for row in rows:
        table.add_row(*row)
    text = io.StringIO()
    Console(
        file=text, width=_WIDEST, color_system=None, force_terminal=False,
        markup=False, emoji=False, highlight=False,
    ).print(table)  # fmt: skip
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


@contextlib.contextmanager
def progress(what: str) -> Iterator:
    """Shows on a terminal how far something is, with the time that is left; elsewhere nothing.

    Yields:
        A function of (done, total) to call now and then.
    """
    # rich before 14 writes an empty line even where it is told to show nothing.
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return

    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    columns = [*Progress.get_default_columns(), MofNCompleteColumn()]
    with Progress(*columns, console=Console(file=sys.stderr)) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
