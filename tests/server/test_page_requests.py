"""What the page of `mvit web` refuses of its visitors, without a browser."""

import http.server
import json
import threading

import pytest

pytest.importorskip("gradio", reason="needs the extra `web`")

from mvit_tf.server.page import build_page, page_application, prepare_gradio  # noqa: E402
from mvit_tf.server.report import VideoReporter  # noqa: E402
from mvit_tf.server.running import listening_socket  # noqa: E402
from tests.data.videos import write_numbered  # noqa: E402
from tests.server.running_server import METADATA, Client, MeanColour, served  # noqa: E402


@pytest.fixture
def client(tmp_path, monkeypatch):
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED"):
        monkeypatch.setenv(name, "")
    prepare_gradio(tmp_path)
    page = build_page(VideoReporter(MeanColour(), tmp_path, 60), METADATA, 200_000_000)
    app = page_application(page, 200_000_000)
    with listening_socket("127.0.0.1", 0) as listener, served(app, listener):
        yield Client(listener.getsockname()[1])


@pytest.fixture
def elsewhere():
    """(port, paths that were asked for) of a server that has what a visitor names."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        do_HEAD = do_GET

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server.server_port, asked
        server.shutdown()


def look(client, path, **fields):
    """What the page answers a visitor who names a file of that path."""
    video = {"path": path, "meta": {"_type": "gradio.FileData"}, **fields}
    (function,) = [
        entry["id"]
        for entry in json.loads(client.ask("GET", "/config")[2])["dependencies"]
        if entry["targets"][0][1] == "upload"
    ]
    body = {"data": [video], "fn_index": function, "session_hash": "visitor"}
    status, answer = client.post(
        "/gradio_api/queue/join", json.dumps(body), {"Content-Type": "application/json"}
    )
    assert status == 200, answer
    events = client.ask("GET", "/gradio_api/queue/data?session_hash=visitor")[2].decode()
    found = [json.loads(line[6:]) for line in events.splitlines() if line.startswith("data: ")]
    (done,) = [event for event in found if event["msg"] == "process_completed"]
    return done


@pytest.mark.parametrize("scheme", ["http", "HTTP"])
def test_an_address_is_not_fetched(client, elsewhere, scheme):
    port, asked = elsewhere
    address = f"{scheme}://127.0.0.1:{port}/x.mp4"
    for fields in ({}, {"url": address}, {"is_stream": True}):
        done = look(client, address, **fields)
        assert not done["success"] and not (done["output"].get("data"))
    assert asked == []


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_file_of_this_machine_is_not_read(client, tmp_path_factory, is_stream):
    folder = tmp_path_factory.mktemp("private")
    secret = write_numbered(folder / "secret.mp4", 30)
    said = set()
    for path in (secret, folder, folder / "none.mp4", "/dev/zero", "secret.mp4", "../secret.mp4"):
        done = look(client, str(path), is_stream=is_stream)
        assert not done["success"] and not done["output"].get("data")
        said.add(done["output"]["error"].replace(str(path), "PATH"))
    # Nor is it said whether it is there.
    assert said == {"send a file, not its name or address"}
    assert client.ask("GET", "/config")[0] == 200


def test_a_dropped_video_and_one_of_the_gallery_wait_for_each_other(tmp_path, monkeypatch):
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED"):
        monkeypatch.setenv(name, "")
    prepare_gradio(tmp_path)
    video = write_numbered(tmp_path / "numbers.mp4", 30)
    reporter = VideoReporter(MeanColour(), tmp_path, 60)
    page = build_page(reporter, METADATA, 200_000_000, [video])
    shared = [(fn.concurrency_id, fn.concurrency_limit) for fn in page.fns.values()]
    assert shared == [("look", 1)] * 2
    assert page.delete_cache == (600, 3600)
