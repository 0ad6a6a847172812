"""Files of record sets: of this machine by Python, of others ("gs://") by TensorFlow."""

import glob
import os
import tempfile
from pathlib import Path

from mvit_tf import files


def is_remote(path):
    """Whether a path names a file system that only TensorFlow reaches."""
    return "://" in path


def open_file(path):
    """Opens a file for reading, in binary; to be closed by the caller.

    Raises:
        OSError: it cannot be.
    """
    return _RemoteFile(path) if is_remote(path) else open(path, "rb")


def size_of(path):
    """Bytes of a file.

    Raises:
        OSError: it cannot be reached.
    """
    if not is_remote(path):
        return os.path.getsize(path)
    with _RemoteFile(path) as file:
        return file.size()


def exists(path):
    """Whether there is a file."""
    if not is_remote(path):
        return os.path.exists(path)
    import tensorflow as tf

    with _os_errors(path):
        return tf.io.gfile.exists(path)


def matching(pattern):
    """Sorted list of the files whose paths match."""
    if not is_remote(pattern):
        return sorted(glob.glob(pattern))
    import tensorflow as tf

    with _os_errors(pattern):
        return sorted(tf.io.gfile.glob(pattern))


def within(folder, name):
    """The path of a file in a folder."""
    return f"{folder.rstrip('/')}/{name}" if is_remote(folder) else os.path.join(folder, name)


def listed(folder):
    """Sorted list of the paths of what lies in a folder; empty where there is no folder."""
    if not is_remote(folder):
        names = os.listdir(folder or ".") if os.path.isdir(folder or ".") else []
    else:
        import tensorflow as tf

        with _os_errors(folder):
            names = tf.io.gfile.listdir(folder) if tf.io.gfile.isdir(folder) else []
    return sorted(within(folder, name) for name in names)


def write_atomically(path, fill):
    """`files.write_atomically`, on any file system.

    On one of another machine, `fill` writes a temporary file of this one, which is copied: object
    stores show an object only when it is complete.

    Args:
        path: str.
        fill: function of the Path to write to.

    Raises:
        OSError: it cannot be written.
    """
    if not is_remote(path):
        files.write_atomically(Path(path), fill)
        return
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder, _os_errors(path):
        temporary = Path(folder) / path.rsplit("/", 1)[1]
        fill(temporary)
        tf.io.gfile.makedirs(path.rsplit("/", 1)[0])
        tf.io.gfile.copy(str(temporary), path, overwrite=True)


def write_text(path, text):
    """`write_atomically` of a text in UTF-8; file names in it as `files.printable`."""
    write_atomically(path, lambda temporary: temporary.write_bytes(files.printable(text).encode()))


def remove_folder(folder):
    """Removes a folder of files, if it is there."""
    if is_remote(folder):
        import tensorflow as tf

        with _os_errors(folder):
            if tf.io.gfile.isdir(folder):
                tf.io.gfile.rmtree(folder)
    elif os.path.isdir(folder):
        for path in Path(folder).iterdir():
            path.unlink()
        os.rmdir(folder)


class _RemoteFile:
    """tf.io.gfile.GFile, whose errors are OSErrors here; TensorFlow's tell nothing a file lacks."""

    def __init__(self, path):
        import tensorflow as tf

        self._path = path
        self._file = tf.io.gfile.GFile(path, "rb")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()

    def seek(self, offset):
        with _os_errors(self._path):
            self._file.seek(offset)

    def read(self, size=-1):
        with _os_errors(self._path):
            return self._file.read(size)

    def size(self):
        with _os_errors(self._path):
            return self._file.size()


class _os_errors:
    """Context in which TensorFlow's errors of file systems are OSErrors."""

    def __init__(self, path):
        self._path = path

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        import tensorflow as tf

        if isinstance(error, tf.errors.NotFoundError):
            raise FileNotFoundError(self._path) from None
        if isinstance(error, tf.errors.OpError):
            raise OSError(error.message) from None
