"""Reading a generator in a thread, a few items ahead of who takes them."""

import contextlib
import queue
import threading

_END = object()


class _Failure:
    def __init__(self, error):
        self.error = error


@contextlib.contextmanager
def read_ahead(items, depth=2):
    """Context with an iterator of what a generator yields, which runs in a thread meanwhile.

    Args:
        items: the generator; closed at the end, in its thread.
        depth: int. How many items may wait to be taken.

    Yields:
        iterator; it raises what the generator raises.
    """
    waiting = queue.Queue(depth)
    stopped = threading.Event()

    def put(item):
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put(item, timeout=0.1)
                return

    def read():
        last = _END
        try:
            with contextlib.closing(items):
                for item in items:
                    put(item)
                    if stopped.is_set():
                        return
        except Exception as error:
            last = _Failure(error)
        put(last)

    def taken():
        while (item := waiting.get()) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            yield item

    # A daemon: who is interrupted does not wait for a decoder.
    threading.Thread(target=read, daemon=True).start()
    try:
        yield taken()
    finally:
        stopped.set()
