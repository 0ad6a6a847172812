"""The clips of evaluation, picked in the graph."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from mvit_tf.data.sampling import ClipSampling
from mvit_tf.export.view_sampling import evaluation_indices

FRAME_RATES = (30.0, 25.0, 23.976, 30000 / 1001, 15.0, 1.0, 59.94, 120.0)
# Videos shorter than a clip, of just its length, and longer by odd numbers.
LENGTHS = (1, 2, 3, 5, 7, 9, 15, 16, 17, 31, 33, 63, 64, 65, 90, 101, 127, 300, 1001, 5003)


@pytest.mark.parametrize(
    ("sampling", "num_clips"),
    [
        (ClipSampling(num_frames=16, sampling_rate=4), 5),
        (ClipSampling(num_frames=16, sampling_rate=4), 1),
        (ClipSampling(num_frames=7, sampling_rate=3, rule="stride"), 10),
        (ClipSampling(num_frames=4, sampling_rate=2.5, short_videos="loop"), 3),
        (ClipSampling(num_frames=10, sampling_rate=1, rule="stride", short_videos="loop"), 2),
        (ClipSampling(num_frames=1), 4),
        *((ClipSampling(num_frames=frames, rule="segments"), 1) for frames in (1, 7, 10, 16, 32)),
    ],
)
def test_the_graph_picks_the_frames_that_evaluation_picks(sampling, num_clips):
    graph = tf.function(
        lambda count, fps: evaluation_indices(sampling, num_clips, count, fps),
        input_signature=[tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.float64)],
    )
    # By "segments" no rate counts, and exact halves are many.
    cases = itertools.product(LENGTHS, FRAME_RATES)
    if sampling.rule == "segments":
        cases = ((length, 30.0) for length in range(1, 160))
    for count, fps in cases:
        expected = sampling.evaluation_indices(count, fps, num_clips)
        assert np.array_equal(graph(count, fps), expected), (count, fps)


def test_a_video_shorter_than_a_clip_is_rejected_where_it_should_be():
    sampling = ClipSampling(num_frames=4, sampling_rate=2, short_videos="reject")
    graph = tf.function(lambda count, fps: evaluation_indices(sampling, 2, count, fps))
    fps = tf.constant(30.0, tf.float64)
    assert np.array_equal(graph(tf.constant(8), fps), sampling.evaluation_indices(8, 30.0, 2))
    with pytest.raises(tf.errors.InvalidArgumentError, match="shorter than a clip.*30.*7"):
        graph(tf.constant(7), fps)
