"""Reads many mutated videos and prints what becomes of each; run as a script by a test.

``python mutated_videos.py FOLDER COUNT SEED`` mutates the files of FOLDER in turn. A line of
output is: number, file, mutation, outcome, seconds. SIGALRM ends the process where a file takes
longer than the time limit, be it in FFmpeg or in Python.
"""

import pathlib
import resource
import signal
import sys
import time

import numpy as np

from mvit_tf.data.sampling import ClipSampling
from mvit_tf.data.video.decoding import OUTCOMES, DecodeError, open_video
from mvit_tf.data.video.scan import scan_video

TIME_LIMIT = 20  # Seconds.
MEMORY_LIMIT = 4 << 30  # Bytes of address space.


def flip(data, rng):
    for place in rng.integers(0, len(data), rng.integers(1, 30)):
        data[place] = rng.integers(0, 256)
    return data


def flip_header(data, rng):
    for place in rng.integers(0, min(len(data), 1500), rng.integers(1, 6)):
        data[place] = rng.integers(0, 256)
    return data


def zero(data, rng):
    start, length = rng.integers(0, len(data)), rng.integers(1, len(data) // 3)
    data[start : start + length] = bytes(len(data[start : start + length]))
    return data


def truncate(data, rng):
    return data[: rng.integers(0, len(data))]


def remove(data, rng):
    start, length = rng.integers(0, len(data)), rng.integers(1, len(data) // 3)
    return data[:start] + data[start + length :]


def swap(data, rng):
    first, second, third = sorted(rng.integers(0, len(data), 3))
    return data[:first] + data[second:third] + data[first:second] + data[third:]


def repeat(data, rng):
    start, end = sorted(rng.integers(0, len(data), 2))
    return data[:end] + data[start:]


MUTATIONS = (flip, flip_header, zero, truncate, remove, swap, repeat)


def outcome_of(path):
    """ "ok", or the outcome of the DecodeError; anything else is a defect and is raised."""
    try:
        with open_video(path) as video:
            info = video.info
            clips = ClipSampling(8).evaluation_indices(info.num_frames, info.fps, 2)
            for clip in video.clips_at_indices(clips):
                assert clip.shape == (8, info.height, info.width, 3)
        outcome = "ok"
    except DecodeError as error:
        outcome = error.outcome
        assert outcome in OUTCOMES and "\n" not in str(error)
    try:
        scan = scan_video(path)
        assert scan.num_decoded >= 0 and scan.num_damaged >= 0 and 0 <= scan.damaged_share <= 1
    except DecodeError as error:
        assert error.outcome in OUTCOMES
    return outcome


def main(folder, count, seed):
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    rng = np.random.default_rng(seed)
    sources = sorted(pathlib.Path(folder).glob("whole*"))
    for number in range(count):
        source = sources[number % len(sources)]
        mutation = MUTATIONS[rng.integers(len(MUTATIONS))]
        data = mutation(bytearray(source.read_bytes()), rng)
        path = source.with_name(f"mutated{source.suffix}")
        path.write_bytes(data)
        print(number, source.name, mutation.__name__, end=" ", flush=True)
        start = time.monotonic()
        signal.alarm(TIME_LIMIT)
        outcome = outcome_of(path)
        signal.alarm(0)
        print(outcome, f"{time.monotonic() - start:.3f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
