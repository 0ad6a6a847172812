"""The videos of a study: made from a seed, or somebody's own."""

import csv

import pytest

from mvit_tf.data.lists.video_list import load_video_list
from mvit_tf.errors import UserError
from mvit_tf.studies.study import load_study
from mvit_tf.studies.videos import make_videos, open_videos
from tests.studies.toy import write_study
from tests.training.tiny import write_videos


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return load_study(write_study(tmp_path_factory.mktemp("study")))


@pytest.fixture(scope="module")
def made(tmp_path_factory, study):
    return make_videos(study, tmp_path_factory.mktemp("made") / "videos")


def test_videos_are_made_once_and_what_is_missing_again(made, study):
    files = {path: path.stat().st_mtime_ns for path in sorted(made.source.glob("*/*/*.mp4"))}
    assert len(files) == 8 * 3 + 8 and made.num_classes == 8 and len(made.train) == 24
    assert made.guessing == 1 / 8
    make_videos(study, made.source)
    assert files == {path: path.stat().st_mtime_ns for path in files}
    lost = next(iter(files))
    content = lost.read_bytes()
    lost.unlink()
    make_videos(study, made.source)
    assert lost.read_bytes() == content
    half = lost.with_name(f".writing-1.{lost.name}")
    half.write_bytes(content[:99])
    lost.unlink()
    make_videos(study, made.source)
    assert not half.exists()
    train, test = (made.source / split / "up" / "up_0000.mp4" for split in ("train", "test"))
    assert train.read_bytes() != test.read_bytes()


def test_a_share_of_the_labels_is_of_every_class_and_drawn_by_the_seed(made, tmp_path):
    assert made.training_keys(1.0, 0, tmp_path) == {"train": str(made.source / "train")}
    assert made.test_keys() == {"validation": str(made.source / "test")}
    chosen = {}
    for seed in (0, 1):
        keys = made.training_keys(0.34, seed, tmp_path)
        videos = load_video_list(keys["train"])
        assert videos.videos_per_class().tolist() == [1] * 8
        assert set(videos.paths) < set(made.train.paths)
        chosen[seed] = set(videos.paths)
    assert chosen[0] != chosen[1]


def test_somebodys_list_with_a_split_is_taken(tmp_path):
    root = write_videos(tmp_path / "all", videos_per_class=2)
    rows = [
        (path, path.parent.name, "test" if path.stem.endswith("1") else "train")
        for path in sorted(root.glob("*/*.mp4"))
    ]
    with open(tmp_path / "split.csv", "w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    videos = open_videos(tmp_path / "split.csv")
    assert (len(videos.train), videos.num_classes) == (8, 8)
    where = str(tmp_path / "split.csv")
    assert videos.training_keys(1.0, 0, tmp_path) == {"train": where, "train_split": "train"}
    assert videos.test_keys() == {"validation": where, "validation_split": "test"}


def test_other_folders_are_refused(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match="--data=.* has no folder test; give a folder"):
        open_videos(tmp_path)
    with pytest.raises(UserError, match="no folder train and none test"):
        open_videos(tmp_path / "train")
    with pytest.raises(UserError, match="--data=.*absent does not exist"):
        open_videos(tmp_path / "absent")
