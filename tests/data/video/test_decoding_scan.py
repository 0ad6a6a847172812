"""Whole videos decoded once, damage and all."""

import numpy as np
import pytest

from mvit_tf.data.video.decoding import DecodeError, open_video
from mvit_tf.data.video.scan import scan_video

from ..videos import join, write_audio, write_numbered, write_video


def noise_video(path, num_frames=60, **options):
    """Frames of noise, so that every packet is long."""
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (64, 80, 3), np.uint8) for _ in range(num_frames)]
    return write_video(path, frames, **options)


def test_sound_video(tmp_path):
    path = write_numbered(tmp_path / "video.mp4", 75, bframes=2)
    scan = scan_video(path)
    with open_video(path) as video:
        assert scan.info == video.info
    assert (scan.num_decoded, scan.num_damaged, scan.damaged_share, scan.detail) == (75, 0, 0.0, "")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
def test_damage_in_the_middle_does_not_end_the_scan(tmp_path, suffix):
    path = noise_video(tmp_path / f"noise{suffix}", gop=12)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    path.write_bytes(data)
    scan = scan_video(path)
    assert scan.num_damaged >= 1 and scan.num_decoded >= 40
    assert scan.num_decoded + scan.num_damaged == pytest.approx(60, abs=1)
    assert scan.damaged_share == scan.num_damaged / (scan.num_decoded + scan.num_damaged)
    seconds = float(scan.detail.split(" at ")[1].split(" s")[0])
    assert 0.6 < seconds < 1.4 and "\n" not in scan.detail


def test_cut_off_video(tmp_path):
    whole = noise_video(tmp_path / "whole.mp4", container_options={"movflags": "faststart"})
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    scan = scan_video(path)
    assert scan.num_decoded + scan.num_damaged == pytest.approx(60, abs=2)
    assert 0.4 < scan.damaged_share < 0.6 and "of 2.00 s" in scan.detail


def test_joined_files_are_sound(tmp_path):
    parts = [write_numbered(tmp_path / f"{n}.ts", 45, bframes=2) for n in range(2)]
    scan = scan_video(join(tmp_path / "joined.ts", *parts))
    assert (scan.num_decoded, scan.num_damaged, scan.detail) == (90, 0, "")


def test_what_cannot_be_opened_is_an_error(tmp_path):
    for path in (tmp_path / "missing.mp4", write_audio(tmp_path / "sound.mp4")):
        with pytest.raises(DecodeError):
            scan_video(path)
