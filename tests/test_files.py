"""Files are whole or not there, whatever the system can do and whatever names they hold."""

import json
import os

import pytest

from mvit_tf.errors import UserError
from mvit_tf.files import remove_unfinished, write_atomically, write_text_atomically

NOT_UTF8 = os.fsdecode(b"caf\xe9.mp4")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "new folder" / "file.txt"
    write_text_atomically(path, "old")

    def fill(temporary):
        temporary.write_text("half")
        raise ValueError("cut")

    with pytest.raises(ValueError, match="cut"):
        write_atomically(path, fill)
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["file.txt"]


def test_what_a_killed_run_left_is_removed(tmp_path):
    (tmp_path / ".writing-123.a.weights.h5").touch()
    (tmp_path / "b.weights.h5").touch()
    remove_unfinished(tmp_path)
    assert os.listdir(tmp_path) == ["b.weights.h5"]


def test_a_directory_that_cannot_be_synced_still_gets_its_file(tmp_path, monkeypatch):
    opened = os.open

    def refuse_directories(path, *arguments, **options):
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse_directories)
    write_text_atomically(tmp_path / "file.txt", "whole")
    assert (tmp_path / "file.txt").read_text() == "whole"


def test_text_keeps_its_line_ends_and_names_that_are_not_utf8(tmp_path):
    path = tmp_path / "file.json"
    write_text_atomically(path, json.dumps({"ü": NOT_UTF8}, ensure_ascii=False) + "\r\n")
    assert path.read_bytes() == b'{"\xc3\xbc": "caf\\udce9.mp4"}\r\n'
    assert os.fsencode(json.loads(path.read_text(encoding="utf-8"))["ü"]) == b"caf\xe9.mp4"


def test_a_users_mistake_can_be_printed_whatever_it_names():
    assert str(UserError(f"{NOT_UTF8}: no such file")) == "caf\\udce9.mp4: no such file"
