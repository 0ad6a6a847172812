"""Clips of one video read one after the other."""

import numpy as np
import pytest

from mvit_tf.data.sampling import ClipSampling
from mvit_tf.data.video import decoding
from mvit_tf.data.video.decoding import DecodeError, VideoReader, open_video

from ..videos import read_numbers, write_numbered


@pytest.fixture
def decoded(monkeypatch):
    """A list that grows by one with every frame decoded."""
    frames = []
    decode = VideoReader._decode

    def counted(self):
        for picture in decode(self):
            frames.append(picture.pts)
            yield picture

    monkeypatch.setattr(VideoReader, "_decode", counted)
    return frames


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".mpg"])
def test_overlapping_clips_cost_one_pass(tmp_path, decoded, suffix):
    codec = {"codec": "mpeg2video"} if suffix == ".mpg" else {"bframes": 2}
    path = write_numbered(tmp_path / f"video{suffix}", 150, gop=250, **codec)
    clips = ClipSampling(16).evaluation_indices(150, 30.0, 5)
    assert all(after[0] < before[-1] for before, after in zip(clips, clips[1:], strict=False))
    with open_video(path) as video:
        made = [read_numbers(clip) for clip in video.clips_at_indices(clips)]
    np.testing.assert_array_equal(made, clips)
    assert len(decoded) <= 150


def test_frames_are_held_no_longer_than_wanted(tmp_path, monkeypatch):
    path = write_numbered(tmp_path / "video.mp4", 120)
    clips = [range(0, 32, 4), range(20, 52, 4), range(60, 92, 4)]
    with open_video(path) as video:
        frames = video.clips_at_indices(clips)
        kept = []
        for _ in clips:
            next(frames)
            kept.append(sorted(frames.gi_frame.f_locals["kept"]))
    assert kept == [[20, 24, 28], [], []]


def test_clips_in_any_order_and_outside(tmp_path):
    path = write_numbered(tmp_path / "video.mp4", 60, bframes=2)
    clips = [[50, 59, 80], [], [3, 1, 1], [-4, 30], [59, 0]]
    expected = [[50, 59, 59], [], [3, 1, 1], [0, 30], [59, 0]]
    with open_video(path) as video:
        made = list(video.clips_at_indices(clips))
        again = [video.frames_at_indices(clip) for clip in clips]
    assert [read_numbers(clip).tolist() for clip in made] == expected
    for clip, same in zip(made, again, strict=True):
        np.testing.assert_array_equal(clip, same)


def test_clip_after_clip_goes_on_where_it_stands(tmp_path, decoded):
    path = write_numbered(tmp_path / "video.mp4", 120, gop=250)
    with open_video(path) as video:
        for start in (0, 30, 60, 90):
            video.frames_at_indices(range(start, start + 30))
        assert len(decoded) == 120
        video.frames_at_indices([10])  # Back again, from the keyframe before.
    assert 120 < len(decoded) <= 120 + 12


def test_clips_before_the_damage_are_given(tmp_path):
    whole = write_numbered(
        tmp_path / "whole.mp4", 60, container_options={"movflags": "faststart"}
    ).read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: int(len(whole) * 0.6)])
    with open_video(path) as video:
        clips = video.clips_at_indices([range(8), range(52, 60)])
        assert read_numbers(next(clips)).tolist() == list(range(8))
        with pytest.raises(DecodeError) as caught:
            next(clips)
    assert caught.value.outcome == "decode_error" and caught.value.outcome in decoding.OUTCOMES


@pytest.mark.parametrize("stamped", ["evenly", "unevenly"])
def test_pictures_that_nothing_needs_are_not_decoded(tmp_path, monkeypatch, stamped):
    count, rng = 90, np.random.default_rng(0)
    # Some frames are shown for half a second, among them B-frames on which nothing builds.
    gaps = np.full(count, 0.04) if stamped == "evenly" else rng.choice([0.02, 0.04, 0.5], count)
    path = write_numbered(
        tmp_path / "a.mp4", count, gop=40, bframes=3, stamps=np.cumsum(gaps) - gaps[0], fps=25
    )
    seen = []
    decode = VideoReader._decode

    def counted(reader):
        for picture in decode(reader):
            seen.append(picture)
            yield picture

    monkeypatch.setattr(VideoReader, "_decode", counted)
    with open_video(path) as video:
        indices = np.arange(video.info.num_frames)
        everything = video.frames_at_indices(indices)
    for _ in range(60):
        picked = np.sort(rng.choice(indices, 3))
        with open_video(path) as video:
            seen.clear()
            np.testing.assert_array_equal(video.frames_at_indices(picked), everything[picked])
            few = len(seen)
        with open_video(path) as video:
            video._may_skip = False
            seen.clear()
            video.frames_at_indices(picked)
            assert few <= len(seen)
    picked = [30]
    with open_video(path) as video:
        seen.clear()
        video.frames_at_indices(picked)
        assert len(seen) < 0.8 * read_numbers(everything[30])
