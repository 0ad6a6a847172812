"""Files that are either whole or not there, and files that one process holds at a time."""

import contextlib
import errno
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mvit_tf.remote_path import RemotePath
from mvit_tf.urls import without_secrets

TEMPORARY_PREFIX = ".writing-"

# What a lock is refused with that another process holds; anything else means no locks here.
_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# HDF5 and TensorFlow have no other way to say it.
_DISK_FULL_WORDS = re.compile(
    r"No space left|quota exceeded|File too large|errno = (28|122|27)\b", re.IGNORECASE
)
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")


def printable(name: str) -> str:
    """A file name as text: bytes in it that are not UTF-8 (lone surrogates) as `\\udcXX`."""
    return name.encode("utf-8", errors="backslashreplace").decode("utf-8")


def one_line(text: str) -> str:
    """`printable`, and control characters and line breaks of any kind as JSON's `\\uXXXX`."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", printable(text))


def is_disk_full(error: Exception) -> bool:
    """Whether an error says that a disk, or a user's share of it, is full."""
    number = getattr(error, "errno", None)
    return number in _DISK_FULL if number else bool(_DISK_FULL_WORDS.search(str(error)))


def write_atomically(path: Path | RemotePath, fill: Callable[[Path], None]):
    """Lets `fill` write a file beside `path`, then renames it to `path`.

    A kill at any moment leaves the old file or the new one, never half of one. For a remote path
    the file is written on this machine and copied there in one go.

    Args:
        path: the final name; its suffixes are kept on the temporary name, since Keras reads
            the format from them.
        fill: writes the content to the temporary path it is given.
    """
    if isinstance(path, RemotePath):
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder, path.name)
            fill(local)
            path.put(local)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}.{path.name}")
    try:
        fill(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    # Makes the rename durable: without it a power cut may bring the old name back. Windows and
    # some network file systems cannot do it.
    with contextlib.suppress(OSError):
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text_atomically(path: Path | RemotePath, text: str):
    """`write_atomically` for UTF-8 text; file names in it as `printable`, which JSON reads back."""
    write_atomically(
        path,
        lambda temporary: temporary.write_text(printable(text), encoding="utf-8", newline=""),
    )


def write_json_lines(path: Path | RemotePath, entries: Iterable[dict]):
    """`write_text_atomically` of one JSON object a line; URLs in them without their secrets."""
    entries = (
        {key: without_secrets(v) if isinstance(v, str) else v for key, v in entry.items()}
        for entry in entries
    )
    # JSON itself lets some control characters and line breaks stand.
    lines = (one_line(json.dumps(entry, ensure_ascii=False)) + "\n" for entry in entries)
    write_text_atomically(path, without_secrets("".join(lines)))


def copy_tree(source: Path, target: RemotePath, *, last: str):
    """Copies the files of a folder of this machine, in any order but for one.

    Args:
        last: name of the file, at the top of the folder, that tells that all are there.
    """
    files = [path for path in sorted(source.rglob("*")) if path.is_file()]
    for path in sorted(files, key=lambda path: path == source / last):
        (target / path.relative_to(source).as_posix()).put(path)


@contextlib.contextmanager
def local_copy(path: Path | RemotePath) -> Iterator[Path]:
    """Context with a remote file as one of this machine; a local one is itself.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not isinstance(path, RemotePath):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder, path.name)
        path.fetch_to(local)
        yield local


def remove_unfinished(directory: Path):
    """Removes what a killed run left half written in `directory`."""
    for path in directory.glob(f"{TEMPORARY_PREFIX}*"):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def held_file(path: Path) -> Iterator[str | None]:
    """Makes the file `path`, locks it meanwhile against every other process, and removes it.

    The system lets go of the lock when the process ends, however it ends.

    Yields:
        `None`, or why this system or file system has no locks: then nothing is locked.

    Raises:
        BlockingIOError: another process holds it.
        OSError: the file cannot be made.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield "this system has no fcntl"
        return
    while True:
        descriptor, unlocked = os.open(path, os.O_RDWR | os.O_CREAT), None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                os.close(descriptor)
                raise BlockingIOError(error.errno, error.strerror) from error
            unlocked = error.strerror
        # Whoever held it until now removed the file: another process may hold its successor.
        if _is_at(path, descriptor):
            break
        os.close(descriptor)
    try:
        yield unlocked
    finally:
        if _is_at(path, descriptor):
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether `path` still names the open file."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False
