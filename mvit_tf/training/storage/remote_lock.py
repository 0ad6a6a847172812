"""Keeping two trainings out of one directory of an object store, which has no locks.

A training writes a file with a name of its own, and again every half minute for as long as it
runs. Another one that finds the file waits to see whether it changes: one that does not is of a
training that was killed. No clocks are compared. Two that begin within the same second both write
the file, and one of them finds the other's name in it: that one must end.
"""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator

from mvit_tf.remote_path import RemotePath

_PERIOD = 30.0
_PATIENCE = 3 * _PERIOD


class RemoteLock:
    """The file that says who trains in a directory, see `held_remotely`.

    Args:
        file: where it lies.
    """

    def __init__(self, file: RemotePath):
        self._file = file
        self._owner = {"host": socket.gethostname(), "pid": os.getpid(), "id": uuid.uuid4().hex}
        self._beats = 0
        self._stopped = threading.Event()

    def take(self):
        """Writes the file, after that of a training which no longer runs.

        Raises:
            BlockingIOError: another training runs.
            OSError: nothing can be read or written there.
        """
        found = self._read()
        if found and not self._is_gone(found):
            self._wait_for_change(found)
        self._beat()
        self._thread = threading.Thread(target=self._keep_beating, daemon=True)
        self._thread.start()

    def is_lost(self) -> bool:
        """Whether the file is another training's by now."""
        with contextlib.suppress(OSError):
            found = self._read()
            return found is not None and found.get("id") != self._owner["id"]
        return False  # It cannot be read at the moment.

    def give_back(self):
        """Removes the file, unless it is another's."""
        self._stopped.set()
        self._thread.join()  # A beat under way would write the file again.
        with contextlib.suppress(OSError):
            if not self.is_lost():
                self._file.unlink(missing_ok=True)

    def _read(self) -> dict | None:
        try:
            content = self._file.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return {"host": "?", "pid": 0, **json.loads(content)}
        except (ValueError, TypeError):  # Of no training of this project.
            return {"host": "?", "pid": 0}

    def _is_gone(self, found: dict) -> bool:
        """Whether it is of a process of this machine that has ended."""
        if found["host"] != self._owner["host"]:
            return False
        # A container started again has the name and often the number of the one before.
        return found["pid"] == self._owner["pid"] or not _runs(found["pid"])

    def _wait_for_change(self, found: dict):
        holder = f"on {found['host']}, process {found['pid']}"
        print(
            f"waiting     {self._file} is there: {_PATIENCE:.0f} s to see whether its training "
            f"({holder}) still runs",
            flush=True,
        )
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            time.sleep(_PERIOD / 10)
            now = self._read()
            if now is None:
                return
            if now != found:
                raise BlockingIOError(0, holder)

    def _beat(self):
        self._beats += 1
        self._file.write_text(json.dumps({**self._owner, "beats": self._beats}))

    def _keep_beating(self):
        while not self._stopped.wait(_PERIOD):
            with contextlib.suppress(OSError):  # The next time, perhaps.
                if self.is_lost():
                    return
                self._beat()


@contextlib.contextmanager
def held_remotely(file: RemotePath) -> Iterator[RemoteLock]:
    """Context in which a `RemoteLock` is held.

    Raises:
        BlockingIOError: another training holds it; its text says which.
        OSError: nothing can be read or written there.
    """
    lock = RemoteLock(file)
    lock.take()
    try:
        yield lock
    finally:
        lock.give_back()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
