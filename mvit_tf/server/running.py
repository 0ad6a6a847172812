"""A server from its socket to its end."""

import contextlib
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from absl import logging

from mvit_tf.errors import UserError
from mvit_tf.interruption import Interrupted

# Connections beside those of requests in work: health checks, and clients that stay connected.
_MORE_CONNECTIONS = 256
# For what ends at its time limit to be answered.
_GRACE_SECONDS = 5
# After a second signal, for the server to close what is open.
_CLOSING_SECONDS = 3
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens on an address; of port 0, on any that is free.

    Who connects waits until the server answers. Two that are only bound could share a port, which
    the second would be told no sooner than when it is to answer.

    Raises:
        UserError: it is taken, or not this machine's.
    """
    if not 0 <= port < 2**16:  # The system would take it modulo 65536.
        raise UserError(f"--port={port}: must lie between 0 (any that is free) and 65535")
    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()
        except BaseException:
            listener.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"cannot listen on --host={host} --port={port}: {reason}; --port=0 takes a free one"
        ) from None
    return listener


def address_of(listener: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port, *_ = listener.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.contextmanager
def application(predictor, limits) -> Iterator:
    """The application that answers requests, warmed up; its processes end with the context.

    Args:
        predictor: VideoPredictor.
        limits: ServerLimits.
    """
    from mvit_tf.server.app import create_app
    from mvit_tf.server.metrics import ServerMetrics
    from mvit_tf.server.service import PredictionService

    metrics = ServerMetrics()
    with tempfile.TemporaryDirectory(prefix="mvit_serve_") as folder:
        service = PredictionService(predictor, limits, metrics.record_batch)
        try:
            service.warm_up()
            yield create_app(service, limits, metrics, Path(folder))
        finally:
            service.close()


def http_server(app, *, requests: int, grace: float):
    """The uvicorn.Server of an application.

    Args:
        app: answers.
        requests: that are in work at once, at most.
        grace: seconds in which those are answered once it is to stop.
    """
    import uvicorn

    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=requests + _MORE_CONNECTIONS,
        timeout_graceful_shutdown=int(grace) + _GRACE_SECONDS,
    )
    return uvicorn.Server(config)


def serve_until_stopped(server, listener: socket.socket, started: Callable[[], None]) -> int:
    """Answers requests until a signal comes, then those that are in work.

    Args:
        server: of `http_server`.
        listener: of `listening_socket`.
        started: called once requests are answered.

    Returns:
        The exit status: 0 after SIGTERM, 130 after Ctrl-C, 143 where a second signal came after
        SIGTERM.
    """
    # In a thread uvicorn leaves the signals alone, so that what it ends with is decided here.
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [listener]}, name="http", daemon=True
    )
    received, cut_off = [], None

    def handle(number, frame):
        nonlocal cut_off
        if received and cut_off is None:
            cut_off = time.monotonic()
        received.append(number)
        server.force_exit = server.should_exit
        server.should_exit = True

    before = {number: signal.signal(number, handle) for number in STOP_SIGNALS}
    try:
        thread.start()
        while thread.is_alive() and not server.started:
            thread.join(0.05)
        if server.started:
            started()
        told = False
        while thread.is_alive():
            thread.join(0.2)
            if received and not told:
                logging.info("stopping: what is in work is answered, nothing new is taken")
                told = True
            # One that hangs does not hear of it.
            if cut_off is not None and time.monotonic() - cut_off > _CLOSING_SECONDS:
                break
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if not received:
        raise UserError("the server ended by itself; see above")
    return _exit_status(received)


def _exit_status(received):
    """0 after one SIGTERM, which is how a service is ended; 130 and 143 as a shell has them."""
    if received == [signal.SIGTERM]:
        return 0
    return Interrupted(received[0]).exit_status
