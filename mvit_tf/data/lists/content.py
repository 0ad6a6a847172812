"""Which files hold the same, without reading them whole."""

import collections
import hashlib
import itertools
import os
from concurrent.futures import ThreadPoolExecutor

from mvit_tf.data.records.index import record_content
from mvit_tf.data.records.reading import parse_record_name
from mvit_tf.data.remote import file_size, open_file
from mvit_tf.errors import UserError
from mvit_tf.urls import is_url

_END = 64 * 1024
# Files looked at at once: on a network folder or server each takes a while, spent waiting.
_THREADS = 32
_FILES_A_THREAD = 64


def size_of(path):
    """Bytes of a file or of the data of a record, or None where there is none to be read."""
    if parse_record_name(path):
        return record_content(path)[0]
    try:
        return file_size(path)
    except (OSError, UserError):
        return None


def modified_at(path):
    """When a file of this machine was last written, in ns; None of others and of records."""
    if parse_record_name(path) or is_url(path):
        return None
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None


def of_all(function, paths):
    """dict path -> ``function(path)``, such as `size_of` or `checksum`, of many files at once."""
    paths = list(dict.fromkeys(paths))
    size = min(-(-len(paths) // _THREADS), _FILES_A_THREAD)
    parts = [paths[i : i + size] for i in range(0, len(paths), size or 1)]
    if not parts:
        return {}
    with ThreadPoolExecutor(min(_THREADS, len(parts))) as pool:
        found = pool.map(lambda part: [function(path) for path in part], parts)
        return dict(zip(paths, itertools.chain.from_iterable(found), strict=True))


def checksum(path):
    """A SHA-256 of the first and the last 64 KiB of a file and of its size, in hexadecimal.

    Two takes of a camera differ there, as do two encodings of one; it is not proof against a
    change on purpose. Of a record, it is of the checksum that the record has. None where the file
    cannot be read.
    """
    if parse_record_name(path):
        return record_content(path)[1]
    try:
        with open_file(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            content = file.read(_END)
            file.seek(max(size - _END, file.tell()))
            content += file.read(_END)
    except (OSError, UserError):
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
    same_size = [same for same in _by_size(paths).values() if len(same) > 1]
    for path, content in of_all(checksum, itertools.chain.from_iterable(same_size)).items():
        by_content[content].append(path)
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
    content = []
    for side in sides:
        found = of_all(checksum, itertools.chain.from_iterable(side[size] for size in sizes))
        # Of several the first by name.
        content.append({key: path for path, key in sorted(found.items(), reverse=True)})
    both = (content[0].keys() & content[1].keys()) - {None}
    return sorted((content[0][key], content[1][key]) for key in both)


def _by_size(paths):
    """Size in bytes -> sorted paths of that size, of files that hold anything."""
    by_size = collections.defaultdict(list)
    for path, size in of_all(size_of, sorted(set(paths))).items():
        if size:
            by_size[size].append(path)
    return by_size
