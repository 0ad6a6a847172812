"""Sets on a file system of TensorFlow's own, as gs:// is; here its file system in memory."""

import os

import numpy as np
import tensorflow as tf

from mvit_tf.cli.main import main
from mvit_tf.data.lists.content import checksum, size_of
from mvit_tf.data.lists.video_list import load_video_list
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.data.pipeline import evaluation_views
from mvit_tf.data.preprocessing import Preprocessing
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.data.video.decode_workers import DecodeWorkers

from .sets import class_folders, contents, make_set


def test_made_and_read_elsewhere(tmp_path):
    videos = class_folders(tmp_path / "videos")
    make_set(videos, tmp_path / "set")
    folder = f"ram://{tmp_path.name}/set"
    make_set(videos, folder)
    local = contents(tmp_path / "set")
    there = {name: tf.io.gfile.GFile(f"{folder}/{name}", "rb").read() for name in local}
    assert there == local
    assert set(tf.io.gfile.listdir(folder)) == set(local)

    for source in (folder, f"{folder}/set-manifest.json", f"{folder}/set-*.tfrecord"):
        found = load_video_list(source)
        assert found.paths[1].startswith(f"{folder}/set-00000-of-00002.tfrecord#")
        assert found.labels == load_video_list(tmp_path / "set").labels
    assert [size_of(path) for path in found.paths] == [
        size_of(path) for path in load_video_list(tmp_path / "set").paths
    ]
    assert len({checksum(path) for path in found.paths}) == len(found)
    ledger = OutcomeLedger()
    with DecodeWorkers(1) as workers:
        views = [
            evaluation_views(
                load_video_list(source),
                sampling=ClipSampling(num_frames=2),
                preprocessing=Preprocessing(size=(16, 16), short_side=20),
                num_clips=1, num_crops=1, batch_size=3, ledger=ledger, workers=workers,
            )
            for source in (tmp_path / "set", folder)
        ]  # fmt: skip
        for (one, _), (other, _) in zip(*views, strict=True):
            np.testing.assert_array_equal(one, other)
    assert not ledger.failures


def test_a_file_system_that_is_not_there_is_refused_in_one_line(tmp_path, monkeypatch, capsys):
    class_folders(tmp_path / "videos", count=2)
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", "videos", "nowhere://set"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: nowhere://set ") and printed.count("\n") == 1
    assert os.listdir(tmp_path) == ["videos"]
