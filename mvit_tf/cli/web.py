"""A page in the browser: drop a video, see what the model makes of it.

MODEL is what `mvit predict` takes: a model directory of training, an export or a .keras file.
The page shows the most probable classes, the frames that were used, the classes along the video
and, of a Keras model (not of an export), which parts of the frames mattered.

By default only this machine reaches the page; there are no passwords. Runs until Ctrl-C (exit
status 130) or SIGTERM (0).
"""

import argparse

from mvit_tf.cli.serve import add_address

NAME = "web"
SUMMARY = "a page in the browser: drop a video, see its classes, time line and heat map"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a model directory, an export or .keras")
    add_address(parser, 7860)
    parser.add_argument("--examples", metavar="FOLDER", help="videos for a gallery on the page")


def run(arguments: argparse.Namespace) -> int:
    import tempfile
    from pathlib import Path

    from mvit_tf.server.extras import require_packages
    from mvit_tf.server.page import build_page, example_videos, launch, prepare_gradio
    from mvit_tf.server.running import listening_socket, wait_for_signal

    require_packages("mvit web", "web")
    examples = example_videos(arguments.examples) if arguments.examples else ()
    # Tried before the model is loaded, which takes a while.
    listening_socket(arguments.host, arguments.port).close()
    with tempfile.TemporaryDirectory(prefix="mvit_web_") as folder:
        prepare_gradio(Path(folder))

        from mvit_tf.export.predictor import open_predictor
        from mvit_tf.server.report import VideoReporter

        predictor = open_predictor(arguments.model)
        reporter = VideoReporter(predictor, Path(folder), arguments.time_limit)
        page = build_page(reporter, predictor.metadata, arguments.max_upload, examples)
        url = launch(
            page, host=arguments.host, port=arguments.port, max_upload=arguments.max_upload
        )
        print(f"a page for {arguments.model} on {url}", flush=True)
        try:
            return wait_for_signal()
        finally:
            page.close(verbose=False)
