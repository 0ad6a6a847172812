"""Serves training clips from other machines: a tf.data service of one dispatcher and its workers.

  mvit data-service --port=5050                              on one machine: the dispatcher
  mvit data-service --dispatcher=HOST:5050 --host=THIS_HOST  on each machine that decodes
  mvit train ... --params_override=data.train=RECORDS,data.service=HOST:5050

Every machine reads the records by the same path. Runs until it is stopped, by Ctrl-C or SIGTERM.
The service knows no passwords: whoever reaches its ports can use it.
"""

import argparse
import signal
import time

from mvit_tf.cli.startup import INTERRUPTED_STATUS, interrupted_by

NAME = "data-service"
SUMMARY = "serve training clips from other machines"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dispatcher",
        metavar="HOST:PORT",
        help="be a worker of the dispatcher there (without it: be the dispatcher)",
    )
    parser.add_argument(
        "--host",
        default="localhost",
        help="the name by which the training reaches this worker (default: localhost)",
    )
    parser.add_argument(
        "--port", type=int, default=0, help="the port to listen on (default: any that is free)"
    )


def run(arguments: argparse.Namespace) -> int:
    from mvit_tf.data.service import check_service, start_dispatcher, start_worker

    if arguments.dispatcher is None:
        server = start_dispatcher(arguments.port)
        port = server.target.rsplit(":", 1)[1]
        print(f"dispatcher on port {port}", flush=True)
    else:
        check_service(arguments.dispatcher)
        server = start_worker(arguments.dispatcher, arguments.host, arguments.port)
        print(f"worker of {arguments.dispatcher}", flush=True)
    try:
        with interrupted_by(signal.SIGINT, signal.SIGTERM):
            # `join` of the server would wait in C++, where no signal reaches Python.
            while True:
                time.sleep(3600)
    except KeyboardInterrupt:
        return INTERRUPTED_STATUS
    finally:
        del server
