"""Files that were joined byte by byte."""

import pytest

from mvit_tf.data.video.joined import second_file
from tests.data.videos import join, write_numbered

FORMATS = {
    "mp4": ("libx264", {}),
    "mov": ("libx264", {"movflags": "faststart"}),
    "m4v": ("libx264", {"movflags": "frag_keyframe+empty_moov"}),
    "avi": ("mpeg4", {}),
    "flv": ("flv", {}),
}


@pytest.mark.parametrize("extension", FORMATS)
def test_where_a_joined_file_begins(tmp_path, extension):
    codec, options = FORMATS[extension]
    one = write_numbered(tmp_path / f"one.{extension}", 30, codec=codec, container_options=options)
    assert second_file(one) is None
    joined = join(tmp_path / f"joined.{extension}", one, one)
    assert second_file(joined) == one.stat().st_size


@pytest.mark.parametrize("size", [0, 4, 30, 1000])
def test_other_and_cut_files_hold_no_second(tmp_path, size):
    video = write_numbered(tmp_path / "a.mp4", 10).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(video[:size])
    assert second_file(tmp_path / "cut.mp4") is None
    write_numbered(tmp_path / "a.mkv", 10)
    assert second_file(join(tmp_path / "b.mkv", tmp_path / "a.mkv", tmp_path / "a.mkv")) is None
