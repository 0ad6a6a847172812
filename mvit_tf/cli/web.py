"""A page in the browser: drop a video, see what the model makes of it.

MODEL is what `mvit predict` takes: a model directory of training, an export, a .keras file, a
preset (also hf://user/name), or an export for LiteRT, ONNX Runtime or OpenVINO.
The page shows the most probable classes, the frames that were used, the classes along the video
and, of a Keras model (not of an export), which parts of the frames mattered.

By default only this machine reaches the page; there are no passwords. Runs until Ctrl-C (exit
status 130) or SIGTERM (0).
"""

import argparse

from mvit_tf.cli.serve import add_address, add_model, until_terminated

NAME = "web"
SUMMARY = "a page in the browser: drop a video, see its classes, time line and heat map"
# Connections of open pages, beside those that are waited for.
_VISITORS = 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_address(
        parser,
        7860,
        time_limit="after which a video is decoded no further; its upload takes what it takes",
    )
    parser.add_argument("--examples", metavar="FOLDER", help="videos for a gallery on the page")


def run(arguments: argparse.Namespace) -> int:
    return until_terminated(lambda: _run(arguments))


def _run(arguments):
    import tempfile
    from pathlib import Path

    from mvit_tf.server.extras import require_packages
    from mvit_tf.server.page import (
        build_page,
        example_videos,
        page_application,
        prepare_gradio,
    )
    from mvit_tf.server.running import (
        address_of,
        http_server,
        listening_socket,
        serve_until_stopped,
    )

    require_packages("mvit web", "web")
    examples = example_videos(arguments.examples) if arguments.examples else ()
    with (
        tempfile.TemporaryDirectory(prefix="mvit_web_") as folder,
        # Before the model is loaded, which takes a while.
        listening_socket(arguments.host, arguments.port) as listener,
    ):
        prepare_gradio(Path(folder))

        from mvit_tf.export.predictor import open_predictor
        from mvit_tf.server.report import VideoReporter

        predictor = open_predictor(arguments.model)
        reporter = VideoReporter(predictor, Path(folder), arguments.time_limit)
        page = build_page(reporter, predictor.metadata, arguments.max_upload, examples)
        app = page_application(page, arguments.max_upload)
        # A page that is open keeps its connection: there is no answer to wait for.
        server = http_server(app, requests=_VISITORS, grace=0)

        def started():
            print(f"a page for {arguments.model} on {address_of(listener)}", flush=True)

        return serve_until_stopped(server, listener, started)
