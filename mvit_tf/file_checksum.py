"""A checksum at the end of a file, so that it is damaged or whole, and never half of a pair.

HDF5 finds its own end in its header and passes over what follows.
"""

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

_MARK = b"\nmvit_tf SHA-256 "
_SIZE = len(_MARK) + 64
_READ_AT_ONCE = 16 * 2**20


def append_checksum(path: Path):
    """Ends a file with the SHA-256 of what it holds."""
    with open(path, "rb+") as file:
        digest = _digest(file, file.seek(0, os.SEEK_END))
        file.seek(0, os.SEEK_END)
        file.write(_MARK + digest)


def checksum_holds(file: BinaryIO) -> bool | None:
    """Whether a file is as it was written; `None` if it has no checksum.

    Args:
        file: opened for reading; its position is changed.
    """
    size = file.seek(0, os.SEEK_END)
    if size < _SIZE:
        return None
    file.seek(size - _SIZE)
    end = file.read(_SIZE)
    if not end.startswith(_MARK):
        return None
    return end == _MARK + _digest(file, size - _SIZE)


def _digest(file: BinaryIO, size: int) -> bytes:
    """The SHA-256 of the first bytes of a file, in hexadecimal."""
    digest, left = hashlib.sha256(), size
    file.seek(0)
    while left:
        part = file.read(min(left, _READ_AT_ONCE))
        if not part:
            break
        digest.update(part)
        left -= len(part)
    return digest.hexdigest().encode()
