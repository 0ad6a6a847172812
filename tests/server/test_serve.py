"""`mvit serve` over real HTTP: its answers, what it refuses, and its limits."""

import errno
import io
import json
import socket
import struct
import tempfile
import threading
import time

import numpy as np
import pytest
from PIL import Image

from mvit_tf.data.clips import clip_parts, whole_clips
from mvit_tf.errors import UserError
from tests.data.video import decoder_functions
from tests.data.videos import write_audio, write_numbered

for package in ("fastapi", "uvicorn", "prometheus_client", "python_multipart", "fastapi_offline"):
    pytest.importorskip(package, reason="needs the extra `serve`")

from mvit_tf.server import service as service_module  # noqa: E402
from tests.server.running_server import (  # noqa: E402
    CLASS_NAMES,
    METADATA,
    MeanColour,
    form,
    npy,
    running,
)

IN_WORK = "mvit_requests_in_work"


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_numbered(tmp_path_factory.mktemp("videos") / "numbers.mp4", 30)


@pytest.fixture(scope="module")
def uploads(tmp_path_factory):
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def client(uploads):
    """Of a server whose folder for uploads lies in `uploads`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(uploads))
        with running(MeanColour(), max_upload=300_000) as client:
            yield client


def probabilities(answer):
    found = {entry["name"]: entry["probability"] for entry in answer["classes"]}
    return [found[name] for name in CLASS_NAMES]


def left_over(uploads):
    """What requests have left in the server's folder."""
    (folder,) = uploads.glob("mvit_serve_*")
    return list(folder.iterdir())


def frames(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (4, 40, 50, 3), dtype=np.uint8)


def test_a_video_and_a_clip_get_what_the_predictor_gives(client, video):
    content = video.read_bytes()
    parts = clip_parts(str(video), METADATA.sampling, METADATA.num_clips)
    expected = MeanColour().predict_frames(np.stack(list(whole_clips(parts)))).mean(axis=0)
    for body, headers in ((content, {}), form([("video", "../../etc/x.mp4", content)])):
        status, answer = client.post("/predict?top=3", body, headers)
        assert status == 200
        np.testing.assert_allclose(probabilities(answer), expected, rtol=0, atol=1e-6)
        ranked = [entry["probability"] for entry in answer["classes"]]
        assert ranked == sorted(ranked, reverse=True)
        # Two clips, each spread over eight of 30 frames at 30 a second: the first and the last.
        assert [(c["start"], c["end"]) for c in answer["clips"]] == [
            (0, pytest.approx(7 / 30)), (pytest.approx(22 / 30), pytest.approx(29 / 30))
        ]  # fmt: skip
        assert (answer["width"], answer["height"], answer["padded"]) == (80, 64, False)
        spent = answer["seconds"]
        assert spent["total"] >= spent["upload"] + spent["decode"] + spent["predict"] - 1e-3
    assert len(client.post("/predict?top=1", content)[1]["classes"]) == 1
    clip = frames()
    status, answer = client.post("/predict_frames?top=9", npy(clip))
    assert status == 200
    expected = MeanColour().predict_frames(clip[np.newaxis])[0]
    np.testing.assert_allclose(probabilities(answer), expected, rtol=0, atol=1e-6)


def test_images_of_a_form_are_the_frames_in_order(client):
    first_red = np.zeros((4, 40, 50, 3), np.uint8)
    first_red[0, ..., 0] = 255
    files = []
    for number, picture in enumerate(first_red):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "png")
        files.append(("frames", f"{number}.png", file.getvalue()))
    status, answer = client.post("/predict_frames", *form(files))
    assert status == 200
    assert probabilities(answer) == pytest.approx([64.75 / 66.75, 1 / 66.75, 1 / 66.75], abs=1e-6)
    files[2] = ("frames", "2.png", files[2][2][:60])
    status, answer = client.post("/predict_frames", *form(files))
    assert (status, answer["error"]["kind"]) == (422, "decode_error")
    assert answer["error"]["message"].startswith("frame 3 of 4: ")


def huge_header(shape):
    return with_header(f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}")


def with_header(header):
    header = header.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n" + bytes(12)


def bad_requests(video, folder):
    """(path, body, headers, status, kind) of requests that are refused."""
    content = video.read_bytes()
    audio = write_audio(folder / "sound.m4a").read_bytes()
    pickled = npy(np.array([{"a": 1}], dtype=object))
    return {
        "empty": ("/predict", b"", {}, 400, "empty_body"),
        "text": ("/predict", b"not a video\n" * 50, {}, 422, "container_error"),
        "cut off": ("/predict", content[: len(content) // 2], {}, 422, "container_error"),
        "sound": ("/predict", audio, {}, 422, "no_video_stream"),
        "too large": ("/predict", bytes(300_001), {}, 413, "too_large"),
        "form without a file": ("/predict", *form([]), 400, "bad_form"),
        "two files": ("/predict", *form([("a", "a", b"a"), ("b", "b", b"b")]), 400, "bad_form"),
        "broken form": (
            "/predict", b"--x", {"Content-Type": "multipart/form-data"}, 400, "bad_form",
        ),
        "form of no fields": (
            "/predict", b"--x\r\nno form", {"Content-Type": "multipart/form-data; boundary=x"},
            400, "bad_form",
        ),
        "parameter": ("/predict?top=0", content, {}, 422, "bad_parameter"),
        "no endpoint": ("/etc/passwd", content, {}, 404, "not_found"),
        "pickle": ("/predict_frames", pickled, {}, 422, "bad_frames"),
        "type": ("/predict_frames", npy(frames().astype(np.float32)), {}, 422, "bad_frames"),
        "rank": ("/predict_frames", npy(frames()[..., 0, 0]), {}, 422, "bad_frames"),
        "no frames": ("/predict_frames", npy(frames()[:0]), {}, 422, "bad_frames"),
        "another length": ("/predict_frames", npy(frames()[:3]), {}, 422, "bad_frames"),
        "4 GB shape": (
            "/predict_frames", huge_header((4, 2**15, 2**15, 3)), {}, 422, "bad_frames",
        ),
        "overflowing shape": (
            "/predict_frames", huge_header((2**32, 2**32, 2**32, 3)), {}, 422, "bad_frames",
        ),
        "deep header": ("/predict_frames", with_header("-" * 9000 + "1"), {}, 422, "bad_frames"),
        "open header": ("/predict_frames", with_header("(" * 9000), {}, 422, "bad_frames"),
        "array for a form": ("/predict", npy(frames()), {}, 422, "container_error"),
    }  # fmt: skip


def test_bad_requests_are_refused_with_the_reason_and_the_next_is_answered(
    client, video, uploads, tmp_path, caplog
):
    for name, (path, body, headers, status, kind) in bad_requests(video, tmp_path).items():
        failures = client.metric(f'mvit_failures_total{{kind="{kind}"}}')
        found, answer = client.post(path, body, headers)
        assert (found, answer["error"]["kind"]) == (status, kind), (name, answer)
        message = answer["error"]["message"]
        assert message and "\n" not in message and str(uploads) not in message
        assert client.metric(f'mvit_failures_total{{kind="{kind}"}}') == failures + 1
        assert client.post("/predict", video.read_bytes())[0] == 200, name
    assert left_over(uploads) == []
    assert client.metric(IN_WORK) == 0
    assert not [record for record in caplog.records if record.name.startswith("python_multipart")]


def test_a_full_disk_is_said(client, video, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("mvit_tf.server.uploads.tempfile.mkdtemp", full)
        status, answer = client.post("/predict", video.read_bytes())
    assert (status, answer["error"]["kind"]) == (503, "disk_full")
    assert client.post("/predict", video.read_bytes())[0] == 200


def test_the_files_of_a_form_are_held_on_disk(client, monkeypatch):
    rolled = []
    roll = tempfile.SpooledTemporaryFile.rollover

    def rollover(file):
        rolled.append(file)
        roll(file)

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", rollover)
    files = [("frames", f"{number}.png", bytes(20_000)) for number in range(4)]
    assert client.post("/predict_frames", *form(files))[0] == 422
    assert len(rolled) == 4


def test_a_body_without_a_length_is_cut_off_at_the_limit(client, uploads):
    parts = (bytes(50_000) for _ in range(7))
    status, answer = client.post("/predict", parts)
    assert (status, answer["error"]["kind"]) == (413, "too_large")
    assert left_over(uploads) == []


def test_no_file_or_address_that_a_request_names_is_opened(client, video, tmp_path):
    asked = []
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.2)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/x.ts"
    playlists = [
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n"
        for target in (f"file://{video}", str(video), url)
    ]
    playlists.append(f"ffconcat version 1.0\nfile '{video}'\n")
    playlists.append("v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
                     "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n")  # fmt: skip
    playlists += [str(video), url]
    for text in playlists:
        status, answer = client.post("/predict", text.encode())
        assert (status, answer["error"]["kind"]) == (422, "container_error"), (text, answer)
    with pytest.raises(TimeoutError):
        asked.append(listener.accept())
    listener.close()
    status, answer = client.post("/predict", *form([("video", str(video), b"")]))
    assert (status, answer["error"]["kind"]) == (400, "empty_body")


def test_a_full_queue_refuses_and_then_takes_requests_again(video):
    predictor = MeanColour()
    content = video.read_bytes()
    with running(predictor, max_queue=2) as client:
        predictor.go_on.clear()
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(client.post("/predict", content)[0]))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        client.wait_for(IN_WORK, 2)
        status, headers, text = client.ask("POST", "/predict", content)
        assert (status, json.loads(text)["error"]["kind"]) == (503, "queue_full")
        assert int(headers["retry-after"]) >= 1
        assert client.ask("GET", "/healthz")[0] == 200
        predictor.go_on.set()
        for thread in threads:
            thread.join()
        assert answers == [200, 200]
        assert client.post("/predict", content)[0] == 200


def test_a_client_that_goes_away_frees_its_place(video, uploads):
    predictor = MeanColour()
    content = video.read_bytes()
    with running(predictor, max_queue=1) as client:
        predictor.go_on.clear()
        connection = client.connection()
        connection.request("POST", "/predict", content)
        client.wait_for(IN_WORK, 1)
        connection.close()
        client.wait_for(IN_WORK, 0)
        # One that leaves in the middle of its upload.
        raw = socket.create_connection(("127.0.0.1", client.port))
        raw.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
        client.wait_for(IN_WORK, 1)
        raw.close()
        client.wait_for(IN_WORK, 0)
        assert client.metric('mvit_failures_total{kind="client_gone"}') == 2
        predictor.go_on.set()
        assert client.post("/predict", content)[0] == 200


class Refuses(MeanColour):
    """Refuses dark frames, as an export does flat ones."""

    def predict_frames(self, frames):
        if len(self.batches) and frames.max() == 0:
            raise UserError("the export refuses these frames: too dark")
        return super().predict_frames(frames)


def test_frames_that_the_model_refuses_are_a_bad_request():
    with running(Refuses()) as client:
        status, answer = client.post("/predict_frames", npy(np.zeros((4, 40, 50, 3), np.uint8)))
        assert (status, answer["error"]["kind"]) == (422, "bad_frames")
        assert answer["error"]["message"] == "the export refuses these frames: too dark"
        assert client.post("/predict_frames", npy(frames()))[0] == 200


def test_what_takes_too_long_is_given_up():
    predictor = MeanColour()
    with running(predictor, time_limit=3) as client:
        predictor.go_on.clear()
        start = time.monotonic()
        status, answer = client.post("/predict_frames", npy(frames()))
        assert (status, answer["error"]["kind"]) == (504, "time_limit")
        assert 2.9 < time.monotonic() - start < 30
        predictor.go_on.set()
        client.wait_for(IN_WORK, 0)
        assert client.post("/predict_frames", npy(frames()))[0] == 200

        raw = socket.create_connection(("127.0.0.1", client.port), timeout=30)
        raw.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
        assert b" 408 " in raw.recv(1000).splitlines()[0]
        raw.close()


@pytest.mark.parametrize("kind", ["decoder_timeout", "decoder_crash"])
def test_a_video_that_hangs_or_crashes_the_decoder_is_answered(video, monkeypatch, kind):
    function, limit = {"decoder_timeout": ("hangs", 12), "decoder_crash": ("aborts", 90)}[kind]
    with running(MeanColour(), time_limit=limit, workers=1) as client:
        with monkeypatch.context() as patch:
            patch.setattr(
                service_module, "untrusted_clip_parts", getattr(decoder_functions, function)
            )
            status, answer = client.post("/predict", video.read_bytes())
        assert (status, answer["error"]["kind"]) == (422, kind)
        assert client.post("/predict_frames", npy(frames()))[0] == 200
        if kind == "decoder_crash":  # With the other's limit a busy machine starts no new decoder.
            assert client.post("/predict", video.read_bytes())[0] == 200


def test_what_it_says_of_itself(client):
    status, _, text = client.ask("GET", "/")
    information = json.loads(text)
    assert (status, information["model"]) == (200, "mean_colour")
    assert information["frames_per_clip"] == 4
    for path in ("/healthz", "/readyz", "/livez"):
        assert client.ask("GET", path)[0] == 200
    schema = json.loads(client.ask("GET", "/openapi.json")[2])
    assert {"/predict", "/predict_frames"} <= set(schema["paths"])
    body = schema["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/octet-stream", "multipart/form-data"}
    status, _, page = client.ask("GET", "/docs")
    assert status == 200 and b"swagger" in page
    assert b"https://" not in page and b"//cdn" not in page
    lines = client.ask("GET", "/metrics")[2].decode()
    for name in ("mvit_requests_total", "mvit_request_seconds_bucket", "mvit_batch_clips_bucket",
                 IN_WORK, "process_resident_memory_bytes"):  # fmt: skip
        assert f"\n{name}" in lines
    client.ask("GET", "/a-path-of-the-clients-own")
    assert b"clients-own" not in client.ask("GET", "/metrics")[2]


def test_one_line_a_request_without_the_query(client, video, capsys):
    client.post("/predict?top=1&token=secret", video.read_bytes())
    client.ask("GET", "/no%0Asuch?token=secret")
    client.ask("GET", "/healthz")
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("POST /predict 200 ") and first.endswith(" bytes")
    assert second.startswith("GET /no\\u000asuch 404 ") and second.endswith(" not_found")
