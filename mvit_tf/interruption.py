"""Ends by a signal: at once, or once a training step is done and saved.

Imports nothing heavy: the command line uses it before TensorFlow is there.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

# SIGUSR1 is what SLURM's --signal=USR1@120 announces the end of a job with.
STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
)


class Interrupted(KeyboardInterrupt):
    """A signal ended the work.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int = signal.SIGINT):
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def exit_status(self) -> int:
        """What a shell reports of a process that the signal has killed: 130, 143, 138."""
        return 128 + self.number


class StopRequest:
    """Whether a signal has asked the work to stop; see `stop_requests`.

    Args:
        agree: gives the largest of the numbers that all workers call it with at the same place;
            by default there are no others.
    """

    def __init__(self, agree: Callable[[int], int] = int):
        self.number = None
        self._agree = agree
        self._at_once = False
        self.raised = False

    def receive(self, number: int):
        """Notes a signal; raises where nothing has to be finished."""
        self.number = number
        if self._at_once:
            self.raised = True
            self.check()

    def agree(self, due: bool = False) -> tuple[bool, bool]:
        """Whether a worker was asked to stop, and whether something is due on one of them.

        All workers get the same answer; where it is to stop, `check` raises on each.
        """
        largest = self._agree(2 * (self.number or 0) + due)
        if largest > 1:
            self.number = largest // 2
        return largest > 1, bool(largest % 2)

    def check(self):
        """Raises `Interrupted` if a signal has come."""
        if self.number is not None:
            raise Interrupted(self.number)

    @contextlib.contextmanager
    def obeyed_at_once(self) -> Iterator[None]:
        """Context of work that nothing is lost of: a signal ends it in the middle."""
        self._at_once = True
        try:
            self.check()
            yield
        finally:
            self._at_once = False


@contextlib.contextmanager
def stop_requests(request: StopRequest, *signals: int) -> Iterator[None]:
    """Within it the first of these signals is only noted; the next does what it did before.

    What the process was started to ignore stays ignored. Outside of the main thread signals are
    not this one's to handle.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in signals}
    before = {n: was for n, was in before.items() if was not in (signal.SIG_IGN, None)}

    def put_back():
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number, frame):
        put_back()
        request.receive(number)

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    except Exception as error:
        # Raised in a function that C code calls, it can come out as another error.
        if request.raised:
            raise Interrupted(request.number) from error
        raise
    finally:
        put_back()
