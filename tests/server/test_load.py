"""The server under load, and how it ends."""

import os
import signal
import socket
import threading
import time

import pytest

for package in ("fastapi", "uvicorn", "prometheus_client", "python_multipart", "fastapi_offline"):
    pytest.importorskip(package, reason="needs the extra `serve`")

from benchmarks.serve_load import format_load, measure, server_process, tiny_export  # noqa: E402
from mvit_tf.cli.main import main  # noqa: E402
from mvit_tf.server.running import listening_socket, serve_until_stopped  # noqa: E402
from tests.data.videos import write_numbered  # noqa: E402
from tests.server.running_server import Client, MeanColour, running  # noqa: E402


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_numbered(tmp_path_factory.mktemp("videos") / "numbers.mp4", 30)


def test_every_request_of_many_clients_gets_the_answer_that_is_due(video):
    predictor = MeanColour()
    with running(predictor, max_upload=300_000, max_queue=16, max_wait_ms=20) as client:
        results = measure(
            client.port, os.getpid(), video.read_bytes(), requests=200, clients=8, bad_share=0.2,
            num_frames=4, max_upload=300_000,
        )  # fmt: skip
        client.wait_for("mvit_requests_in_work", 0)
    print(format_load(results))
    assert (results["lost"], results["unexpected"]) == (0, 0)
    kinds = {name.split()[0] for name in results["answers"]}
    assert len(kinds) == 11
    assert sum(results["answers"].values()) == 200
    assert results["answers"]["good 200"] > 140
    # Clips of several requests, and of one, went through the model together.
    assert max(shape[0] for shape in predictor.batches) > 2


@pytest.mark.slow
def test_sigterm_lets_requests_end_and_takes_no_new_ones(video, tmp_path):
    content = video.read_bytes()
    with server_process(tiny_export(str(tmp_path))) as (process, port):
        client = Client(port)
        assert client.post("/predict", content)[0] == 200
        # A request whose upload takes a while is in work when the signal comes.
        connection = client.connection()
        connection.putrequest("POST", "/predict")
        connection.putheader("Content-Length", str(len(content)))
        connection.endheaders(content[:100])
        client.wait_for("mvit_requests_in_work", 1)
        process.send_signal(signal.SIGTERM)
        end = time.monotonic() + 60
        with pytest.raises(ConnectionError):
            while time.monotonic() < end:
                client.ask("GET", "/livez")
                time.sleep(0.05)
        connection.send(content[100:])
        assert connection.getresponse().status == 200
        assert process.wait(120) == 0


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_a_second_signal_cuts_requests_off(video, tmp_path):
    export = tiny_export(str(tmp_path))
    with server_process(export) as (process, port):
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
    with server_process(export) as (process, port):
        client = Client(port)
        connection = client.connection()
        connection.putrequest("POST", "/predict")
        connection.putheader("Content-Length", "1000")
        connection.endheaders(b"abc")
        client.wait_for("mvit_requests_in_work", 1)
        process.send_signal(signal.SIGTERM)
        threading.Timer(1, process.send_signal, [signal.SIGTERM]).start()
        assert process.wait(60) == 143


def test_a_second_signal_ends_a_server_that_hangs():
    class Hanging:
        started = should_exit = force_exit = False

        def run(self, sockets):
            self.started = True
            time.sleep(60)

    for delay in (0.5, 1.0):
        threading.Timer(delay, os.kill, [os.getpid(), signal.SIGTERM]).start()
    begin = time.monotonic()
    with listening_socket("127.0.0.1", 0) as listener:
        assert serve_until_stopped(Hanging(), listener, lambda: None) == 143
    assert time.monotonic() - begin < 20


def test_mistakes_are_said_in_one_line(tmp_path, capsys):
    assert main(["serve", str(tmp_path), "--port", "99999"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "error: --port=99999: must lie between 0 (any that is free) and 65535"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", str(tmp_path), "--port", str(port)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: cannot listen on --host=127.0.0.1 --port={port}: ")
    with listening_socket("127.0.0.1", 0) as first:  # Whose model is still being loaded.
        port = first.getsockname()[1]
        assert main(["serve", str(tmp_path), "--port", str(port)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: cannot listen on --host=127.0.0.1 --port={port}: ")
    assert main(["serve", str(tmp_path), "--max_wait_ms", "-1"]) == 2
    assert "--max_wait_ms must lie between 0 and 60000, got -1" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["serve", "web"])
def test_sigterm_while_the_model_loads_leaves_no_folder(command, tmp_path, monkeypatch):
    if command == "web":
        pytest.importorskip("gradio", reason="needs the extra `web`")
    begun = []

    def terminated(*_):
        begun.extend(path.name for path in tmp_path.iterdir())
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED"):
        monkeypatch.setenv(name, "")
    if command == "serve":
        monkeypatch.setattr("mvit_tf.export.predictor.open_predictor", lambda _: MeanColour())
        monkeypatch.setattr("mvit_tf.server.service.PredictionService.warm_up", terminated)
    else:
        monkeypatch.setattr("mvit_tf.export.predictor.open_predictor", terminated)
    before = signal.getsignal(signal.SIGTERM)
    assert main([command, "model", "--port", "0"]) == 0
    assert [name.startswith(f"mvit_{command}_") for name in begun] == [True]
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == before
