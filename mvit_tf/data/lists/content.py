"""Which files hold the same, without reading them whole."""

import collections
import hashlib
import os

from mvit_tf.data.records.index import record_content
from mvit_tf.data.records.reading import parse_record_name

_END = 64 * 1024


def size_of(path):
    """Bytes of a file or of the data of a record, or None where there is none to be read."""
    if parse_record_name(path):
        return record_content(path)[0]
    try:
        return os.path.getsize(path)
    except OSError:
        return None


def checksum(path):
    """A SHA-256 of the first and the last 64 KiB of a file and of its size, in hexadecimal.

    Two takes of a camera differ there, as do two encodings of one; it is not proof against a
    change on purpose. Of a record, it is of the checksum that the record has. None where the file
    cannot be read.
    """
    if parse_record_name(path):
        return record_content(path)[1]
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            content = file.read(_END)
            file.seek(max(size - _END, file.tell()))
            content += file.read(_END)
    except OSError:
        return None
    return hashlib.sha256(size.to_bytes(8, "big") + content).hexdigest()


def copies(paths):
    """Files that hold the same under several names.

    Args:
        paths: iterable of str. Only files that share their size are opened.

    Returns:
        sorted list of sorted lists of two paths or more; empty files and those that cannot be
        read are no copies.
    """
    by_content = collections.defaultdict(list)
    for same_size in _by_size(paths).values():
        if len(same_size) > 1:
            for path in same_size:
                by_content[checksum(path)].append(path)
    by_content.pop(None, None)
    return sorted(same for same in by_content.values() if len(same) > 1)


def copies_between(one, other):
    """Pairs (path of `one`, path of `other`) of different names that hold the same, sorted.

    Args:
        one, other: iterables of str. Only files that share their size with one of the other side
            are opened.
    """
    sides = _by_size(one), _by_size(set(other).difference(one))
    sizes = sides[0].keys() & sides[1].keys()
    content = [
        {checksum(path): path for size in sizes for path in reversed(side[size])} for side in sides
    ]
    both = (content[0].keys() & content[1].keys()) - {None}
    return sorted((content[0][key], content[1][key]) for key in both)


def _by_size(paths):
    """Size in bytes -> sorted paths of that size, of files that hold anything."""
    by_size = collections.defaultdict(list)
    for path in sorted(set(paths)):
        size = size_of(path)
        if size:
            by_size[size].append(path)
    return by_size
