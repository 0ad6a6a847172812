"""A web server on this machine that misbehaves on request."""

import contextlib
import dataclasses
import http.server
import threading


@dataclasses.dataclass
class Page:
    """What an address answers.

    Attributes:
        content: the whole file.
        cuts: after how many bytes of the file the connections end, one after the other; later
            ones go to the end.
        ranges: whether a request for a part is granted, with an ETag.
        status, content_type: of the answer.
        requests: the Range headers received, None for a request of everything.
    """

    content: bytes
    cuts: tuple[int, ...] = ()
    ranges: bool = True
    status: int = 200
    content_type: str = "application/octet-stream"
    requests: list = dataclasses.field(default_factory=list)


@contextlib.contextmanager
def serve(pages):
    """Serves a dict of name -> Page; yields the address that the names go after."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802, the name that http.server calls
            page = pages.get(self.path[1:])
            if page is None:
                self.send_error(404)
                return
            asked = self.headers.get("Range")
            page.requests.append(asked)
            partial = page.ranges and asked and self.headers.get("If-Range") == '"1"'
            start = int(asked.removeprefix("bytes=").rstrip("-")) if partial else 0
            self.send_response(206 if partial else page.status)
            self.send_header("Content-Type", page.content_type)
            self.send_header("Content-Length", str(len(page.content) - start))
            if page.ranges:
                self.send_header("ETag", '"1"')
            if partial:
                last = len(page.content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(page.content)}")
            self.end_headers()
            number = len(page.requests) - 1
            end = page.cuts[number] if number < len(page.cuts) else len(page.content)
            with contextlib.suppress(ConnectionError):  # a client may hang up
                self.wfile.write(page.content[start:end])

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
