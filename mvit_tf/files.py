"""Files that are either whole or not there: temporary name, fsync, rename."""

import os
from collections.abc import Callable
from pathlib import Path

TEMPORARY_PREFIX = ".writing-"


def write_atomically(path: Path, fill: Callable[[Path], None]):
    """Lets `fill` write a file beside `path`, then renames it to `path`.

    A kill at any moment leaves the old file or the new one, never half of one.

    Args:
        path: the final name; its suffixes are kept on the temporary name, since Keras reads
            the format from them.
        fill: writes the content to the temporary path it is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}.{path.name}")
    try:
        fill(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_directory(path.parent)


def write_text_atomically(path: Path, text: str):
    """`write_atomically` for UTF-8 text."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def remove_unfinished(directory: Path):
    """Removes what a killed run left half written in `directory`."""
    for path in directory.glob(f"{TEMPORARY_PREFIX}*"):
        path.unlink()


def _sync_directory(directory: Path):
    """Makes a rename durable: without it a power cut may bring the old name back."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
