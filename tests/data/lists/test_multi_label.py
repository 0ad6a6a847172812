"""Lists whose videos have any number of labels: their forms, their intervals, their splits."""

import json

import numpy as np
import pytest

from mvit_tf.data.lists import data_checks
from mvit_tf.data.lists.saved_split import SavedSplit, save_split
from mvit_tf.data.lists.splits import split_validation
from mvit_tf.data.lists.video_list import VideoList, load_video_list
from mvit_tf.errors import UserError

CHARADES = """\
id,subject,script,actions,length
A1B2C,XYZ,"Sits, then ""sleeps"" late",c001 11.90 21.20;c003 0.00 12.60;c001 2 3.5,24.83
QQQQQ,XYZ,Nothing.,,10.00
"""
CLASSES = "c000 Holding\nc001 Putting\nc002 Taking\nc003 Throwing\n"


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.csv", "path,label\na.mp4,run; jump\nb.mp4,\nc.mp4,run|run\n"),
        ("l.csv", 'path;labels\na.mp4;["run", "jump"]\nb.mp4;\nc.mp4;run\n'),
        (
            "l.json",
            json.dumps(
                [
                    {"path": "a.mp4", "label": ["jump", "run"]},
                    {"path": "b.mp4", "label": []},
                    {"path": "c.mp4", "label": "run"},
                ]
            ),
        ),
    ],
)
def test_several_labels_in_every_form(tmp_path, name, text):
    videos = load_video_list(write(tmp_path / name, text), multi_label=True)
    assert videos.multi_label and videos.class_names == ("jump", "run")
    assert videos.labels == ((0, 1), (), (1,))
    assert videos.videos_per_class().tolist() == [1, 2]
    assert videos.subset([2, 0]).labels == ((1,), (0, 1))
    balance = data_checks.balance(videos)
    assert balance == "run 2, jump 1; 1.0 labels a video, 1 videos without"


def test_a_plain_list_and_class_folders_have_tuples_too(tmp_path):
    videos = load_video_list(write(tmp_path / "l.txt", "a.mp4 0;2\nb.mp4 1\n"), multi_label=True)
    assert videos.labels == ((0, 2), (1,)) and videos.class_names == ("0", "1", "2")
    write(tmp_path / "folders" / "run" / "a.mp4", "")
    assert load_video_list(tmp_path / "folders", multi_label=True).labels == ((0,),)


def test_a_label_is_one_text_unless_asked(tmp_path):
    text = "path,label\na.mp4,run; jump\nb.mp4,[a] b|c\n"
    videos = load_video_list(write(tmp_path / "l.csv", text))
    assert not videos.multi_label and videos.class_names == ("[a] b|c", "run; jump")
    several = json.dumps([{"id": "1", "label": "a"}, {"id": "2", "label": ["a", "b"]}])
    with pytest.raises(UserError, match="l.json, entry 2: the column label .*multi_label=true"):
        load_video_list(write(tmp_path / "l.json", several))
    with pytest.raises(UserError, match="c.csv, line 2: the column actions .*multi_label=true"):
        load_video_list(write(tmp_path / "c.csv", CHARADES))


def test_charades_finds_files_by_id_and_keeps_the_times(tmp_path):
    write(tmp_path / "videos" / "deep" / "A1B2C.mkv", "")
    file = write(tmp_path / "train.csv", CHARADES)
    videos = load_video_list(file, root=tmp_path / "videos", multi_label=True)
    assert videos.class_names == ("c001", "c003") and videos.labels == ((0, 1), ())
    assert videos.paths[0].endswith("deep/A1B2C.mkv") and videos.paths[1].endswith("QQQQQ.mp4")

    classes = write(tmp_path / "Charades_v1_classes.txt", CLASSES)
    videos = load_video_list(file, multi_label=True)
    assert videos.class_names == tuple(CLASSES.splitlines()) and videos.labels == ((1, 3), ())
    assert videos.intervals == (((1, 11.9, 21.2), (3, 0.0, 12.6), (1, 2.0, 3.5)), ())
    # The same by a label map, which is how a trained model's classes come.
    classes.unlink()
    assert load_video_list(file, class_names=CLASSES.splitlines(), multi_label=True) == videos


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ("c001 1.0", r"line 2: action 'c001 1.0' is not a class with start and end"),
        ("c001 3.0 2.0", "ends before it starts"),
        ("c001 1.2.3 4", "is not a class with start"),
        ("c009 1.0 2.0", r"line 2: label 'c009' is not one of the classes \(c000 Holding"),
        ("", "none of its 1 videos has a label"),
    ],
)
def test_mistakes_in_charades_are_named(tmp_path, actions, message):
    file = write(tmp_path / "train.csv", f"id,actions\nA1B2C,{actions}\n")
    names = CLASSES.splitlines() if actions else None
    with pytest.raises(UserError, match=message):
        load_video_list(file, class_names=names, multi_label=True)


def test_an_action_counts_where_it_overlaps_the_clip():
    intervals = (((0, 2.0, 3.0), (1, 5.0, 9.0), (0, 7.0, 8.0)),)
    videos = VideoList(("a.mp4",), ((0, 1, 2),), ("a", "b", "always"), intervals=intervals)
    for first, last, expected in (
        (0.0, 1.9, [0, 0, 1]),
        (0.0, 2.0, [1, 0, 1]),  # the last frame is the first of the action
        (2.9, 4.0, [1, 0, 1]),
        (3.0, 4.0, [0, 0, 1]),  # an action's end is not part of it
        (2.5, 2.5, [1, 0, 1]),
        (0.0, 6.0, [1, 1, 1]),
        (6.0, 7.5, [1, 1, 1]),  # by its second time
        (8.0, 8.5, [0, 1, 1]),
    ):
        target = videos.target(0, first, last)
        assert target.dtype == np.float32 and target.tolist() == expected, (first, last)
    single = VideoList(("a.mp4",), (1,), ("a", "b"))
    assert single.target(0, 0.0, 1.0).tolist() == [0, 1]


def test_labels_are_checked():
    with pytest.raises(UserError, match="b.mp4: label 2 is outside 0 to 1"):
        VideoList(("a.mp4", "b.mp4"), ((0,), (1, 2)), ("a", "b"))
    with pytest.raises(UserError, match="some labels are one index, others several"):
        VideoList(("a.mp4", "b.mp4"), (0, (1,)), ("a", "b"))
    same = VideoList(("a.mp4", "b.mp4"), ((0, 1), (0, 1)), ("a", "b"))
    with pytest.raises(UserError, match="all 2 videos have the same labels"):
        data_checks.refuse_one_class(same, "list.csv")
    data_checks.refuse_one_class(VideoList(("a", "b"), ((0,), ()), ("a",)), "list.csv")


def random_videos(count):
    """Labels of very different frequencies, the last one twice; some videos have none."""
    matrix = np.random.default_rng(0).random((count, 4)) < [0.5, 0.2, 0.05, 0.0]
    matrix[[3, 30], 3] = True
    labels = tuple(tuple(np.flatnonzero(row).tolist()) for row in matrix)
    return VideoList(tuple(f"{i:03}.mp4" for i in range(count)), labels, tuple("abcd"))


def test_a_split_gives_each_label_its_share():
    videos = random_videos(200)
    train, validation = split_validation(videos, 0.2, seed=1)
    assert (train, validation) == split_validation(videos, 0.2, seed=1)
    assert sorted(train.paths + validation.paths) == sorted(videos.paths)
    wanted = np.maximum(0.2 * videos.videos_per_class(), 1)
    assert np.abs(validation.videos_per_class() - wanted).max() <= 3
    assert validation.videos_per_class()[3] == train.videos_per_class()[3] == 1
    unlabelled = videos.labels.count(())
    assert abs(validation.labels.count(()) - 0.2 * unlabelled) <= 3


def test_a_kept_split_gives_the_labels_back(tmp_path):
    names = ("[run]", "jump, then ü", '"x"')
    paths = tuple(str(write(tmp_path / f"{i}.mp4", str(i))) for i in range(4))
    videos = VideoList(paths, ((0, 1), (), (1, 2), (2,)), names)
    path = tmp_path / "split.csv"
    save_split(path, videos.subset([0, 1]), videos.subset([2, 3]))
    saved = SavedSplit(path, names)
    assert saved.validation == videos.subset([2, 3])
    assert saved.rest_of(videos) == videos.subset([0, 1])
    # Relabelled: told of training videos, refused of the others.
    now = VideoList(paths, ((0, 1), (0,), (1, 2), (2,)), names)
    (line,) = saved.changes_of_training(saved.rest_of(now))
    assert line.startswith("1 videos to train on have another label")
    now = VideoList(paths, ((0, 1), (), (1,), (2,)), names)
    with pytest.raises(UserError, match="1 videos held out .* another label now"):
        saved.rest_of(now)
    # The file is itself a list.
    listed = load_video_list(path, split="train", class_names=names, multi_label=True)
    assert listed.labels == ((0, 1), ())


def test_what_pandas_writes_for_nothing_is_no_label(tmp_path):
    text = "path,label\na.mp4,run;nan\nb.mp4,nan\nc.mp4,\nd.mp4,<NA>\n"
    videos = load_video_list(write(tmp_path / "l.csv", text), multi_label=True)
    assert videos.class_names == ("run",) and videos.labels == ((0,), (), (), ())
