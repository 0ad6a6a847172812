"""A server in a thread of this process, with a model that costs nothing, and a bare client."""

import contextlib
import http.client
import io
import json
import threading
import time
import uuid

import numpy as np

from mvit_tf.data.preprocessing import Preprocessing
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.export.metadata import ExportMetadata
from mvit_tf.server.limits import ServerLimits
from mvit_tf.server.running import application, http_server, listening_socket

CLASS_NAMES = ("red", "green", "blue")
METADATA = ExportMetadata(
    model_name="mean_colour",
    class_names=CLASS_NAMES,
    preprocessing=Preprocessing(size=(32, 32), short_side=36),
    sampling=ClipSampling(num_frames=4, sampling_rate=2),
    num_clips=2,
)


class MeanColour:
    """What the server needs of a predictor: a class for each channel, as probable as it is bright.

    Attributes:
        batches: shapes of what came.
        go_on: cleared, it makes predictions wait.
    """

    def __init__(self):
        self.metadata = METADATA
        self.batches = []
        self.go_on = threading.Event()
        self.go_on.set()

    def predict_frames(self, frames):
        assert self.go_on.wait(60)
        self.batches.append(frames.shape)
        means = frames.astype(np.float32).mean(axis=(1, 2, 3)) + 1
        return means / means.sum(axis=-1, keepdims=True)


class Client:
    """Asks a server; each request on a connection of its own."""

    def __init__(self, port):
        self.port = port

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(self, method, path, body=None, headers=None):
        """(status, headers, body) of an answer."""
        connection = self.connection()
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def post(self, path, body, headers=None):
        """(status, JSON) of an answer."""
        status, _, text = self.ask("POST", path, body, headers)
        return status, json.loads(text)

    def metric(self, line):
        """A value of /metrics, by what stands before it; 0.0 where it is not there."""
        for each in self.ask("GET", "/metrics")[2].decode().splitlines():
            if each.startswith(line + " "):
                return float(each.split()[-1])
        return 0.0

    def wait_for(self, line, value):
        """Waits until a metric has a value."""
        end = time.monotonic() + 30
        while self.metric(line) != value:
            assert time.monotonic() < end, (line, self.metric(line))
            time.sleep(0.02)


@contextlib.contextmanager
def served(app, listener):
    """A server of an application in a thread, once it listens."""
    server = http_server(app, requests=64, grace=5)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while thread.is_alive() and not server.started:
            time.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        thread.join()


@contextlib.contextmanager
def running(predictor, **limits):
    """A `Client` of a server with these limits."""
    limits = ServerLimits(**{"workers": 2, "max_wait_ms": 1, **limits})
    with (
        listening_socket("127.0.0.1", 0) as listener,
        application(predictor, limits) as app,
        served(app, listener),
    ):
        yield Client(listener.getsockname()[1])


def form(files):
    """(body, headers) of a form with files, a list of (field, name, bytes)."""
    boundary = uuid.uuid4().hex
    body = io.BytesIO()
    for field, name, content in files:
        body.write(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"'
            "\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
        )
        body.write(content + b"\r\n")
    body.write(f"--{boundary}--\r\n".encode())
    return body.getvalue(), {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def npy(array):
    """Bytes of numpy.save."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()
