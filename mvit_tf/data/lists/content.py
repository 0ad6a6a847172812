"""Which files hold the same, without reading them whole."""

import collections
import concurrent.futures
import hashlib
import os

from mvit_tf.data.remote import file_size, open_file
from mvit_tf.errors import UserError
from mvit_tf.urls import is_url

_END = 64 * 1024
# Requests to servers at a time.
_AT_ONCE = 32


def size_of(path):
    """Bytes of a file, or None where there is none to be read."""
    try:
        return file_size(path)
    except (OSError, UserError):
        return None


def of_each(function, paths):
    """dict path -> ``function(path)``; servers are asked for several files at a time.

    Args:
        function: `size_of` or `checksum`.
        paths: iterable of str.
    """
    paths = list(dict.fromkeys(paths))
    remote = [path for path in paths if is_url(path)]
    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        found = dict(zip(remote, pool.map(function, remote), strict=True))
    return {path: found[path] if path in found else function(path) for path in paths}


def checksum(path):
    """A SHA-256 of the first and the last 64 KiB of a file and of its size, in hexadecimal.

    Two takes of a camera differ there, as do two encodings of one; it is not proof against a
    change on purpose. None where the file cannot be read.
    """
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
    for same_size in _by_size(paths).values():
        if len(same_size) > 1:
            for path, content in of_each(checksum, same_size).items():
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
        found = of_each(checksum, [path for size in sizes for path in reversed(side[size])])
        content.append({key: path for path, key in found.items()})
    both = (content[0].keys() & content[1].keys()) - {None}
    return sorted((content[0][key], content[1][key]) for key in both)


def _by_size(paths):
    """Size in bytes -> sorted paths of that size, of files that hold anything."""
    by_size = collections.defaultdict(list)
    for path, size in of_each(size_of, sorted(set(paths))).items():
        if size:
            by_size[size].append(path)
    return by_size
