"""Files by URL, read in ranges by fsspec; what lies on this machine is opened as ever.

Imports neither TensorFlow nor, before the first URL is opened, fsspec: decode workers import it.
"""

import errno
import functools
import importlib
import io
import logging
import os
import re
import shutil
import tempfile
import threading
import time
import weakref

from mvit_tf.errors import UserError
from mvit_tf.urls import READABLE, is_url, scheme, without_query, without_secrets

# What fsspec needs for a scheme, beside itself.
_PACKAGES = {"http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "gs": "gcsfs"}
# One request reads so much; a seek into a large file costs no more.
_BLOCK_BYTES = 2**19
_BLOCKS_KEPT = 16
# Seconds to wait before a request that failed is made again.
_PAUSES = (0.5, 2.0)
# Seconds without a byte after which an HTTP server is taken not to answer.
_HTTP_SILENCE = 30
_HTTP_PASSING = (408, 425, 429)
_PERMANENT = (PermissionError, IsADirectoryError, NotADirectoryError, ValueError)


class RemoteError(OSError):
    """A URL that cannot be read, with the reason as `strerror`."""

    def __init__(self, reason):
        super().__init__(errno.EIO, reason)


def require_readable(path):
    """Refuses a URL that cannot be read in this installation; paths of this machine pass.

    Raises:
        UserError: a scheme that is not known here, or whose package is not installed.
    """
    kind = scheme(path)
    if kind is None:
        return
    if kind not in READABLE:
        raise UserError(
            f"{path}: {kind}:// cannot be read here; give a path of this machine (mounted, if need "
            "be), or http(s)://, s3:// or gs://"
        )
    for package in ("fsspec", _PACKAGES[kind]):
        try:
            importlib.import_module(package)
        except ImportError:
            raise UserError(
                f"{path}: {kind}:// needs the package {package}: pip install 'mvit_tf[remote]'"
            ) from None


def open_file(path):
    """A file of this machine or by URL, open for reading bytes.

    Raises:
        OSError: it cannot be opened; of a URL a FileNotFoundError or a `RemoteError`.
    """
    return io.BufferedReader(RemoteFile(path)) if is_url(path) else open(path, "rb")


def file_size(path):
    """Size in bytes.

    Raises:
        OSError: as `open_file`.
    """
    if not is_url(path):
        return os.path.getsize(path)
    with RemoteFile(path) as file:
        return file.seek(0, os.SEEK_END)


def is_folder(path):
    """Whether a path is a folder, or a URL that others start with; a web page is none for sure.

    Raises:
        OSError: of a URL it cannot be said.
    """
    if not is_url(path):
        return os.path.isdir(path)
    if scheme(path) in ("http", "https"):
        return without_query(path).endswith("/")
    files, name = _file_system(path)
    return _with_retries(lambda: files.isdir(name))


def is_file(path):
    """Whether a path is a file, or a URL that can be read.

    Raises:
        RemoteError: of a URL it cannot be said: the server refuses or does not answer.
    """
    if not is_url(path):
        return os.path.isfile(path)
    try:
        RemoteFile(path).close()
    except FileNotFoundError:
        return False
    return True


def files_under(url):
    """Sorted URLs of all files whose URL starts with that of a folder, at any depth.

    Raises:
        UserError: of http(s)://, which has no way to list files.
        OSError: it cannot be listed.
    """
    if scheme(url) in ("http", "https"):
        raise UserError(
            f"{url}: a web server's folders cannot be listed; give a list of the videos' URLs"
        )
    files, name = _file_system(url)
    found = _with_retries(lambda: files.find(name))
    return sorted(files.unstrip_protocol(path) for path in found)


class RemoteFile(io.RawIOBase):
    """A file by URL, read in blocks as they are wanted.

    Several open at a time on one URL share the blocks that were read.

    Args:
        url: str.

    Raises:
        FileNotFoundError: there is no such file.
        RemoteError: it cannot be read; also while reading, after some more tries.
    """

    def __init__(self, url):
        super().__init__()
        source = _SOURCES.get(url) or _Source(url)
        # Another thread may have come first; a server that does not answer must not hold up others.
        with _OPENING:
            self._source = _SOURCES.setdefault(url, source)
        self._position = 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def tell(self):
        return self._position

    def seek(self, offset, whence=os.SEEK_SET):
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._source.size}
        self._position = max(start[whence] + offset, 0)
        return self._position

    def readinto(self, buffer):
        data = self._source.read(self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


class _NoRangesError(Exception):
    """The server sends the whole file whatever range it is asked for."""


class _Source:
    """The bytes of a URL; for use by several threads.

    Attributes:
        size: int, in bytes.
    """

    def __init__(self, url):
        self._lock = threading.Lock()
        self._files, self._name = _file_system(url)
        info = _with_retries(lambda: self._files.info(self._name))
        if info.get("type") == "directory":
            raise RemoteError("a folder, not a file")
        self.size = info.get("size")
        if self.size is None or not info.get("partial", True):
            self._fetch_whole()
        else:
            self._file = self._files.open(
                self._name,
                "rb",
                block_size=_BLOCK_BYTES,
                cache_type="blockcache",
                cache_options={"maxblocks": _BLOCKS_KEPT},
                size=self.size,
            )

    def read(self, position, count):
        with self._lock:
            try:
                return _with_retries(lambda: self._read(position, count))
            except _NoRangesError:
                self._fetch_whole()
                return self._read(position, count)

    def _read(self, position, count):
        self._file.seek(min(position, self.size))
        try:
            return self._file.read(count)
        except ValueError as error:  # So fsspec says it.
            raise _NoRangesError from error

    def _fetch_whole(self):
        """Saves the file in a temporary one, as it cannot be read in ranges."""

        def fetch():
            whole = tempfile.TemporaryFile()  # noqa: SIM115  It stays open.
            with self._files.open(self._name, "rb", block_size=0) as stream:
                shutil.copyfileobj(stream, whole)
            return whole

        self._file = _with_retries(fetch)
        self.size = self._file.seek(0, os.SEEK_END)


# Of one URL, while it is open.
_SOURCES = weakref.WeakValueDictionary()
_OPENING = threading.Lock()


def _file_system(url):
    """(fsspec's file system of a URL, its name there)."""
    require_readable(url)
    import fsspec

    # Its account of each try comes beside ours, with a traceback.
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    options = _http_options() if scheme(url) in ("http", "https") else {}
    return fsspec.core.url_to_fs(url, **options)


@functools.cache
def _http_options():
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_HTTP_SILENCE, sock_read=_HTTP_SILENCE)
    # `trust_env`: proxies, and passwords from ~/.netrc.
    return {"client_kwargs": {"timeout": timeout, "trust_env": True}}


def _with_retries(request):
    """What `request()` returns, tried again where the failure may pass.

    Raises:
        FileNotFoundError, RemoteError: it failed for good.
    """
    for pause in (*_PAUSES, None):
        begun = time.monotonic()
        try:
            return request()
        except _NoRangesError:
            raise
        except Exception as error:
            status = _http_status(error)
            if status == 404 or (isinstance(error, FileNotFoundError) and not error.__cause__):
                raise FileNotFoundError(
                    errno.ENOENT, "HTTP 404" if status == 404 else "no such file"
                ) from None
            refused = status is not None and 400 <= status < 500 and status not in _HTTP_PASSING
            # Libraries of object stores try for long themselves.
            long_tried = time.monotonic() - begun > _HTTP_SILENCE
            if pause is None or refused or long_tried or isinstance(error, _PERMANENT):
                raise RemoteError(_reason(error, status)) from None
        time.sleep(pause)


def _causes(error):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _http_status(error):
    """The status of the answer that made a library give up; None where there was none."""
    for cause in _causes(error):
        answer = getattr(cause, "response", None)
        metadata = answer.get("ResponseMetadata", {}) if isinstance(answer, dict) else {}
        status = metadata.get("HTTPStatusCode") or getattr(cause, "status", None)
        if status is None:
            status = getattr(cause, "code", None)
        if re.fullmatch(r"[1-5][0-9]{2}", str(status)):
            return int(status)
    return None


def _reason(error, status):
    if status is not None:
        return f"HTTP {status}"
    first = list(_causes(error))[-1]
    if isinstance(first, TimeoutError):
        return "the server does not answer"
    lines = str(first).strip().splitlines()
    return without_secrets(lines[0]) if lines else type(first).__name__
