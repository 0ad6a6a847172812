import os
import unicodedata

import pytest

from mvit_tf.data.lists.class_names import load_class_names, save_class_names
from mvit_tf.data.lists.video_list import VideoList, load_video_list
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
    videos = load_video_list(tmp_path)
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
    with pytest.raises(UserError, match="nowhere: no such folder or file"):
        load_video_list(tmp_path / "nowhere")
    touch(tmp_path / "video.mp4")
    with pytest.raises(UserError, match="no class folders"):
        load_video_list(tmp_path)
    touch(tmp_path / "full" / "a.mp4", tmp_path / "empty" / "a.txt")
    with pytest.raises(UserError, match="empty: no videos.*mp4"):
        load_video_list(tmp_path)


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
    assert load_video_list(file).class_names == (COMPOSED, "cart")
    assert load_video_list(file, class_names=names).labels == (1, 1, 0)


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
    videos = load_video_list(file, separator=",")
    assert videos.class_names == ("cartwheel", "wave hand") and videos.labels == (1, 0)
    names = ("wave hand", "run", "cartwheel")
    videos = load_video_list(file, separator=",", class_names=names)
    assert videos.class_names == names and videos.labels == (0, 2)


def test_list_of_integers_with_class_names(tmp_path):
    file = write(tmp_path, "a.mp4 1\nb.mp4 wave\n")
    videos = load_video_list(file, class_names=["wave", "run"])
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
        load_video_list(write(tmp_path, text), **options)


def test_list_that_is_no_text(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(bytes([0, 255, 254, 10]))
    with pytest.raises(UserError, match="clip.mp4: not a text file"):
        load_video_list(tmp_path / "clip.mp4")


def test_subset_keeps_order_and_names():
    videos = VideoList(("a", "b", "c"), (0, 1, 0), ("x", "y"))
    assert videos.subset([2, 0]) == VideoList(("c", "a"), (0, 0), ("x", "y"))
    assert len(videos) == 3 and videos.num_classes == 2


def test_video_list_refuses_a_label_without_a_name():
    with pytest.raises(UserError, match="b.mp4: label 2 is outside 0 to 1"):
        VideoList(("a.mp4", "b.mp4"), (0, 2), ("x", "y"))
    with pytest.raises(UserError, match="1 paths but 2 labels"):
        VideoList(("a.mp4",), (0, 1), ("x", "y"))


def test_segments_and_groups_follow_a_subset():
    videos = VideoList(
        ("a", "a", "b"), (0, 1, 0), ("x", "y"),
        segments=((0.0, 1.5), (2.0, 3.0), None), groups=("a", "a", "b"),
    )  # fmt: skip
    assert [videos.segment(i) for i in range(3)] == [(0.0, 1.5), (2.0, 3.0), None]
    part = videos.subset([2, 1])
    assert part.segments == (None, (2.0, 3.0)) and part.groups == ("b", "a")
    assert VideoList(("a",), (0,), ("x",)).segment(0) is None
    with pytest.raises(UserError, match="3 paths but 1 segments"):
        VideoList(("a", "a", "b"), (0, 1, 0), ("x", "y"), segments=(None,))


def test_what_is_passed_over_in_class_folders_is_kept_with_its_reason(tmp_path):
    touch(
        tmp_path / "wave" / "a.mp4",
        tmp_path / "wave" / "notes.txt",
        tmp_path / "wave" / "0001",
        tmp_path / "wave" / "take 2" / "b.mp4",
        tmp_path / "wave" / ".DS_Store",
        tmp_path / "readme.txt",
    )
    (tmp_path / "wave" / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (tmp_path / "wave" / "gone.txt").symlink_to(tmp_path / "nowhere.txt")
    (tmp_path / "wave" / "self.mp4").symlink_to("self.mp4")
    (tmp_path / "run").symlink_to(tmp_path / "nowhere")
    videos = load_video_list(tmp_path)
    # A dead link is a video that is missing.
    assert [os.path.basename(path) for path in videos.paths] == ["a.mp4", "gone.mp4", "self.mp4"]
    assert {path.removeprefix(f"{tmp_path}/"): reason for path, reason in videos.passed_over} == {
        "readme.txt": "not in a class folder",
        "run": "dead link",
        "wave/0001": "no extension",
        "wave/gone.txt": "dead link",
        "wave/notes.txt": "unknown extension .txt",
        "wave/take 2": "nested folder",
    }


@pytest.mark.parametrize("nested", [False, True])
def test_folders_of_a_split_are_no_classes(tmp_path, nested):
    for side in ("Train", "val"):
        touch(tmp_path / side / "run" / "1.mp4", tmp_path / side / "wave" / "1.mp4")
    with pytest.raises(UserError, match=f"give {tmp_path}/Train for training and {tmp_path}/val "):
        load_video_list(tmp_path, nested=nested)


def test_classes_may_be_called_as_the_sides_of_a_split(tmp_path):
    touch(tmp_path / "train" / "1.mp4", tmp_path / "test" / "1.mp4")
    assert load_video_list(tmp_path).class_names == ("test", "train")


def test_nested_folders_on_request(tmp_path):
    touch(tmp_path / "wave" / "cam1" / "day 1" / "a.mp4", tmp_path / "wave" / "b.mp4")
    touch(tmp_path / "run" / "cam2" / "c.mp4")
    (tmp_path / "wave" / "cam1" / "loop").symlink_to(tmp_path / "wave")
    with pytest.raises(UserError, match="run: no videos in this class folder, only folders;.*nest"):
        load_video_list(tmp_path)
    videos = load_video_list(tmp_path, nested=True)
    relative = [path.removeprefix(f"{tmp_path}/") for path in videos.paths]
    assert relative == ["run/cam2/c.mp4", "wave/b.mp4", "wave/cam1/day 1/a.mp4"]
    assert videos.labels == (0, 1, 1)
    assert videos.passed_over == ((str(tmp_path / "wave/cam1/loop"), "linked folder"),)


@pytest.mark.parametrize("extension", ["gif", "MTS", "ogv", "VOB", "ts", "m2ts"])
def test_containers_that_ffmpeg_reads_are_taken(tmp_path, extension):
    touch(tmp_path / "wave" / f"a.{extension}")
    assert len(load_video_list(tmp_path)) == 1


def test_mistakes_are_collected_on_request(tmp_path):
    file = write(tmp_path, "a.mp4 0\nb.mp4\na.mp4 1\nc.mp4 9\nd.mp4 1\n")
    problems = []
    videos = load_video_list(file, class_names=("x", "y"), problems=problems)
    assert [os.path.basename(path) for path in videos.paths] == ["a.mp4", "d.mp4"]
    assert [problem.split(": ")[0].rsplit(", ")[-1] for problem in problems] == [
        "line 2", "line 3", "line 4",
    ]  # fmt: skip
    touch(tmp_path / "set" / "x" / "a.mp4", tmp_path / "set" / "z" / "b.mp4")
    (tmp_path / "set" / "y").mkdir()
    problems = []
    videos = load_video_list(tmp_path / "set", class_names=("x", "y"), problems=problems)
    assert videos.labels == (0,) and len(problems) == 2
