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
import signal
import struct
import subprocess
import sys
import threading
import time

import numpy as np

from mvit_tf.data.video.decoding import DecodeError
from mvit_tf.errors import UserError
from mvit_tf.module_process import module_command, module_environment

_SIZE = struct.Struct("<Q")
# Room for frames in a worker's pipe, which has 64 KiB otherwise. Linux gives a user 64 MiB in all.
_PIPE_BYTES = 2**18


def available_processors():
    """Processors that this process may use, which in a container can be few of the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_this_process(function, path, *args):
    """What `DecodeWorkers.run` does, without a worker: a crash or a hang is this process's."""
    return function(path, *args)


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
        if not 0 < time_limit <= threading.TIMEOUT_MAX:
            raise UserError(
                f"time_limit must be greater than 0 and at most {threading.TIMEOUT_MAX:.0f} "
                f"seconds, got {time_limit}"
            )
        self._time_limit = time_limit
        self._videos_per_worker = videos_per_worker
        self._free = threading.BoundedSemaphore(count)
        self._lock = threading.Lock()
        self._idle = []  # the last used is taken first: as few start as the work needs
        self._busy = set()
        self._closed = False

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        """Ends all workers, at once; what they were decoding is given up."""
        with self._lock:
            self._closed = True
            for worker in self._busy:
                worker.kill()
            for worker in self._idle:
                worker.end()
            self._idle.clear()

    def run(self, function, path, *args):
        """Runs ``function(path, *args)`` in a worker and yields what it yields.

        Args:
            function: a generator function at the top level of a module without TensorFlow.
            path: str. The video that it decodes.
            *args: anything that can be pickled.

        Raises:
            DecodeError: raised by the function; or the worker gave nothing within the time limit
                ("decoder_timeout") or crashed ("decoder_crash"), twice where it had given nothing.
            Exception: any other that the function raised.
        """
        given = False
        with self._free:
            # The first worker may have ended of itself, for want of memory or while the machine
            # slept: it is the video's fault if the next one ends too.
            for last_try in (False, True):
                try:
                    for item in self._ask((function, path, args)):
                        given = True
                        yield item
                    return
                except _WorkerEnded as ended:
                    if given or last_try:
                        raise DecodeError(path, ended.outcome, str(ended)) from None

    def _ask(self, request):
        worker = self._take()
        try:
            yield from worker.ask(request, self._time_limit)
        finally:
            self._give_back(worker)

    def _take(self):
        with self._lock:
            if self._closed:
                raise ValueError("these workers were closed")
            worker = self._idle.pop() if self._idle else _Worker()
            self._busy.add(worker)
            return worker

    def _give_back(self, worker):
        with self._lock:
            self._busy.discard(worker)
            keep = worker.idle and not self._closed and worker.videos < self._videos_per_worker
            if keep:
                self._idle.append(worker)
        if not keep:
            worker.end()


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
        self._process = subprocess.Popen(
            module_command(__name__),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # NumPy would start a thread for each processor in each worker.
            env=module_environment(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1"),
            # Ctrl-C is for the training process, which ends its workers.
            start_new_session=True,
        )
        _widen(self._process.stdout)

    def ask(self, request, time_limit):
        """Sends a request and yields the answers; raises what the worker raised."""
        self.videos += 1
        self.idle = False
        self._tell(request, time_limit)
        while True:
            kind, value = self._answer(time_limit)
            if kind == "item":
                yield value
                continue
            # One that was killed while its last answer came is not to be asked again.
            self.idle = not self._timed_out
            if kind == "error":
                raise value
            return

    def _tell(self, request, time_limit):
        try:
            _send(self._process.stdin, request)
        except OSError:
            raise self._ended(time_limit) from None

    def _answer(self, time_limit):
        timer = threading.Timer(time_limit, self._time_out)
        timer.daemon = True
        timer.start()
        try:
            return _receive(self._process.stdout)
        except (OSError, EOFError):
            raise self._ended(time_limit) from None
        finally:
            timer.cancel()

    def _time_out(self):
        self._timed_out = True
        self.kill()

    def _ended(self, time_limit):
        if self._timed_out:
            return _WorkerEnded(
                "decoder_timeout", f"the decoder gave nothing for {time_limit:g} s and was stopped"
            )
        try:
            # It is ending by itself: killed in the middle of that, it would not tell the signal.
            status = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.kill()
            status = self._process.wait()
        how = f"status {status}" if status >= 0 else signal.Signals(-status).name
        return _WorkerEnded("decoder_crash", f"the decoder crashed ({how})")

    def kill(self):
        """Ends the process; whoever reads from it finds that out."""
        self._process.kill()

    def end(self):
        """Ends the process and frees what it took; for the thread that used it."""
        self.kill()
        self._process.wait()
        self._process.stdout.close()
        with contextlib.suppress(OSError):
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


def _end_with(parent):
    """Ends this process, whatever it is decoding, soon after the one that started it."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


def main():
    """A worker: answers requests on stdin until it is closed."""
    # A scheduler tells all processes of a job; the training process ends its workers when it may.
    for name in ("SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # What a library prints must not come between the answers.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()

    def answer(message):
        try:
            _send(answers, message)
        except BrokenPipeError:  # The process that asked is gone, and nobody is left to tell.
            os._exit(0)

    while True:
        try:
            function, path, args = _receive(requests)
        except EOFError:
            return
        try:
            for item in function(path, *args):
                answer(("item", item))
            last = ("end", None)
        except Exception as error:
            last = ("error", error)
        answer(last)


if __name__ == "__main__":
    main()
