"""Live sources: the lag is bounded, nothing is queued, breaks are mended."""

import io
import json
import re
import socket
import threading
import time

import av
import numpy as np
import pytest

from mvit_tf.cli.main import main
from mvit_tf.data.video.decoding import DecodeError
from mvit_tf.errors import UserError
from mvit_tf.prediction.live import LivePredictor, frame_spacing
from tests.prediction.predictors import SAMPLING, ColourPredictor, coloured, write_coloured


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_coloured(
        tmp_path_factory.mktemp("videos") / "colours.mp4", ("red", 75), ("blue", 75)
    )


def test_a_slow_model_lags_by_no_more_than_is_said(video):
    live = LivePredictor(ColourPredictor(seconds=0.5), video, stride=0.2, max_lag=30)
    assert 0.5 <= live.call_seconds < live.max_lag
    answers = list(live.answers())
    # The model takes 0.5 s and a stride 0.2 s: most strides have to be passed over.
    assert live.counts.lines == len(answers) >= 2
    assert len(answers) + live.counts.late <= 9 and live.counts.strides >= len(answers)
    assert all(0.5 <= answer.lag <= live.max_lag for answer in answers)
    times = [answer.time for answer in answers]
    assert times == sorted(times) and times[-1] <= 5
    assert answers[-1].prediction.top(1)[0][0] == "blue"
    # A clip spans 1.03 s, of a frame every 0.15 s.
    assert frame_spacing(SAMPLING) == pytest.approx(31 / 7 / 30)
    assert 10 <= live.counts.frames <= 40


def test_frames_that_no_clip_takes_are_dropped_and_counted(video):
    live = LivePredictor(ColourPredictor(seconds=1.6), video, stride=0.2, max_lag=30)
    answers = list(live.answers())
    assert 1 <= len(answers) + live.counts.late <= 4
    assert live.counts.dropped >= 2


def test_a_model_slower_than_the_bound_is_refused(video, tmp_path):
    with pytest.raises(UserError, match="max_lag=0.1: one clip takes "):
        LivePredictor(ColourPredictor(seconds=0.2), video, max_lag=0.1)
    with pytest.raises(UserError, match="s3:// is no live source"):
        LivePredictor(ColourPredictor(), "s3://bucket/video.mp4")
    with pytest.raises(UserError, match="no such camera"):
        LivePredictor(ColourPredictor(), "/dev/video99")
    with pytest.raises(DecodeError, match="no such file"):
        LivePredictor(ColourPredictor(), str(tmp_path / "nothing.mp4"))


def mpeg_ts(colour, count):
    """The bytes of an MPEG transport stream of so many frames at 30 a second."""
    data = io.BytesIO()
    with av.open(data, "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.height, stream.width, stream.pix_fmt, stream.gop_size = 48, 64, "yuv420p", 15
        stream.options = {"preset": "ultrafast", "tune": "zerolatency", "threads": "1"}
        for _ in range(count):
            frame = av.VideoFrame.from_ndarray(coloured(colour), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return data.getvalue()


class Sender:
    """A TCP server that plays a stream to each who connects, at its own speed, then stalls or ends.

    Args:
        *plays: for each connection (bytes, seconds that they last, seconds to stall after it).
    """

    def __init__(self, *plays):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, args=plays, daemon=True).start()

    def _serve(self, *plays):
        for data, seconds, stall in plays:
            connection, _ = self._socket.accept()
            with connection:
                steps = max(round(seconds * 20), 1)
                size = -(-len(data) // steps)
                started = time.monotonic()
                try:
                    for step in range(steps):
                        connection.sendall(data[step * size : (step + 1) * size])
                        time.sleep(max(started + (step + 1) / 20 - time.monotonic(), 0))
                    # Gives nothing, until the other side has had enough of it.
                    if stall:
                        connection.settimeout(stall)
                        connection.recv(1)
                except OSError:
                    continue


def test_a_source_that_stalls_is_connected_to_again():
    told = []
    sender = Sender((mpeg_ts("red", 90), 3.0, 60.0), (mpeg_ts("green", 90), 3.0, 0.0))
    live = LivePredictor(
        ColourPredictor(), sender.url, stride=0.3, patience=3.0, tell=told.append, max_lag=5.0
    )
    answers = list(live.answers())
    labels = [answer.prediction.top(1)[0][0] for answer in answers]
    assert labels[0] == "red" and labels[-1] == "green" and live.counts.reconnections >= 1
    assert "connecting again (1 of 5)" in told[0]
    times = np.array([answer.time for answer in answers])
    assert (np.diff(times) > 0).all() and np.diff(times).max() > 2  # the break
    assert max(answer.lag for answer in answers) <= 5.0


def test_a_source_that_is_not_there_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(DecodeError, match="cannot be opened as a live source"):
        list(LivePredictor(ColourPredictor(), url).answers())


def test_live_on_the_command_line(video, capsys, monkeypatch):
    monkeypatch.setattr(
        "mvit_tf.cli.predict.open_model", lambda *_, **__: (ColourPredictor(seconds=0.1), [])
    )
    assert main(["predict", "m", "--live", video, "--json", "--stride", "0.5"]) == 0
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert lines and all(set(line["probabilities"]) == {"red", "green", "blue"} for line in lines)
    first, *_, last = printed.err.splitlines()
    assert "with a lag of" in first and "dropped" in last
    lags = [line["lag"] for line in lines]
    said = re.match(r"(\d+) lines, with a lag of (\S+) s in the mean and (\S+) s at most; ", last)
    assert int(said[1]) == len(lines)
    assert float(said[2]) == pytest.approx(sum(lags) / len(lags), abs=0.006)
    assert float(said[3]) == pytest.approx(max(lags), abs=0.006) and max(lags) > 0.1
    assert main(["predict", "m", "--live", video, "--spans"]) == 2


def test_ctrl_c_ends_a_live_source_with_its_counts(video, capsys, monkeypatch):
    class Interrupted(ColourPredictor):
        calls = 0

        def _probabilities(self, frames):
            self.calls += 1
            if self.calls == 4:  # two of them to see how long the model takes
                raise KeyboardInterrupt
            return super()._probabilities(frames)

    monkeypatch.setattr("mvit_tf.cli.predict.open_model", lambda *_, **__: (Interrupted(), []))
    assert main(["predict", "m", "--live", video, "--stride", "0.2", "--max_lag", "30"]) == 130
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 1
    assert "1 line, with a lag of " in printed.err and printed.err.endswith("interrupted\n")
