"""Downloads a file whole or not at all: resumed when cut, checked, renamed at the end."""

import hashlib
import http.client
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from mvit_tf.errors import UserError
from mvit_tf.files import write_atomically

_ATTEMPTS = 5
_TIMEOUT = 60  # seconds without a byte
_CHUNK = 1 << 20
_PATIENCE = 2.0  # seconds before the second attempt, doubled for each further one
_PASSING_STATUS = (408, 425, 429, 500, 502, 503, 504)


class _Cut(Exception):
    """The connection ended early; what has arrived is kept for the next attempt."""


def download(url, destination, *, sha256=None, check=None, patience=_PATIENCE):
    """Fetches a file; a cut connection is resumed where the server can, else begun again.

    Until all of it has arrived and been checked it lies under a temporary name beside the
    destination, which is removed when this fails: there is never half a file.

    Args:
        url: of http or https.
        destination: path of the file; its folder is created.
        sha256: hexadecimal SHA-256 of the content, or as many of its first digits as are known.
        check: called with the path of the complete file; raises UserError to refuse it.
        patience: seconds to wait before the second attempt.

    Returns:
        SHA-256 of the content.

    Raises:
        UserError: the server refuses, answers with a web page, or keeps breaking off; the
            content has another checksum or is refused by `check`; the disk is full or may not be
            written.
    """
    destination = Path(destination)
    found = []

    def fill(part):
        _fetch_all(url, part, destination.name, patience)
        found.append(_check_content(url, part, sha256, check))

    try:
        write_atomically(destination, fill)
    except OSError as error:
        raise UserError(
            f"{destination} cannot be written ({error.strerror or error}); free some space or set "
            "KERAS_HOME to another folder"
        ) from error
    return found[0]


def sha256_of(path):
    """SHA-256 of a file's content, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch_all(url, part, name, patience):
    validator, reason = None, ""
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(patience * 2 ** (attempt - 1))
        try:
            with _open(url, part, validator) as response:
                validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
                _receive(url, response, part, name)
            return
        except _Cut as error:
            reason = str(error)
    raise UserError(
        f"{url} could not be fetched in {_ATTEMPTS} attempts, the last of which ended with: "
        f"{reason}; try again later, or download it yourself and give its path as weights"
    )


def _open(url, part, validator):
    """The response to a request of all that `part` still lacks."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "mvit_tf"})
    # Without If-Range, a file replaced between two attempts would be glued to the old one.
    if have and validator:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", validator)
    try:
        return urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            part.unlink(missing_ok=True)
        if error.code in (416, *_PASSING_STATUS):
            raise _Cut(f"HTTP {error.code} {error.reason}") from error
        raise UserError(
            f"{url} answered HTTP {error.code} {error.reason}; download the file elsewhere and "
            "give its path as weights"
        ) from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError) as error:
        raise _Cut(str(getattr(error, "reason", error))) from error
    except ConnectionError as error:
        raise _Cut(str(error)) from error


def _receive(url, response, part, name):
    if response.headers.get_content_type() == "text/html":
        raise UserError(
            f"{url} answered with a web page in place of the file; look at it in a browser, "
            "download the file by hand and give its path as weights"
        )
    resumed = response.status == 206
    have = part.stat().st_size if resumed else 0
    if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        part.unlink()
        raise _Cut("another part than asked for")
    length = response.headers.get("Content-Length")
    total = have + int(length) if length else None
    _check_space(part, total, have)
    with open(part, "ab" if resumed else "wb") as file:
        while chunk := _read(response):
            file.write(chunk)
            have += len(chunk)
            _show_progress(name, have, total)
    if total is not None and have < total:
        raise _Cut(f"{have} of {total} bytes")


def _read(response):
    """The next bytes; network errors apart from those of the disk."""
    try:
        return response.read(_CHUNK)
    except (http.client.HTTPException, OSError) as error:
        raise _Cut(str(error) or "connection cut") from error


def _check_space(part, total, have):
    if total is None:
        return
    free = shutil.disk_usage(part.parent).free
    if total - have > free:
        raise UserError(
            f"{part.parent} has {free / 2**20:,.0f} MiB free and the file needs "
            f"{(total - have) / 2**20:,.0f}; free some space or set KERAS_HOME to another folder"
        )


def _check_content(url, part, sha256, check):
    found = sha256_of(part)
    if not found.startswith(sha256 or ""):
        raise UserError(
            f"{url} holds other bytes than expected: its SHA-256 is {found} and should be "
            f"{sha256}; try again, and if it stays so do not use the file"
        )
    if check is not None:
        try:
            check(part)
        except UserError as error:
            raise UserError(str(error).replace(os.fspath(part), url)) from error
    return found


def _show_progress(name, have, total):
    if sys.stderr.isatty():
        of = f" of {total / 2**20:,.0f}" if total else ""
        end = "\n" if have == total else ""
        print(f"\r{name}: {have / 2**20:,.0f}{of} MiB", end=end, file=sys.stderr, flush=True)
