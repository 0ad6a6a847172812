"""Decoding in processes of their own, so that no video can take the training down with it.

A decoder that hangs is killed after a time limit, one that crashes is noticed, and either is
replaced; a worker ends after a number of videos, so what FFmpeg leaks does not add up. The
interpreter of the training process is free meanwhile: its threads only wait.

`multiprocessing` is not used: its workers import the program that started them, and a pool
shares one pipe, which a killed worker can leave locked.
"""

import contextlib
import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import threading

import numpy as np

from mvit_tf.data.decoding import DecodeError
from mvit_tf.errors import UserError

_SIZE = struct.Struct("<Q")
# Room for frames in the pipe between a worker's writes; 64 KiB by default, 1 MiB at most.
_PIPE_BYTES = 2**20


class DecodeWorkers:
    """Processes that run generator functions; each is used by one thread at a time.

    A worker is started when it is first needed, and lives until `close` or the end of this
    process, however that comes. May be used as a context manager.

    Args:
        count: int. Worker processes, at most; a call that finds none idle waits for one.
        time_limit: float, seconds. A worker that yields nothing for so long is killed.
        videos_per_worker: int. A worker is replaced after so many.

    Raises:
        UserError: a value out of range.
    """

    def __init__(self, count, *, time_limit=120.0, videos_per_worker=1000):
        for name, value in (("count", count), ("videos_per_worker", videos_per_worker)):
            if value < 1:
                raise UserError(f"{name} must be at least 1, got {value}")
        if time_limit <= 0:
            raise UserError(f"time_limit must be greater than 0, got {time_limit}")
        self._time_limit = time_limit
        self._videos_per_worker = videos_per_worker
        self._idle = queue.LifoQueue()  # the last used first: as few as the work needs start
        for _ in range(count):
            self._idle.put(None)
        self._count = count
        self._closed = False

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        """Ends the workers that are idle; one at work ends with its video."""
        self._closed = True
        for _ in range(self._count):
            try:
                worker = self._idle.get_nowait()
            except queue.Empty:
                break
            if worker is not None:
                worker.end()
            self._idle.put_nowait(None)

    def run(self, function, path, *args):
        """Runs ``function(path, *args)`` in a worker and yields what it yields.

        Args:
            function: a generator function at the top level of a module without TensorFlow.
            path: str. The video that it decodes.
            *args: anything that can be pickled.

        Raises:
            DecodeError: raised by the function; or the worker gave nothing within the time limit
                ("decoder_timeout") or crashed ("decoder_crash").
            Exception: any other that the function raised.
        """
        worker = self._idle.get()
        try:
            if self._closed:
                raise ValueError("these workers were closed")
            if worker is None:
                worker = _Worker()
            yield from worker.ask((function, path, args), self._time_limit)
        except _WorkerEnded as ended:
            raise DecodeError(path, ended.outcome, str(ended)) from None
        finally:
            spent = worker is not None and worker.videos >= self._videos_per_worker
            if worker is not None and (spent or self._closed or not worker.idle):
                worker.end()
                worker = None
            self._idle.put(worker)


class _WorkerEnded(Exception):
    def __init__(self, outcome, reason):
        super().__init__(reason)
        self.outcome = outcome


class _Worker:
    """A process running `main` of this module, and the pipes to it.

    Attributes:
        videos: int, asked of it so far.
        idle: bool, whether it waits for a request.
    """

    def __init__(self):
        self.videos = 0
        self.idle = True
        self._timed_out = False
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            # Ctrl-C is for the training process, which ends its workers.
            start_new_session=True,
        )
        _widen(self._process.stdout)

    def ask(self, request, time_limit):
        """Sends a request and yields the answers; raises what the worker raised."""
        self.videos += 1
        self.idle = False
        try:
            _send(self._process.stdin, request)
            while True:
                kind, value = self._answer(time_limit)
                if kind == "item":
                    yield value
                    continue
                self.idle = True
                if kind == "error":
                    raise value
                return
        except (BrokenPipeError, EOFError):
            raise self._ended(time_limit) from None

    def _answer(self, time_limit):
        timer = threading.Timer(time_limit, self._time_out)
        timer.daemon = True
        timer.start()
        try:
            return _receive(self._process.stdout)
        finally:
            timer.cancel()

    def _time_out(self):
        self._timed_out = True
        self._process.kill()

    def _ended(self, time_limit):
        if self._timed_out:
            return _WorkerEnded(
                "decoder_timeout", f"the decoder gave nothing for {time_limit:g} s and was stopped"
            )
        status = self._process.wait()
        how = f"status {status}" if status >= 0 else signal.Signals(-status).name
        return _WorkerEnded("decoder_crash", f"the decoder crashed ({how})")

    def end(self):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()


def _send(pipe, message):
    """A message as its pickle and the buffers of its arrays, each after its size."""
    buffers = []
    parts = [pickle.dumps(message, protocol=5, buffer_callback=buffers.append)]
    parts += [buffer.raw() for buffer in buffers]
    pipe.write(_SIZE.pack(len(parts)))
    for part in parts:
        pipe.write(_SIZE.pack(memoryview(part).nbytes))
        pipe.write(part)
    pipe.flush()


def _receive(pipe):
    (count,) = _SIZE.unpack(_read(pipe, _SIZE.size))
    first, *buffers = (_read(pipe, _SIZE.unpack(_read(pipe, _SIZE.size))[0]) for _ in range(count))
    return pickle.loads(first, buffers=buffers)


def _read(pipe, size):
    """`size` bytes, in memory that an array may take over."""
    data = np.empty(size, np.uint8)
    if pipe.readinto(data) < size:
        raise EOFError
    return data


def _widen(pipe):
    """Fewer wake-ups for each clip, where the system has pipes of several sizes."""
    try:
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except (ImportError, AttributeError, OSError):
        pass


def main():
    """A worker: answers requests on stdin until it is closed."""
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # What a library prints must not come between the answers.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # The process that asked may be gone at any moment, and nobody is left to tell.
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            function, path, args = _receive(requests)
            try:
                for item in function(path, *args):
                    _send(answers, ("item", item))
                answer = ("end", None)
            except BrokenPipeError:
                raise
            except Exception as error:
                answer = ("error", error)
            _send(answers, answer)


if __name__ == "__main__":
    main()
