"""Load on `mvit serve` over loopback: good and bad requests by many clients at once."""

import collections
import contextlib
import http.client
import io
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks.process_tree import descendants, memory_bytes

_REQUEST_SECONDS = 300
# Statuses that answer a request whose client did everything right.
_GOOD = (200, 503)


class BadRequests:
    """Ten kinds of requests that are refused, each as (path, body, headers, legal statuses).

    Args:
        video: bytes of a good video.
        num_frames: of a clip.
        max_upload: bytes that the server takes.
    """

    def __init__(self, video: bytes, num_frames: int, max_upload: int):
        clip = np.zeros((num_frames, 32, 32, 3), np.uint8)
        half = {"Content-Type": "multipart/form-data; boundary=x"}
        playlist = b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
        noise = random.Random(0).randbytes(5000)
        self.kinds = {
            "empty": ("/predict", b"", {}, (400,)),
            "text": ("/predict", b"not a video\n" * 100, {}, (422,)),
            "noise": ("/predict", noise, {}, (422,)),
            "cut_off": ("/predict", video[: len(video) // 2], {}, (422,)),
            "damaged": ("/predict", video[: len(video) // 3] + noise + video, {}, (200, 422)),
            "playlist": ("/predict", playlist, {}, (422,)),
            "too_large": ("/predict", bytes(max_upload + 1), {}, (413,)),
            "broken_form": ("/predict", b"--x\r\nno form", half, (400,)),
            "wrong_type": ("/predict_frames", _npy(clip.astype(np.float32)), {}, (422,)),
            "wrong_length": ("/predict_frames", _npy(clip[:-1]), {}, (422,)),
        }


@contextlib.contextmanager
def server_process(model: str, *options: str):
    """`mvit serve` in a process of its own: (its subprocess.Popen, its port)."""
    program = "from mvit_tf.cli.main import console; console()"
    command = [sys.executable, "-c", program, "serve", model, "--port=0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        found = re.search(r"http://[\d.]+:(\d+)", line)
        if not found:
            raise RuntimeError(f"mvit serve did not start: {line!r}")
        # Its log must not fill the pipe.
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield process, int(found[1])
    finally:
        process.kill()
        process.wait()


def measure(
    port: int, pid: int, video: bytes, *, requests: int, clients: int, bad_share: float,
    num_frames: int, max_upload: int,
) -> dict:  # fmt: skip
    """Sends requests by several clients; each waits for its answer before it asks again.

    Returns:
        answers by kind and status, what the first refusal of each said, those lost or with a
        status that is not legal for their kind, seconds, percentiles of the good ones in
        milliseconds, memory of the server's processes after a tenth of the requests and at the
        end.
    """
    bad = BadRequests(video, num_frames, max_upload).kinds
    rng = random.Random(1)
    plan = []
    kinds = itertools.cycle(bad)
    for _ in range(requests):
        kind = next(kinds) if rng.random() < bad_share else "good"
        plan.append((kind, bad.get(kind, ("/predict", video, {}, _GOOD))))
    results, refusals, lock, memory = [], {}, threading.Lock(), {}
    waiting = iter(enumerate(plan))

    def client():
        while True:
            with lock:
                number, (kind, request) = next(waiting, (None, (None, None)))
            if number is None:
                return
            if number == requests // 10:
                memory["start"] = _memory(pid)
            start = time.monotonic()
            status, refusal = _ask(port, request)
            with lock:
                if refusal:
                    refusals.setdefault(f"{kind} {status}", refusal)
                results.append((kind, status, time.monotonic() - start, status in request[3]))

    begin = time.monotonic()
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - begin
    memory["end"] = _memory(pid)
    answered = sorted(spent for kind, status, spent, _ in results if status == 200)
    counts = collections.Counter((kind, str(status)) for kind, status, *_ in results)
    return {
        "requests": requests,
        "clients": clients,
        "seconds": seconds,
        "requests_per_second": requests / seconds,
        "milliseconds": {
            f"p{share}": 1000 * float(np.percentile(answered or [np.nan], share))
            for share in (50, 95, 99)
        },
        "answers": {f"{kind} {status}": n for (kind, status), n in sorted(counts.items())},
        "refusals": refusals,
        "lost": sum(status is None for _, status, *_ in results) + requests - len(results),
        "unexpected": sum(not legal for *_, legal in results),
        "memory": memory,
    }


def format_load(results: dict) -> str:
    """The results as text."""
    times = ", ".join(f"{name} {value:.1f} ms" for name, value in results["milliseconds"].items())
    lines = [
        f"{results['requests']} requests by {results['clients']} clients in "
        f"{results['seconds']:.1f} s: {results['requests_per_second']:.1f} a second",
        f"answered with 200: {times}",
        f"lost: {results['lost']}, with another status than is due: {results['unexpected']}",
        "memory: "
        + ", ".join(
            f"{name} {value['server'] / 2**20:.0f} MiB + {value['workers'] / 2**20:.0f} MiB "
            f"of {value['processes']} decoders"
            for name, value in results["memory"].items()
        ),
    ]
    for name, count in results["answers"].items():
        lines.append(f"  {name}: {count}  {results['refusals'].get(name, '')}".rstrip())
    return "\n".join(lines)


def run(arguments) -> dict:
    """The part `serve` of `python -m benchmarks`."""
    video = arguments.video.read_bytes() if arguments.video else moving_video()
    with tempfile.TemporaryDirectory(prefix="mvit-benchmark-") as folder:
        return _load_on(arguments.served or tiny_export(folder), video, arguments)


def _load_on(model, video, arguments):
    with server_process(model, f"--max_upload={arguments.max_upload}",
                        f"--max_queue={arguments.max_queue}") as (process, port):  # fmt: skip
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/")
        information = json.loads(connection.getresponse().read())
        for _ in range(2):
            _ask(port, ("/predict", video, {}, _GOOD))
        results = measure(
            port,
            process.pid,
            video,
            requests=arguments.requests,
            clients=arguments.clients,
            bad_share=arguments.bad_share,
            num_frames=information["frames_per_clip"],
            max_upload=arguments.max_upload,
        )
        process.send_signal(signal.SIGTERM)
        results["exit_status"] = process.wait(_REQUEST_SECONDS)
    print(format_load(results), flush=True)
    return results


def tiny_export(folder: str) -> str:
    """Exports a tiny model with random weights; returns the folder."""
    from mvit_tf.data.preprocessing import Preprocessing
    from mvit_tf.data.sampling import ClipSampling
    from mvit_tf.export.saved_model import export_saved_model
    from mvit_tf.models import build_mvit, get_config

    config = get_config("mvit_s_16x4").replace(
        input_shape=(4, 32, 32, 3), depths=(1, 1), embed_dim=16, num_classes=3
    )
    export_saved_model(
        build_mvit(config),
        folder,
        class_names=("a", "b", "c"),
        preprocessing=Preprocessing(size=(32, 32), short_side=36),
        sampling=ClipSampling(num_frames=4, sampling_rate=2),
        num_clips=2,
    )
    return folder


def moving_video() -> bytes:
    """A small H.264 video of two seconds."""
    from mvit_tf.data.moving_shapes import MovingShapes, write_moving_shapes

    with tempfile.TemporaryDirectory() as folder:
        shapes = MovingShapes(num_frames=60, height=120, width=160)
        write_moving_shapes(folder, videos_per_class=1, seed=0, shapes=shapes)
        return min(Path(folder).rglob("*.mp4")).read_bytes()


def _ask(port, request):
    """The status of an answer and what a refusal said; None, None where there is no answer."""
    path, body, headers, _ = request
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_REQUEST_SECONDS)
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()).get("error", {}).get("message")
    except (OSError, http.client.HTTPException, ValueError):
        return None, None
    finally:
        connection.close()


def _memory(pid):
    workers = descendants(pid) if os.path.isdir("/proc/self") else []
    return {
        "server": memory_bytes(pid, "VmRSS"),
        "workers": sum(memory_bytes(worker, "VmRSS") for worker in workers),
        "processes": len(workers),
    }


def _npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()
