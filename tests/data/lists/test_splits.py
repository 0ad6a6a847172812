"""Which videos are held out, one by one and by groups."""

import numpy as np
import pytest

from mvit_tf.data.lists.splits import split_validation
from mvit_tf.data.lists.video_list import VideoList, load_video_list
from mvit_tf.errors import UserError


def test_split_is_stratified_and_repeatable():
    labels = (0,) * 20 + (1,) * 3 + (2,)
    videos = VideoList(tuple(f"{i}.mp4" for i in range(24)), labels, ("a", "b", "c"))
    train, validation = split_validation(videos, 0.2, seed=3)
    assert [validation.labels.count(k) for k in range(3)] == [4, 1, 0]
    assert sorted(train.paths + validation.paths) == sorted(videos.paths)
    assert train.class_names == validation.class_names == videos.class_names
    assert split_validation(videos, 0.2, seed=3) == (train, validation)
    assert split_validation(videos, 0.2, seed=4)[1] != validation
    # A class never gives its last video away.
    train, validation = split_validation(videos, 0.99, seed=3)
    assert [train.labels.count(k) for k in range(3)] == [1, 1, 1]


def test_split_mistakes():
    single = VideoList(("a", "b"), (0, 1), ("x", "y"))
    with pytest.raises(UserError, match="no class has two videos"):
        split_validation(single, 0.5, seed=0)
    with pytest.raises(UserError, match="not 1.5"):
        split_validation(single, 1.5, seed=0)


def grouped(groups, labels):
    names = tuple(f"class {i}" for i in range(max(labels) + 1))
    paths = tuple(f"{i}.mp4" for i in range(len(labels)))
    return VideoList(paths, tuple(labels), names, groups=tuple(groups))


def test_a_group_stays_on_one_side_and_classes_keep_their_share():
    rng = np.random.default_rng(0)
    groups = [f"match {rng.integers(60)}" for _ in range(600)]
    labels = [int(rng.random() < 0.2) for _ in groups]
    videos = grouped(groups, labels)
    for seed in range(5):
        train, validation = split_validation(videos, 0.25, seed)
        assert not set(train.groups) & set(validation.groups)
        assert sorted(train.paths + validation.paths) == sorted(videos.paths)
        share = validation.videos_per_class() / videos.videos_per_class()
        assert np.all(abs(share - 0.25) < 0.05)
    assert split_validation(videos, 0.25, 4) == (train, validation)
    assert split_validation(videos, 0.25, 5)[1] != validation


def test_no_class_gives_its_last_group_away():
    # Class 2 has one group, which it shares; class 1 has two.
    videos = grouped("aabbccdde", [0, 2, 0, 0, 1, 1, 1, 0, 0])
    for seed in range(20):
        train, validation = split_validation(videos, 0.9, seed)
        assert set(train.labels) == {0, 1, 2}
        assert validation.labels.count(2) == 0 and len(validation) > 0
    with pytest.raises(UserError, match="no class has two groups"):
        split_validation(grouped("aabb", [0, 0, 1, 1]), 0.5, seed=0)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_groups_by_column_by_name_and_by_folder(tmp_path):
    file = write(
        tmp_path / "list.csv",
        "path,label,Camera ID\ncam1/m7_a.mp4,x,A\ncam1/m7_b.mp4,y,B\ncam2/m8_a.mp4,x,\n",
    )
    last = str(tmp_path / "cam2/m8_a.mp4")
    assert load_video_list(file).groups is None
    # A video without a value is a source of its own.
    assert load_video_list(file, group_by="camera_id").groups == ("A", "B", last)
    assert load_video_list(file, group_by="^m[0-9]+").groups == ("m7", "m7", "m8")
    assert load_video_list(file, group_by="_(.)").groups == ("a", "b", "a")
    folders = [str(tmp_path / name) for name in ("cam1", "cam1", "cam2")]
    assert load_video_list(file, group_by="folder").groups == tuple(folders)


@pytest.mark.parametrize(
    ("group_by", "message"),
    [
        ("camra", r"'camra' is no column of the list \(path, label, camera\), and as a regular "
         r"expression is not found in the name of .*a.mp4"),
        ("(", r"'\(' is no column of the list \(path, label, camera\), and no regular expression"),
    ],
)  # fmt: skip
def test_groups_that_are_not_there(tmp_path, group_by, message):
    file = write(tmp_path / "list.csv", "path,label,camera\na.mp4,x,A\n")
    with pytest.raises(UserError, match=message):
        load_video_list(file, group_by=group_by)


def test_segments_of_one_file_are_a_group(tmp_path):
    file = write(tmp_path / "list.csv", "path,label,start,end\na.mp4,x,0,2\na.mp4,y,2,4\n")
    assert load_video_list(file).groups == (str(tmp_path / "a.mp4"),) * 2


def test_groups_that_cannot_be_parted_are_named():
    videos = VideoList(("a", "b", "c"), (0, 0, 1), ("x", "y"), groups=("match",) * 3)
    with pytest.raises(UserError, match=r"two groups \(there are 1: match\).*data.group_by"):
        split_validation(videos, 0.5, 0)


def test_of_few_large_groups_the_smallest_is_held_out():
    videos = grouped("a" * 24 + "b" * 20, [0, 1] * 22)
    train, validation = split_validation(videos, 0.1, seed=0)
    assert set(train.groups) == {"a"} and set(validation.groups) == {"b"}
