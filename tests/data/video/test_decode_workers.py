"""Workers that hang, crash and end, and what becomes of the videos asked of them."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from mvit_tf.data.clips import gather_frames
from mvit_tf.data.video.decode_workers import DecodeWorkers
from mvit_tf.data.video.decoding import DecodeError
from mvit_tf.errors import UserError

from . import decoder_functions


@pytest.fixture
def workers():
    with DecodeWorkers(1, time_limit=3.0, videos_per_worker=3) as workers:
        yield workers


def test_what_a_worker_yields_arrives_and_may_be_written_to(workers):
    items = list(workers.run(decoder_functions.whole, "a.mp4", 3))
    for number, (frames, pid) in enumerate(items):
        np.testing.assert_array_equal(frames, np.full((2, 3), number, np.uint8))
        frames += 1
        assert pid != os.getpid()
    (data,) = workers.run(decoder_functions.large, "a.mp4", 10**8)
    assert data.nbytes == 10**8 and data[300] == 300 - 256


def test_a_workers_error_is_the_callers_and_the_worker_stays(workers):
    ((_, pid),) = workers.run(decoder_functions.whole, "a.mp4", 1)
    with pytest.raises(DecodeError, match="bad.mp4: damaged") as caught:
        list(workers.run(decoder_functions.fails, "bad.mp4"))
    assert caught.value.outcome == "decode_error"
    assert [pid for _, pid in workers.run(decoder_functions.whole, "a.mp4", 1)] == [pid]
    # Three videos were its share.
    assert [pid for _, pid in workers.run(decoder_functions.whole, "a.mp4", 1)] != [pid]


@pytest.mark.parametrize(
    ("function", "outcome", "detail"),
    [
        ("hangs", "decoder_timeout", "gave nothing for 3 s and was stopped"),
        ("aborts", "decoder_crash", "the decoder crashed (SIGABRT)"),
    ],
)
def test_a_worker_that_hangs_or_crashes_is_replaced(workers, function, outcome, detail):
    started = time.monotonic()
    with pytest.raises(DecodeError) as caught:
        list(workers.run(getattr(decoder_functions, function), "bad.mp4"))
    assert time.monotonic() - started < 10
    assert (caught.value.path, caught.value.outcome) == ("bad.mp4", outcome)
    assert detail in str(caught.value)
    assert len(list(workers.run(decoder_functions.whole, "a.mp4", 2))) == 2


def test_more_threads_than_workers_share_them():
    seen = []

    def work(workers):
        for _ in range(5):
            seen.extend(pid for _, pid in workers.run(decoder_functions.whole, "a.mp4", 2))

    with DecodeWorkers(2) as workers:
        threads = [threading.Thread(target=work, args=(workers,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(seen) == 80 and len(set(seen)) <= 2


@pytest.mark.parametrize("function", ["whole", "hangs"])
def test_no_worker_outlives_the_process_that_asked(function):
    code = f"""
import os, signal, sys, threading, time
sys.path[:0] = {sys.path!r}
from mvit_tf.data.video.decode_workers import DecodeWorkers
from tests.data.video import decoder_functions
workers = DecodeWorkers(1)
items = workers.run(decoder_functions.{function}, "a.mp4", 10**9)
threading.Thread(target=list, args=(items,), daemon=True).start()
while not workers._busy:
    time.sleep(0.01)
(worker,) = workers._busy
print(worker._process.pid, flush=True)
time.sleep(1)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert_gone([int(done.stdout)])


def assert_gone(pids):
    deadline = time.monotonic() + 10
    for pid in pids:
        while True:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                break
            assert time.monotonic() < deadline, "a worker is still there"
            time.sleep(0.05)


def test_closing_ends_every_worker_even_one_at_work():
    workers = DecodeWorkers(4)
    items = [workers.run(decoder_functions.whole, "a.mp4", 10**9) for _ in range(4)]
    pids = [next(item)[1] for item in items]
    assert len(set(pids)) == 4
    for item in items:
        item.close()
    items = [workers.run(decoder_functions.whole, "a.mp4", count) for count in (1, 1, 10**9)]
    pids += [next(item)[1] for item in items]
    assert [list(item) for item in items[:2]] == [[], []]  # Two are idle, and one at work.
    workers.close()
    with pytest.raises(DecodeError, match="SIGKILL"):
        list(items[2])
    assert_gone(pids)


def test_a_worker_that_died_while_idle_is_not_the_next_videos_fault(workers):
    ((_, pid),) = workers.run(decoder_functions.whole, "a.mp4", 1)
    os.kill(pid, signal.SIGKILL)
    ((_, other),) = workers.run(decoder_functions.whole, "b.mp4", 1)
    assert other != pid


def test_modules_of_the_current_folder_are_not_taken(workers, tmp_path, monkeypatch):
    (tmp_path / "av.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    assert len(list(workers.run(decoder_functions.whole, "a.mp4", 2))) == 2


@pytest.mark.parametrize("error", [EOFError, BrokenPipeError])
def test_errors_of_the_function_that_look_like_a_dead_workers(workers, error):
    with pytest.raises(error):
        list(workers.run(decoder_functions.raises, "a.mp4", error))
    assert len(list(workers.run(decoder_functions.whole, "a.mp4", 2))) == 2


def test_an_unused_item_ends_the_worker_not_the_next_video(workers):
    items = workers.run(decoder_functions.whole, "a.mp4", 100)
    next(items)
    items.close()
    assert len(list(workers.run(decoder_functions.whole, "b.mp4", 2))) == 2


def test_decode_errors_can_be_sent():
    error = DecodeError("a.mp4", "decode_error", "damaged")
    same = pickle.loads(pickle.dumps(error))
    assert (same.path, same.outcome, same.detail) == ("a.mp4", "decode_error", "damaged")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 0}, "count must be at least 1, got 0"),
        ({"count": 1, "videos_per_worker": 0}, "videos_per_worker"),
        ({"count": 1, "time_limit": 0.0}, "time_limit must be greater than 0 .* got 0.0"),
        ({"count": 1, "time_limit": 1e12}, "time_limit .* at most .* seconds, got 1000000000000.0"),
    ],
)
def test_values_out_of_range(changes, message):
    with pytest.raises(UserError, match=message):
        DecodeWorkers(**changes)


def test_a_mistake_while_a_clip_is_made_frees_the_worker(workers):
    def shrink(frames, clip):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        gather_frames(workers.run(decoder_functions.one_clip, "a.mp4"), shrink)
    assert len(list(workers.run(decoder_functions.whole, "a.mp4", 2))) == 2
    workers.close()
    with pytest.raises(ValueError, match="closed"):
        list(workers.run(decoder_functions.whole, "a.mp4", 2))
