"""What is said of a set of videos before training."""

import pytest

from mvit_tf.data.lists import data_checks
from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.errors import UserError


def videos(labels, names=None, **fields):
    names = names or tuple(f"c{i}" for i in range(max(labels) + 1))
    return VideoList(tuple(f"{i}.mp4" for i in range(len(labels))), tuple(labels), names, **fields)


def test_balance_is_one_line():
    assert data_checks.balance(videos([0] * 30 + [1] * 1200)) == "c1 1,200, c0 30"
    many = videos([i for i in range(10) for _ in range(i + 1)])
    assert data_checks.balance(many) == "1 (c0) to 10 (c9) videos a class, median 6"


def test_classes_with_no_few_or_very_many_videos():
    labels = [0] * 400 + [1] * 20 + [2] * 20 + [3] * 20 + [5] * 2
    assert data_checks.class_warnings(videos(labels, tuple("abcdef"))) == [
        "1 of 6 classes with no video: 'e'",
        "1 of 6 classes with fewer than 5 videos: 'f'",
        "1 of 6 classes with more than 10 times the median of 20: 'a'",
    ]
    assert data_checks.class_warnings(videos([0] * 9 + [1] * 9)) == []


def test_labels_from_1_are_told():
    labels = [1] * 9 + [2] * 9
    assert data_checks.class_warnings(videos(labels, ("0", "1", "2"))) == [
        "1 of 3 classes with no video: '0'",
        "labels count from 0, but the smallest here is 1",
    ]
    assert len(data_checks.class_warnings(videos(labels, ("x", "y", "z")))) == 1


def test_one_class_is_refused_whatever_the_label_map_knows():
    for names in (("0",), ("x", "y")):
        with pytest.raises(UserError, match="set holds videos of one class only, .[0x].: .* other"):
            data_checks.refuse_one_class(videos([0, 0], names), "set")
    data_checks.refuse_one_class(videos([0, 1]), "set")


def test_what_was_passed_over_is_counted_and_the_first_named():
    entries = (("/v/a.txt", "unknown extension .txt"), ("/v/b", "nested folder"),
               ("/v/c", "nested folder"))  # fmt: skip
    assert data_checks.passed_over(videos([0, 1], passed_over=entries)) == (
        "3 entries beside the videos (2 nested folder, 1 unknown extension .txt); "
        "first: /v/a.txt; `mvit check-data` names all"
    )
    assert data_checks.passed_over(videos([0, 1])) is None


def test_files_and_groups_on_both_sides(tmp_path):
    for name, content in (("a", b"1"), ("b", b"2"), ("c", b"1"), ("d", b"4")):
        (tmp_path / name).write_bytes(content)
    a, b, c, d = (str(tmp_path / name) for name in "abcd")
    train = VideoList((a, b), (0, 1), ("x", "y"), groups=("1", "2"))
    assert data_checks.on_both_sides(train, VideoList((d,), (0,), ("x", "y"))) == []
    validation = VideoList((c, b), (0, 0), ("x", "y"), groups=("3", "2"))
    assert data_checks.on_both_sides(train, validation) == [
        f"2 files are in training and in validation: {b}, {a} = {c}",
        "1 groups are in training and in validation: 2",
    ]
    assert data_checks.not_validated(train, validation) == [
        "1 of 2 classes with no video for validation: 'y'"
    ]


def test_remarks_at_the_start_of_a_training():
    listed = videos([0] * 9 + [1] * 9, passed_over=(("/train/a.txt", "no extension"),))
    train = listed.subset(range(18))
    validation = VideoList(("v.mp4",), (1,), listed.class_names, passed_over=(("/val/b", "x"),))
    told, warnings = data_checks.remarks(listed, train, validation)
    assert [line[:30] for line in told + warnings] == [
        "classes     c0 9, c1 9",
        "passed over 1 entries beside t",
        "passed over 1 entries beside t",
        "1 of 2 classes with no video f",
    ]
    assert data_checks.remarks(train, train, None) == (["classes     c0 9, c1 9"], [])
