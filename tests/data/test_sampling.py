import numpy as np
import pytest

from mvit_tf.data.sampling import ClipSampling
from mvit_tf.errors import UserError


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (ClipSampling(16, 4), [0, 4, 8, 12, 16, 21, 25, 29, 33, 37, 42, 46, 50, 54, 58, 63]),
        (ClipSampling(16, 4, rule="stride"), list(range(0, 64, 4))),
        (ClipSampling(8, 8), [0, 9, 18, 27, 36, 45, 54, 63]),
        (ClipSampling(32, 3), [int(3.0645161290322582 * i + 1e-9) for i in range(32)]),
    ],
)
def test_indices_at_target_rate_are_slowfasts(sampling, expected):
    assert sampling.indices(0, 300, 30.0).tolist() == expected


def test_32x3_matches_the_published_indices():
    indices = ClipSampling(32, 3).indices(0, 300, 30.0).tolist()
    assert indices[:2] == [0, 3] and indices[15:18] == [45, 49, 52] and indices[-1] == 95


def test_indices_whole_on_paper_are_not_rounded_down():
    # 64x3 at 24 frames a second: 45 * (153.6 - 1) / 63 is 109 exactly, but 108.99... in floats.
    indices = ClipSampling(64, 3).indices(0, 300, 24.0)
    assert indices[45] == 109 and np.floor(np.linspace(0, 64 * 3 * 24 / 30 - 1, 64))[45] == 108


def test_span_follows_the_videos_own_rate():
    sampling = ClipSampling(16, 4)
    assert sampling.span(60.0) == 128
    # At 60 frames a second: linspace(10, 137, 16), a step of 127 / 15.
    expected = np.floor(10 + np.arange(16) * (127 / 15) + 1e-6).astype(int).tolist()
    assert sampling.indices(10, 1000, 60.0).tolist() == expected
    stride = ClipSampling(16, 4, rule="stride")
    assert stride.indices(2, 1000, 15.0).tolist() == list(range(2, 34, 2))


def test_uniform_starts_follow_slowfasts_offset_rule():
    sampling = ClipSampling(16, 4)  # 64 frames at 30 fps; 300 leave 236.
    assert sampling.uniform_starts(300, 30.0, 1).tolist() == [118]
    assert sampling.uniform_starts(300, 30.0, 5).tolist() == [0, 59, 118, 177, 236]
    assert sampling.uniform_starts(300, 30.0, 10).tolist() == [26 * k for k in range(10)]
    assert sampling.uniform_starts(40, 30.0, 3).tolist() == [0, 0, 0]


def test_short_video_repeats_its_last_frame():
    indices = ClipSampling(16, 4).indices(0, 20, 30.0)
    assert indices.tolist() == [0, 4, 8, 12, 16] + [19] * 11
    assert ClipSampling(4, 1).indices(0, 1, 30.0).tolist() == [0, 0, 0, 0]


def test_random_starts_cover_exactly_the_possible_range():
    sampling, rng = ClipSampling(16, 4), np.random.default_rng(0)
    starts = np.array([sampling.random_start(100, 30.0, rng) for _ in range(2000)])
    assert 0 <= starts.min() < 0.5 and 35.5 < starts.max() <= 36
    assert abs(starts.mean() - 18) < 1
    clips = np.stack([sampling.training_indices(100, 30.0, rng) for _ in range(500)])
    assert clips.min() == 0 and clips.max() in (98, 99)
    assert (np.diff(clips, axis=1) >= 4).all() and (np.diff(clips, axis=1) <= 5).all()


def test_evaluation_indices_stack_the_uniform_clips():
    clips = ClipSampling(8, 2).evaluation_indices(46, 30.0, 3)
    assert clips[:, 0].tolist() == [0, 15, 30] and clips[:, -1].tolist() == [15, 30, 45]


def test_indices_never_run_backwards_at_low_rates():
    for rule in ("linspace", "stride"):
        indices = ClipSampling(16, 1, rule=rule).indices(3, 50, 1.0)  # Half a frame of span.
        assert (np.diff(indices) >= 0).all() and indices[0] == 3


def test_plain_data_round_trip():
    sampling = ClipSampling(32, 3, target_fps=25.0, rule="stride")
    assert ClipSampling.from_dict(sampling.to_dict()) == sampling


@pytest.mark.parametrize(
    ("arguments", "quoted"),
    [
        ({"num_frames": 0}, "0"),
        ({"num_frames": 8, "sampling_rate": -1}, "-1"),
        ({"num_frames": 8, "target_fps": 0.0}, "0.0"),
        ({"num_frames": 8, "rule": "random"}, "'random'.*linspace, stride"),
    ],
)
def test_bad_values_are_refused_and_quoted(arguments, quoted):
    with pytest.raises(UserError, match=quoted):
        ClipSampling(**arguments)


def test_no_clips_is_refused():
    with pytest.raises(UserError, match="num_clips.*0"):
        ClipSampling(8).uniform_starts(100, 30.0, 0)


def test_segments_cover_the_video():
    sampling = ClipSampling(num_frames=8, rule="segments")
    # SlowFast's formula, ten frames a segment.
    assert sampling.evaluation_indices(81, 12.0, 1).tolist() == [[5, 15, 25, 35, 45, 55, 65, 75]]
    assert sampling.evaluation_indices(5, 12.0, 1).tolist() == [[0, 0, 1, 2, 2, 2, 3, 4]]
    draws = np.stack(
        [sampling.training_indices(81, 12.0, np.random.default_rng(seed)) for seed in range(200)]
    )
    assert draws.min(0).tolist() == [10 * i for i in range(8)]
    assert draws.max(0).tolist() == [10 * i + 10 for i in range(8)]
    with pytest.raises(UserError, match="one evaluation clip, not 5"):
        sampling.evaluation_indices(81, 12.0, 5)
