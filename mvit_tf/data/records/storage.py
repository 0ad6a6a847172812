"""Files of record sets: of this machine by Python, of others ("gs://") by TensorFlow."""

import glob
import os


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
