"""Beam makes what one machine makes."""

import sys

import pytest

from mvit_tf.cli.main import main
from mvit_tf.data.records.beam import BeamShards
from mvit_tf.errors import UserError

from .sets import class_folders, contents, make_set


def test_beam_makes_the_same_bytes(tmp_path):
    pytest.importorskip("apache_beam")
    videos = class_folders(tmp_path / "videos")
    (videos / "a/bad.mp4").write_text("no video")
    make_set(videos, tmp_path / "local", name="videos", num_shards=3)
    for output in ("beam", "beam", "resumed"):
        if output == "resumed":  # Without one of the files, its manifest there.
            (tmp_path / "beam").rename(tmp_path / "resumed")
            (tmp_path / "resumed/videos-00001-of-00003.tfrecord").unlink()
        command = ["prepare", str(videos), str(tmp_path / output), "--runner=DirectRunner"]
        command += ["--max_failure_share=0.5", "--shards=3"]
        assert main([*command, "--pipeline_options=--direct_num_workers=2"]) == 0
        assert contents(tmp_path / output) == contents(tmp_path / "local")


def test_options_of_no_runner(tmp_path, capsys):
    class_folders(tmp_path / "videos", count=2)
    command = ["prepare", str(tmp_path / "videos"), str(tmp_path / "set")]
    assert main([*command, "--pipeline_options=--x=1"]) == 2
    assert "--pipeline_options are those of --runner" in capsys.readouterr().err


def test_beam_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam.runners", None)
    with pytest.raises(UserError, match=r"pip install 'mvit_tf\[beam\]'"):
        BeamShards("DirectRunner", [], 60.0)
