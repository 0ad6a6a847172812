"""`ClipSampling.evaluation_indices` in the graph, where frames and their rate are tensors."""

import tensorflow as tf

from mvit_tf.data.sampling import ROUNDING_GUARD
from mvit_tf.export.requests import require


def evaluation_indices(sampling, num_clips, num_frames, fps):
    """The frames of evenly spread clips, by the arithmetic of `ClipSampling`.

    Args:
        sampling: ClipSampling.
        num_clips: int.
        num_frames: int scalar tensor, frames of the video, at least 1.
        fps: float64 scalar tensor, its frames a second.

    Returns:
        int32 (num_clips, T). An InvalidArgument where the video is shorter than a clip and
        `sampling.short_videos` is "reject".
    """
    count = tf.cast(num_frames, tf.float64)
    if sampling.rule == "segments":
        too_short = count < sampling.num_frames
        positions = _segment_middles(sampling, count)[None]
    else:
        span = _times(fps, sampling.num_frames * sampling.sampling_rate) / _as_it_is(
            sampling.target_fps
        )
        too_short = count < tf.floor(span)
        starts = _starts(tf.maximum(count - span, 0.0), num_clips)[:, None]
        positions = starts + _offsets(sampling, span)
        positions = tf.maximum(tf.floor(positions + ROUNDING_GUARD), 0.0)
        if sampling.rule == "linspace":
            # A span under one frame would run backwards.
            positions = tf.maximum(positions, positions[:, :1])
    last = count - 1
    held = tf.minimum(positions, last)
    if sampling.short_videos == "loop" and sampling.rule != "segments":
        held = tf.where(too_short, tf.math.floormod(positions, count), held)
    indices = tf.cast(held, tf.int32)
    if sampling.short_videos == "reject":
        said = "the video is shorter than a clip; frames a second and frames:"
        indices = require([(~too_short, said, fps, num_frames)], indices)
    return tf.ensure_shape(indices, [num_clips, sampling.num_frames])


def _starts(slack, num_clips):
    if num_clips == 1:
        return tf.floor(slack / 2)[None]
    step = tf.floor(slack / _as_it_is(num_clips - 1))
    return tf.range(num_clips, dtype=tf.float64) * step


def _offsets(sampling, span):
    """Of the frames of a clip from its start, float64 (T,)."""
    steps = tf.range(sampling.num_frames, dtype=tf.float64)
    if sampling.rule == "stride":
        return steps * (span / _as_it_is(sampling.num_frames))
    if sampling.num_frames == 1:
        return steps
    return steps * ((span - 1) / _as_it_is(sampling.num_frames - 1))


def _segment_middles(sampling, count):
    length = (count - 1) / _as_it_is(sampling.num_frames)
    # Halves to even, as NumPy rounds.
    edges = tf.round(length * tf.range(sampling.num_frames + 1, dtype=tf.float64))
    return tf.math.floordiv(edges[:-1] + edges[1:], 2.0)


def _times(tensor, number):
    return tf.constant(number, tf.float64) * tensor


def _as_it_is(number):
    """A constant that TensorFlow's optimizer does not know: by its inverse quotients differ."""
    constant = tf.constant(number, tf.float64)
    return tf.raw_ops.PlaceholderWithDefault(input=constant, shape=[])
