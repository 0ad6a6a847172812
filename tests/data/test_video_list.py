import os
import re
import unicodedata

import pytest

from mvit_tf.data.video_list import (
    VideoList,
    load_class_names,
    load_video_list,
    read_class_folders,
    read_path_label_list,
    save_class_names,
    split_validation,
)
from mvit_tf.errors import UserError


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_class_folders_are_sorted_and_hidden_files_ignored(tmp_path):
    touch(
        tmp_path / "wave" / "b.MP4",
        tmp_path / "wave" / "a b.avi",
        tmp_path / "wave" / ".hidden.mp4",
        tmp_path / "wave" / "notes.txt",
        tmp_path / "cart wheel" / "x.webm",
        tmp_path / ".git" / "y.mp4",
        tmp_path / "readme.txt",
    )
    videos = read_class_folders(tmp_path)
    assert videos.class_names == ("cart wheel", "wave")
    assert videos.labels == (0, 1, 1)
    relative = [path.removeprefix(f"{tmp_path}/") for path in videos.paths]
    assert relative == ["cart wheel/x.webm", "wave/a b.avi", "wave/b.MP4"]
    assert load_video_list(tmp_path) == videos


def test_class_folders_in_the_order_of_a_trained_model(tmp_path):
    touch(tmp_path / "b" / "1.mp4", tmp_path / "a" / "2.mp4")
    videos = load_video_list(tmp_path, class_names=("c", "b", "a"))
    assert videos.class_names == ("c", "b", "a") and videos.labels == (1, 2)
    with pytest.raises(UserError, match=r"/b: not one of the 2 known classes \(a, x\)"):
        load_video_list(tmp_path, class_names=("a", "x"))


def test_class_folder_mistakes(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        read_class_folders(tmp_path / "nowhere")
    with pytest.raises(UserError, match="nowhere: no such folder or file"):
        load_video_list(tmp_path / "nowhere")
    touch(tmp_path / "video.mp4")
    with pytest.raises(UserError, match="no class folders"):
        read_class_folders(tmp_path)
    touch(tmp_path / "full" / "a.mp4", tmp_path / "empty" / "a.txt")
    with pytest.raises(UserError, match="empty: no videos.*mp4"):
        read_class_folders(tmp_path)


COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def test_a_class_is_found_however_its_accents_are_encoded(tmp_path):
    touch(tmp_path / "train" / DECOMPOSED / "1.mp4", tmp_path / "train" / "cart" / "2.mp4")
    touch(tmp_path / "test" / COMPOSED / "3.mp4", tmp_path / "test" / "cart" / "4.mp4")
    train = load_video_list(tmp_path / "train")
    assert train.class_names == (COMPOSED, "cart")
    assert all(os.path.isfile(path) for path in train.paths)
    assert load_video_list(tmp_path / "test", class_names=train.class_names).labels == (0, 1)
    # A trained model may know the other form.
    names = ("cart", DECOMPOSED)
    test = load_video_list(tmp_path / "test", class_names=names)
    assert [os.path.basename(path) for path in test.paths] == ["4.mp4", "3.mp4"]
    assert test.labels == (0, 1) and test.class_names == names
    file = write(tmp_path, f"3.mp4 {COMPOSED}\n1.mp4 {DECOMPOSED}\n4.mp4 cart\n")
    assert read_path_label_list(file).class_names == (COMPOSED, "cart")
    assert read_path_label_list(file, class_names=names).labels == (1, 1, 0)


def test_two_folders_of_one_class_are_refused(tmp_path):
    touch(tmp_path / COMPOSED / "1.mp4", tmp_path / DECOMPOSED / "2.mp4")
    with pytest.raises(UserError, match="two folders of one class, 'caf.*' and 'caf.*'") as error:
        load_video_list(tmp_path)
    assert r"'caf\xe9'" in str(error.value) and r"'cafe\u0301'" in str(error.value)


def test_names_that_are_not_utf8(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    touch(folder / os.fsdecode(b"\xff.mp4"), tmp_path / "cart" / "1.mp4")
    videos = load_video_list(tmp_path)
    assert videos.class_names == (r"caf\udce9", "cart")
    assert all(os.path.isfile(path) for path in videos.paths)
    save_class_names(tmp_path / "labels.txt", videos.class_names)
    names = load_class_names(tmp_path / "labels.txt")
    assert load_video_list(tmp_path, class_names=names) == videos


def write(tmp_path, text):
    path = tmp_path / "list.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_list_of_integers_with_spaces_in_paths(tmp_path):
    file = write(tmp_path, "my videos/a b.mp4 2\n\n/abs/c.mp4\t0\r\n")
    videos = load_video_list(file)
    assert videos.paths == (str(tmp_path / "my videos/a b.mp4"), "/abs/c.mp4")
    assert videos.labels == (2, 0) and videos.class_names == ("0", "1", "2")
    assert load_video_list(file, root="/data").paths[0] == "/data/my videos/a b.mp4"


def test_list_of_text_labels(tmp_path):
    file = write(tmp_path, "a.mp4,wave hand\nb.mp4,cartwheel\n")
    videos = read_path_label_list(file, separator=",")
    assert videos.class_names == ("cartwheel", "wave hand") and videos.labels == (1, 0)
    names = ("wave hand", "run", "cartwheel")
    videos = read_path_label_list(file, separator=",", class_names=names)
    assert videos.class_names == names and videos.labels == (0, 2)


def test_list_of_integers_with_class_names(tmp_path):
    file = write(tmp_path, "a.mp4 1\nb.mp4 wave\n")
    videos = read_path_label_list(file, class_names=["wave", "run"])
    assert videos.labels == (1, 0)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a.mp4 0\nb.mp4 x\n", {}, r"list.txt, line 2: label 'x' is not an integer"),
        ("a.mp4 0\nb.mp4\n", {}, r"list.txt, line 2: expected 'path label'.*'b.mp4'"),
        ("a.mp4 0\n", {"separator": ","}, r"line 1: expected 'path label' with ',' between"),
        ("a.mp4 0\nb.mp4 -1\n", {}, r"list.txt, line 2: label -1 is outside 0 to 0"),
        ("a.mp4 2\n", {"class_names": ["x", "y"]}, r"line 1: label 2 is outside 0 to 1"),
        ("a.mp4 z\n", {"class_names": ["x", "y"]}, r"line 1: label 'z' is not one of .*\(x, y\)"),
        ("a.mp4 0\nb.mp4 1\na.mp4 1\n", {}, r"list.txt, line 3: .*a.mp4 is already on line 1"),
        ("\n \n", {}, r"list.txt: no videos"),
    ],
)
def test_list_mistakes_name_file_and_line(tmp_path, text, options, message):
    with pytest.raises(UserError, match=message):
        read_path_label_list(write(tmp_path, text), **options)


def test_list_that_is_no_text(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(bytes([0, 255, 254, 10]))
    with pytest.raises(UserError, match="clip.mp4: not a text file"):
        load_video_list(tmp_path / "clip.mp4")


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


def test_subset_keeps_order_and_names():
    videos = VideoList(("a", "b", "c"), (0, 1, 0), ("x", "y"))
    assert videos.subset([2, 0]) == VideoList(("c", "a"), (0, 0), ("x", "y"))
    assert len(videos) == 3 and videos.num_classes == 2


def test_video_list_refuses_a_label_without_a_name():
    with pytest.raises(UserError, match="b.mp4: label 2 is outside 0 to 1"):
        VideoList(("a.mp4", "b.mp4"), (0, 2), ("x", "y"))
    with pytest.raises(UserError, match="1 paths but 2 labels"):
        VideoList(("a.mp4",), (0, 1), ("x", "y"))


def test_class_names_round_trip(tmp_path):
    names = ("éclair", "wave hand", "#3")
    save_class_names(tmp_path / "labels.txt", names)
    assert (tmp_path / "labels.txt").read_text(encoding="utf-8") == "éclair\nwave hand\n#3\n"
    assert load_class_names(tmp_path / "labels.txt") == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n\nb\n", "labels.txt, line 2: '' is not a class name"),
        ("a\nb\na\n", "labels.txt, line 3: class name 'a' comes twice"),
        (f"{COMPOSED}\n{DECOMPOSED}\n", f"line 2: class name {COMPOSED!r} comes twice"),
        ("", "labels.txt: no class names"),
    ],
)
def test_class_name_mistakes(tmp_path, text, message):
    (tmp_path / "labels.txt").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(message)):
        load_class_names(tmp_path / "labels.txt")
    with pytest.raises(UserError, match="none.txt: no such file"):
        load_class_names(tmp_path / "none.txt")


def test_class_name_with_line_break_is_not_saved(tmp_path):
    with pytest.raises(UserError, match=r"line 2: 'b\\nc'"):
        save_class_names(tmp_path / "labels.txt", ["a", "b\nc"])
    assert not (tmp_path / "labels.txt").exists()
