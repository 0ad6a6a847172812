"""Answers requests over HTTP with the classes of the videos they send.

MODEL is what `mvit predict` takes: a model directory of training, an export, a .keras file, a
preset (also hf://user/name), or an export for LiteRT, ONNX Runtime or OpenVINO.

  mvit serve runs/mine/export
  curl --data-binary @video.mp4 http://127.0.0.1:8000/predict

http://127.0.0.1:8000/docs shows all that can be asked. There are no passwords and no encryption:
whoever reaches the port can use it, so by default only this machine does.

Runs until Ctrl-C (exit status 130) or SIGTERM (0): requests in work are answered first. A second
signal cuts them off.
"""

import argparse
import signal
from collections.abc import Callable

from mvit_tf.cli.arguments import positive_int, positive_number
from mvit_tf.cli.plan import bytes_of
from mvit_tf.cli.startup import interrupted_by
from mvit_tf.interruption import Interrupted

NAME = "serve"
SUMMARY = "a small HTTP server: videos in, classes out"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_address(parser, 8000, time_limit="in which a request has to be done, its upload included")
    parser.add_argument(
        "--max_batch_size",
        type=positive_int,
        default=8,
        metavar="N",
        help="clips of the same size that the model takes at once, of any requests (8)",
    )
    parser.add_argument(
        "--max_wait_ms",
        type=float,
        default=5.0,
        metavar="MS",
        help="milliseconds that a clip waits for others to share a batch with (5)",
    )
    parser.add_argument(
        "--max_queue",
        type=positive_int,
        default=64,
        metavar="N",
        help="requests in work or waiting; further ones are answered with 503 (64)",
    )
    parser.add_argument(
        "--workers",
        type=positive_int,
        metavar="N",
        help="processes that decode (one a processor, 8 at most)",
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """The model that `mvit web` takes too."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a model directory, an export, a .keras file, a preset (also hf://user/name), or an "
        "export for LiteRT, ONNX Runtime or OpenVINO",
    )


def add_address(parser: argparse.ArgumentParser, port: int, *, time_limit: str) -> None:
    """The arguments that `mvit web` has too.

    Args:
        parser: to add them to.
        port: by default.
        time_limit: what has to be done in it.
    """
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this machine only)"
    )
    parser.add_argument("--port", type=int, default=port, help=f"({port}); 0: any that is free")
    parser.add_argument(
        "--max_upload",
        type=bytes_of,
        default="200M",
        metavar="SIZE",
        help="largest upload, such as 200M or 1GiB (200M)",
    )
    parser.add_argument(
        "--time_limit",
        type=positive_number,
        default=120.0,
        metavar="SECONDS",
        help=f"{time_limit} (120)",
    )


def run(arguments: argparse.Namespace) -> int:
    return until_terminated(lambda: _run(arguments))


def until_terminated(work: Callable[[], int]) -> int:
    """What `work` returns; 0 where SIGTERM comes before it serves, after it has tidied up."""
    try:
        with interrupted_by(signal.SIGTERM):
            return work()
    except Interrupted as interruption:
        if interruption.number != signal.SIGTERM:
            raise
        return 0


def _run(arguments):
    from mvit_tf.server.extras import require_packages
    from mvit_tf.server.limits import ServerLimits
    from mvit_tf.server.running import (
        address_of,
        application,
        http_server,
        listening_socket,
        serve_until_stopped,
    )

    require_packages("mvit serve", "serve")
    names = ("max_batch_size", "max_wait_ms", "max_upload", "time_limit", "max_queue")
    values = {name: getattr(arguments, name) for name in names}
    if arguments.workers is not None:
        values["workers"] = arguments.workers
    limits = ServerLimits(**values)

    # Before the model is loaded, which takes a while.
    with listening_socket(arguments.host, arguments.port) as listener:
        from mvit_tf.export.predictor import open_predictor

        address = address_of(listener)

        def started():
            print(f"serving {arguments.model} on {address} ({address}/docs)", flush=True)

        with application(open_predictor(arguments.model), limits) as app:
            server = http_server(app, requests=limits.max_queue, grace=limits.time_limit)
            return serve_until_stopped(server, listener, started)
