"""Decoding alone, without TensorFlow: threads and processes, and memory over many decodes."""

import concurrent.futures
import functools
import os

import numpy as np

from benchmarks.process_tree import descendants, memory_bytes
from mvit_tf.data import clips
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.data.video import decoding
from mvit_tf.data.video.decode_workers import DecodeWorkers, in_this_process
from mvit_tf.data.video.decoding import DecodeError

_SAMPLING = ClipSampling(16)


def build(*, threads, **options):
    """The workload of `benchmarks.worker` that decodes a clip of every file; see `_Decoders`."""
    return _Decoders(**options)


def clip_frames(path, seed, ffmpeg_threads):
    """`training_frames` of a 16x4 clip with so many threads inside FFmpeg's decoder."""
    stream_of = decoding.video_stream
    decoding.video_stream = functools.partial(_threaded, stream_of, ffmpeg_threads)
    try:
        yield from clips.training_frames(path, _SAMPLING, np.random.SeedSequence(seed))
    finally:
        decoding.video_stream = stream_of


def _threaded(stream_of, threads, path, container):
    stream = stream_of(path, container)
    if threads > 1:
        stream.thread_count, stream.thread_type = threads, "AUTO"
    return stream


class _Decoders:
    """An iteration decodes one clip of every file, always the same.

    Args:
        files: paths.
        decoders: files decoded at the same time.
        in_processes: in `DecodeWorkers`, else in threads of this process.
        ffmpeg_threads: threads of each decoder.
    """

    def __init__(self, *, files, decoders, in_processes, ffmpeg_threads):
        self._files, self._ffmpeg_threads = files, ffmpeg_threads
        self._run = DecodeWorkers(decoders).run if in_processes else in_this_process
        self._pool = concurrent.futures.ThreadPoolExecutor(decoders)

    def step(self):
        """Clips decoded."""
        return sum(self._pool.map(self._decode, range(len(self._files))))

    def _decode(self, number):
        items = self._run(clip_frames, self._files[number], number, self._ffmpeg_threads)
        frames, facts = clips.gather_frames(items, lambda part, _: part)
        return len(frames[facts.picks])


def memory_after_decodes(*, files, decodes, marks, in_processes):
    """Resident memory while clips of the files are decoded in turn.

    Args:
        files: paths, good and bad.
        decodes: how many.
        marks: numbers of decodes after which to look.
        in_processes: in one of `DecodeWorkers`, which is replaced after 1000 as in training, and
            counted too.

    Returns:
        list of [decodes, bytes], and how many failed.
    """
    measured, failed = [], 0
    with DecodeWorkers(1) as workers:
        run = workers.run if in_processes else in_this_process
        for number in range(1, decodes + 1):
            items = run(clip_frames, files[number % len(files)], number, 1)
            try:
                clips.gather_frames(items, lambda part, _: part)
            except DecodeError:
                failed += 1
            if number in marks:
                own = os.getpid()
                used = [memory_bytes(pid, "VmRSS") for pid in (own, *descendants(own))]
                measured.append([number, sum(used)])
    return {"memory": measured, "failed": failed}
