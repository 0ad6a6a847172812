"""What a worker process may be asked to run, well behaved and not."""

import os
import time

import numpy as np

from mvit_tf.data.clips import ClipFrames, clip_parts
from mvit_tf.data.video.decoding import DecodeError


def whole(path, count):
    print("a library's words")
    for number in range(count):
        yield np.full((2, 3), number % 256, np.uint8), os.getpid()


def fails(path):
    yield 1
    raise DecodeError(path, "decode_error", "damaged")


def hangs(path, *_):
    time.sleep(60)
    yield


def aborts(path, *_):
    os.abort()
    yield


def aborts_on_bad_names(path, *args):
    if "bad" in path:
        os.abort()
    yield from clip_parts(path, *args)


def large(path, size):
    yield np.arange(size, dtype=np.uint8)


def one_clip(path):
    yield ClipFrames(np.zeros([1, 2], int), 2, False, 3, 4, np.zeros([1, 2]))
    yield np.zeros([2, 4, 3, 3], np.uint8)


def raises(path, error):
    yield from ()
    raise error
