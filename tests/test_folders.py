"""Folders that cannot be made."""

import pytest

from mvit_tf.errors import UserError
from mvit_tf.folders import check_folder, make_folder


def test_what_cannot_be_made_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "inner" / "most"):
        with pytest.raises(UserError, match=f"cannot be a folder: {tmp_path}/file is a file"):
            check_folder(path)
        with pytest.raises(UserError, match="cannot be made a folder: "):
            make_folder(path)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="cannot be a folder"):
        check_folder(tmp_path / "link")
    check_folder(tmp_path / "a" / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
