"""What was held out is kept, compared by content, and never trained on."""

import os

import pytest

from mvit_tf.data.lists import saved_split
from mvit_tf.data.lists.content import checksum, copies, of_all, size_of
from mvit_tf.data.lists.saved_split import SavedSplit, save_split
from mvit_tf.data.lists.video_list import VideoList, load_video_list
from mvit_tf.errors import UserError

NAMES = ("run", "1", "wave, fast")


@pytest.fixture
def videos(tmp_path):
    paths = [tmp_path / name for name in ("a b.mp4", "c,d.mp4", os.fsdecode(b"\xff.mp4"), "e.mp4")]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * 200_000)
    return VideoList(tuple(map(str, paths)), (0, 2, 1, 0), NAMES, groups=("a", "b", "c", "d"))


@pytest.fixture
def saved(tmp_path, videos):
    """Two videos to train on, two held out."""
    save_split(tmp_path / "split.csv", videos.subset([0, 3]), videos.subset([1, 2]))
    return SavedSplit(tmp_path / "split.csv", NAMES)


def test_the_held_out_videos_come_back(videos, saved):
    assert saved.validation == videos.subset([1, 2])
    saved.check_held_out()
    assert saved.rest_of(videos) == videos.subset([0, 3])
    assert saved.changes_of_training(videos.subset([0, 3])) == []


def test_segments_are_held_out_and_the_rest_of_their_file_is_not_trained_on(tmp_path, videos):
    path = videos.paths[0]
    segments = ((0.0, 1.5), (1.5, 2.25), None)
    parts = VideoList((path,) * 3, (0, 1, 2), NAMES, segments=segments)
    save_split(tmp_path / "split.csv", parts.subset([0, 2]), parts.subset([1]))
    saved = SavedSplit(tmp_path / "split.csv", NAMES)
    assert saved.validation == parts.subset([1])
    # The rest of the file belongs to what was held out.
    assert len(saved.rest_of(parts)) == 0


def test_what_belongs_to_a_held_out_video_is_not_trained_on(tmp_path, videos, saved, monkeypatch):
    """Whatever a list that is written anew calls its file, and what it adds of its group."""
    monkeypatch.chdir(tmp_path)
    same = [os.path.relpath(path) for path in videos.paths]
    same[1] = f"./{same[1]}"
    more = VideoList((*same, "f.mp4"), (0, 2, 1, 0, 1), NAMES, groups=("a", "b", "c", "d", "c"))
    assert saved.rest_of(more) == more.subset([0, 3])


def test_other_labels_are_told_of_training_videos_and_refused_of_held_out_ones(videos, saved):
    labels = (1, 2, 1, 0)
    now = VideoList(videos.paths, labels, NAMES)
    assert saved.changes_of_training(saved.rest_of(now)) == [
        f"1 videos to train on have another label: {videos.paths[0]}"
    ]
    now = VideoList(videos.paths, (0, 0, 1, 0), NAMES)
    with pytest.raises(UserError, match=r"1 videos held out .*c,d.mp4 .wave, fast there, run now"):
        saved.rest_of(now)


def test_the_file_is_a_list_itself(tmp_path, videos, saved):
    os.rename(videos.paths[2], tmp_path / "plain.mp4")
    plain = VideoList((*videos.paths[:2], str(tmp_path / "plain.mp4")), (0, 2, 1), NAMES)
    save_split(tmp_path / "split.csv", plain.subset([0]), plain.subset([1, 2]))
    held_out = load_video_list(tmp_path / "split.csv", split="validation", class_names=NAMES)
    assert held_out == plain.subset([1, 2])


def test_held_out_videos_that_changed_are_refused_by_name(videos, saved):
    held_out = videos.paths[1]
    content = bytearray(200_000)
    with open(held_out, "wb") as file:  # the same size
        file.write(content)
    with pytest.raises(UserError, match=r"1 videos held out in .*split.csv.*c,d.mp4 \(changed\);"):
        saved.check_held_out()
    os.remove(held_out)
    with pytest.raises(UserError, match=r"c,d.mp4 \(gone\); put them back, or .*data.validation"):
        saved.check_held_out()


def test_a_video_that_was_missing_already_may_stay_so(tmp_path, videos):
    gone = VideoList((str(tmp_path / "none.mp4"),), (0,), NAMES)
    save_split(tmp_path / "split.csv", videos, gone)
    SavedSplit(tmp_path / "split.csv", NAMES).check_held_out()


def test_other_videos_to_train_on_are_told(tmp_path, videos, saved):
    with open(videos.paths[0], "ab") as file:
        file.write(b"more")
    new = str(tmp_path / "new.mp4")
    now = VideoList((videos.paths[0], new), (0, 0), NAMES)
    assert saved.changes_of_training(now) == [
        f"1 videos to train on are new: {new}",
        f"1 videos to train on are gone: {videos.paths[3]}",
        f"1 videos to train on have another size: {videos.paths[0]}",
    ]


def test_another_order_is_told_where_nothing_else_is(videos, saved):
    assert saved.changes_of_training(videos.subset([3, 0])) == [
        "the videos to train on are in another order"
    ]
    assert len(saved.changes_of_training(videos.subset([3]))) == 1


def test_other_content_of_the_same_size_is_told_and_a_copy_is_not(videos, saved, monkeypatch):
    train = videos.subset([0, 3])
    for path, content in zip(train.paths, (bytes([9]), bytes([3])), strict=True):
        with open(path, "wb") as file:
            file.write(content * 200_000)
        os.utime(path, ns=(1, 1))
    assert saved.changes_of_training(train) == [
        f"1 videos to train on have other content: {train.paths[0]}"
    ]
    # Where more are trained on than are opened, sizes alone are compared.
    monkeypatch.setattr(saved_split, "_MOST_OPENED", 1)
    save_split(saved.path, train, None)
    os.utime(train.paths[0], ns=(2, 2))
    with open(train.paths[0], "wb") as file:
        file.write(bytes(200_000))
    assert SavedSplit(saved.path, NAMES).changes_of_training(train) == []


def test_files_that_were_not_written_since_are_not_opened(videos, saved, monkeypatch):
    opened = []
    monkeypatch.setattr(saved_split, "checksum", opened.append)
    assert saved.changes_of_training(videos.subset([0, 3])) == [] and not opened


@pytest.mark.parametrize(
    "text",
    ["path,label\na.mp4,run\n", "path,label,start,end,group,split\na.mp4,hop,,,,validation\n"],
)
def test_a_damaged_file_is_refused(tmp_path, text):
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(UserError, match="split.csv is damaged"):
        SavedSplit(tmp_path / "split.csv", NAMES)


def test_many_files_are_looked_at_at_once(tmp_path):
    paths = [str(tmp_path / f"{number}") for number in range(200)]
    for number, path in enumerate(paths[1:]):
        with open(path, "w") as file:
            file.write("x" * number)
    assert of_all(size_of, paths) == dict(zip(paths, [None, *range(199)], strict=True))
    assert of_all(size_of, []) == {}


def test_copies_are_found_by_content(tmp_path):
    contents = {"a": b"x" * 300_000, "b": b"y" * 300_000, "c": b"x" * 300_000, "d": b"x", "e": b"",
                "f": b""}  # fmt: skip
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    paths = [str(tmp_path / name) for name in (*contents, "none")]
    assert copies(paths) == [[paths[0], paths[2]]]
    assert checksum(paths[3]) != checksum(paths[0]) and checksum(paths[-1]) is None
    # The last bytes count, as does what lies between both ends if only by its length.
    (tmp_path / "c").write_bytes(b"x" * 299_999 + b"z")
    assert copies(paths) == []
