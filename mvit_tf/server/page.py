"""The page of `mvit web`, by Gradio."""

import html
import os
from collections.abc import Sequence
from pathlib import Path

from mvit_tf.data.lists.entries import VIDEO_EXTENSIONS
from mvit_tf.errors import UserError
from mvit_tf.server.limits import format_size
from mvit_tf.server.report import VideoReporter

# Gradio would ask another server for its fonts.
_FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
# Not "share", which sends pictures elsewhere.
_BUTTONS = ["download", "fullscreen"]
# Gradio lays the name of a picture over its upper left corner.
_BELOW_ITS_NAME = "#frames, #timeline, #heat, #examples { padding-top: 2rem !important; }"
_CLASSES_SHOWN = 5
_MOST_EXAMPLES = 24
# Visitors that wait while another's video is looked at.
_MOST_WAITING = 16
# Seconds: how often files are deleted, and how old they are then.
_DELETE_EVERY, _DELETE_AFTER = 600, 3600
_DELETED = "deleted within about an hour, or when the server ends"


def prepare_gradio(folder: Path) -> None:
    """Sets what Gradio reads from the environment; before it is imported.

    Args:
        folder: for uploads and pictures.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"


def example_videos(folder: str | os.PathLike) -> list[Path]:
    """The videos of a folder that the gallery shows, by name.

    Raises:
        UserError: no such folder, or no video in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"--examples={folder}: no such folder")
    videos = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in VIDEO_EXTENSIONS]
    if not videos:
        raise UserError(f"--examples={folder}: no video in it ({', '.join(VIDEO_EXTENSIONS)})")
    return videos[:_MOST_EXAMPLES]


def build_page(reporter: VideoReporter, metadata, max_upload: int, examples: Sequence[Path] = ()):
    """The page as gradio.Blocks.

    Args:
        reporter: looks at the videos.
        metadata: ExportMetadata of its model.
        max_upload: bytes, as the page says it.
        examples: videos of the gallery.
    """
    import gradio as gr

    def show(report):
        heat = [gr.Image(report.heat, visible=report.heat is not None)] if reporter.explains else []
        return [
            gr.Textbox(("Error: " if report.failed else "") + report.status, visible=True),
            gr.Label(report.classes or None, visible=bool(report.classes)),
            gr.Gallery(report.frames or None, visible=bool(report.frames)),
            gr.Image(report.timeline, visible=report.timeline is not None),
            *heat,
        ]

    def look(path):
        for report in reporter.reports(path):
            yield show(report)

    def look_at_upload(path):
        if path:
            _require_upload(path, reporter.folder)
            yield from look(path)

    def look_at_example(event: gr.SelectData):
        yield from look(str(examples[event.index]))

    with gr.Blocks(
        title=f"mvit web: {metadata.model_name}",
        analytics_enabled=False,
        delete_cache=(_DELETE_EVERY, _DELETE_AFTER),
    ) as page:
        name = html.escape(metadata.model_name)
        gr.Markdown(f"# {name}\n{len(metadata.class_names)} classes. Drop a video of at most "
                    f"{format_size(max_upload)}; it is {_DELETED}.")  # fmt: skip
        with gr.Row():
            with gr.Column(scale=1):
                video = gr.Video(label="Video", sources=["upload"], include_audio=True, height=280)
                status = gr.Textbox(label="Status", interactive=False, elem_id="status", lines=2)
            with gr.Column(scale=1):
                classes = gr.Label(
                    label="Classes", num_top_classes=_CLASSES_SHOWN, elem_id="classes"
                )
        outputs = [
            status,
            classes,
            gr.Gallery(
                label="Frames that were used, of the clip in the middle", columns=8,
                visible=False, elem_id="frames", object_fit="contain", buttons=_BUTTONS,
            ),
            gr.Image(
                label="Time line", visible=False, elem_id="timeline", type="filepath",
                interactive=False, buttons=_BUTTONS,
            ),
        ]  # fmt: skip
        if reporter.explains:
            outputs.append(
                gr.Image(
                    label="Heat map",
                    visible=False,
                    elem_id="heat",
                    interactive=False,
                    buttons=_BUTTONS,
                )  # fmt: skip
            )
        options = {
            "outputs": outputs,
            "show_progress_on": status,
            "api_visibility": "private",
            # One video at a time, dropped or of the gallery: the two functions share a queue.
            "concurrency_id": "look",
            "concurrency_limit": 1,
        }
        video.upload(look_at_upload, inputs=video, **options)
        if examples:
            pictures = [(reporter.thumbnail(str(path)), path.name) for path in examples]
            gallery = gr.Gallery(
                [(picture, name) for picture, name in pictures if picture is not None],
                label="Examples", columns=6, allow_preview=False, elem_id="examples",
                object_fit="cover", buttons=[],
            )  # fmt: skip
            examples = [
                path
                for path, (picture, _) in zip(examples, pictures, strict=True)
                if picture is not None
            ]
            gallery.select(look_at_example, inputs=None, **options)
    for block in page.blocks.values():
        _refuse_other_files(block, reporter.folder)
    return page.queue(max_size=_MOST_WAITING, default_concurrency_limit=1)


def _require_upload(path, folder):
    """Refuses what a visitor names and has not sent: a file of this machine, or an address."""
    import gradio as gr

    inside = os.path.realpath(folder) + os.sep
    if path is not None and not os.path.realpath(path).startswith(inside):
        raise gr.Error("send a file, not its name or address", print_exception=False)


def _refuse_other_files(block, folder):
    """Keeps a block from reading or fetching what a visitor names.

    Gradio would, of any size: it checks files of what its `launch` has started alone, and none of
    what is called a stream, which is looked at in `look_at_upload`.
    """
    move, async_move = block.move_resource_to_block_cache, block.async_move_resource_to_block_cache

    def move_file(path):
        _require_upload(path, folder)
        return move(path)

    async def async_move_file(path):
        _require_upload(path, folder)
        return await async_move(path)

    block.move_resource_to_block_cache = move_file
    block.async_move_resource_to_block_cache = async_move_file


def page_application(page, max_upload: int):
    """The application that shows the page, for `running.http_server`.

    Gradio's own `launch` gives its server five seconds to start and takes the signals.
    """
    import gradio as gr
    from fastapi import FastAPI

    return gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page,
        path="/",
        max_file_size=max_upload,
        theme=gr.themes.Default(**_FONTS),
        css=_BELOW_ITS_NAME,
        ssr_mode=False,
        footer_links=[],
        run_history=False,
    )
