"""Label maps: written, read, and numbered by the files that data sets bring."""

import json
import re
import unicodedata

import pytest

from mvit_tf.data.lists.class_names import (
    label_index,
    load_class_names,
    load_label_map,
    save_class_names,
)
from mvit_tf.errors import UserError

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


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


def test_label_maps_in_json(tmp_path):
    file = tmp_path / "labels.json"
    file.write_text(json.dumps({"Pushing something": "1", DECOMPOSED: "0", "run": 2}))
    assert load_class_names(file) == (COMPOSED, "Pushing something", "run")
    file.write_text('["b", "a"]')
    assert load_class_names(file) == ("b", "a")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 0, "b": 2}', "labels.json: the indices of its 2 names must be 0 to 1"),
        ('{"a": "x"}', "labels.json: the indices of its 1 names must be 0 to 0"),
        ('{"a": 0,\n', "labels.json, line 2: not JSON"),
        ("3", "labels.json: a label map in JSON is"),
        ('["a", "a"]', "class name 'a' comes twice"),
    ],
)
def test_mistakes_of_label_maps_in_json(tmp_path, text, message):
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(UserError, match=message):
        load_class_names(tmp_path / "labels.json")


def test_what_python_reads_as_a_number_may_be_text():
    assert [label_index(text) for text in ("12", "007", "-1", "1_0", "١", "1.0", "")] == [
        12, 7, -1, None, None, None, None,
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["id,name\n0,abseiling\n1,air drumming\n", "1 up\n2 down\n3 on\n",
                                  "jump 0\nrun 1\nsit 2\n"])  # fmt: skip
def test_numbers_beside_the_names_of_a_label_map_are_no_names(tmp_path, text):
    (tmp_path / "map.txt").write_text(text)
    with pytest.raises(UserError, match="map.txt, line 2: .* has a number beside the name"):
        load_label_map(tmp_path / "map.txt")
    (tmp_path / "map.txt").write_text("class 1 a\n3 steps\nrun 2\n")
    assert load_label_map(tmp_path / "map.txt") == ("class 1 a", "3 steps", "run 2")
