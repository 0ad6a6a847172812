"""Paths of model directories and exports: of this machine, or on an object store by TensorFlow.

A `RemotePath` has those methods of `pathlib.Path` that the project uses, on `tf.io.gfile`, and
raises `OSError` as they do. Object stores have no folders: a file's parents come with it.
TensorFlow is imported when the first remote path is made, not before.
"""

import contextlib
import errno
import functools
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mvit_tf.urls import WRITABLE, scheme, without_secrets


def as_path(path: "str | os.PathLike") -> "Path | RemotePath":
    """The path as an object: `pathlib.Path`, or `RemotePath` of a URL.

    Raises:
        UserError: a URL on which nothing can be kept in this installation.
    """
    if isinstance(path, RemotePath):
        return path
    if scheme(path) is None:
        return Path(path)
    _require_file_system(os.fspath(path))
    return RemotePath(os.fspath(path))


class RemotePath(os.PathLike):
    """A file or folder on an object store, such as ``gs://bucket/runs/mine``.

    Args:
        url: with a scheme that TensorFlow has a file system for, see `as_path`.
    """

    def __init__(self, url: str):
        self._url = url.rstrip("/")

    def __fspath__(self) -> str:
        return self._url

    def __str__(self) -> str:
        return without_secrets(self._url)

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __eq__(self, other) -> bool:
        return isinstance(other, RemotePath) and self._url == other._url

    def __hash__(self) -> int:
        return hash(self._url)

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(f"{self._url}/{name}")

    @property
    def name(self) -> str:
        return posixpath.basename(self._url)

    @property
    def suffix(self) -> str:
        return posixpath.splitext(self._url)[1]

    @property
    def parent(self) -> "RemotePath":
        return RemotePath(posixpath.dirname(self._url))

    def exists(self) -> bool:
        with _os_errors():
            return _gfile().exists(self._url)

    def is_dir(self) -> bool:
        with _os_errors():
            return _gfile().isdir(self._url)

    def is_file(self) -> bool:
        return self.exists() and not self.is_dir()

    def iterdir(self) -> Iterator["RemotePath"]:
        with _os_errors():
            names = _gfile().listdir(self._url)
        # Names of folders end in a slash, and an object may stand for the folder itself.
        yield from (self / name.strip("/") for name in names if name.strip("/"))

    def mkdir(self, parents: bool = False, exist_ok: bool = False):
        """Does nothing: there are no folders to make."""

    def read_bytes(self) -> bytes:
        with _os_errors(), _gfile().GFile(self._url, "rb") as file:
            return file.read()

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def write_text(self, text: str):
        """Writes the file in one go, in UTF-8."""
        with _os_errors(), _gfile().GFile(self._url, "wb") as file:
            file.write(text.encode("utf-8"))

    def unlink(self, missing_ok: bool = False):
        try:
            with _os_errors():
                _gfile().remove(self._url)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def fetch_to(self, local: Path):
        """Copies the file to one of this machine."""
        with _os_errors():
            _gfile().copy(self._url, os.fspath(local), overwrite=True)

    def put(self, local: Path):
        """Makes the file a copy of one of this machine; readers see the old one or the new one.

        Raises:
            OSError: it could not be written, or is not as long as the copied one.
        """
        with _os_errors():
            _gfile().copy(os.fspath(local), self._url, overwrite=True)
            written = _gfile().stat(self._url).length
        size = local.stat().st_size
        if written != size:
            raise OSError(errno.EIO, f"{self}: {written} of {size} bytes arrived")


@contextlib.contextmanager
def reached(path: "Path | RemotePath") -> Iterator[None]:
    """Context in which a remote path that cannot be read or written is a `UserError`.

    What fails on this machine passes through as it is.
    """
    from mvit_tf.errors import UserError

    try:
        yield
    except OSError as error:
        if not isinstance(path, RemotePath):
            raise
        raise UserError(
            f"{path} cannot be read or written: {error.strerror or error}; when that is put "
            "right, the same command goes on"
        ) from error


def _require_file_system(url: str):
    from mvit_tf.errors import UserError

    kind = scheme(url)
    if kind not in WRITABLE:
        raise UserError(
            f"{url}: nothing can be kept on {kind}://; choose a folder of this machine, gs:// or "
            "s3://"
        )
    if kind not in _schemes():
        raise UserError(
            f"{url}: s3:// needs TensorFlow 2.16 with tensorflow-io's file systems: pip install "
            "'mvit_tf[s3]' in an environment of its own; or choose a folder of this machine or "
            "gs://"
        )


@functools.cache
def _schemes() -> frozenset[str]:
    """The schemes that TensorFlow has file systems for, with tensorflow-io where that loads."""
    import warnings

    import tensorflow as tf

    schemes = _gfile().get_registered_schemes()
    if "s3" not in schemes and tf.__version__.startswith("2.16."):
        with warnings.catch_warnings(), contextlib.suppress(ImportError, NotImplementedError):
            warnings.simplefilter("ignore")
            import tensorflow_io  # noqa: F401  Registers its file systems.

            schemes = _gfile().get_registered_schemes()
    return frozenset(schemes)


def _gfile():
    import tensorflow as tf

    return tf.io.gfile


@contextlib.contextmanager
def _os_errors():
    """Context in which what TensorFlow raises of files becomes an `OSError` of one line."""
    import tensorflow as tf

    kinds = {
        tf.errors.NotFoundError: (FileNotFoundError, errno.ENOENT),
        tf.errors.PermissionDeniedError: (PermissionError, errno.EACCES),
        tf.errors.UnauthenticatedError: (PermissionError, errno.EACCES),
    }
    try:
        yield
    except tf.errors.OpError as error:
        kind, number = kinds.get(type(error), (OSError, errno.EIO))
        first = re.split(r"\n|\bwhen (?=reading|writing|uploading)", str(error.message).strip())[0]
        raise kind(number, without_secrets(first)[:300]) from None
