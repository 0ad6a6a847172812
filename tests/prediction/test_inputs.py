"""Which videos paths, folders, lists and standard input stand for."""

import io

import pytest

from mvit_tf.errors import UserError
from mvit_tf.prediction.inputs import VideoInput, find_inputs

NAMES = ("jump", "run")


def paths(*sources, **options):
    return [video.path for video in find_inputs(sources, class_names=NAMES, **options).videos]


def test_folders_are_searched_and_what_else_lies_there_is_counted(tmp_path):
    (tmp_path / "inner").mkdir()
    for name in ("b.MP4", "a.avi", "notes.txt", "c.txt", "README", ".hidden.mp4", "inner/d.mkv"):
        (tmp_path / name).touch()
    found = find_inputs([str(tmp_path)], class_names=NAMES)
    assert [video.path for video in found.videos] == [str(tmp_path / n) for n in ("a.avi", "b.MP4")]
    assert found.passed_over == {".txt": 2, "without a suffix": 1, "a folder": 1}
    assert paths(str(tmp_path), nested=True)[-1] == str(tmp_path / "inner" / "d.mkv")
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    with pytest.raises(UserError, match="no videos in this folder; --nested takes the videos"):
        paths(str(tmp_path / "empty"))


def test_lists_give_paths_and_labels(tmp_path, monkeypatch):
    plain, labelled = tmp_path / "plain.txt", tmp_path / "labelled.csv"
    plain.write_text("a b.mp4\n/d.avi\n")
    assert paths(str(plain)) == [str(tmp_path / "a b.mp4"), "/d.avi"]
    labelled.write_text("path,label,start,end\na.mp4,run,1,2.5\nb.mp4,jump,0,2\n")
    found = find_inputs([str(labelled)], class_names=NAMES)
    assert found.videos[0] == VideoInput(str(tmp_path / "a.mp4"), (1.0, 2.5), ("run",))
    other = find_inputs([str(labelled)], class_names=("x", "y"))
    assert other.videos[0].labels is None and "nothing of" in other.notes[0]
    monkeypatch.setattr("sys.stdin", io.StringIO("one.mp4\n\ntwo.mp4\n"))
    assert paths("-", "three.mp4") == ["one.mp4", "two.mp4", "three.mp4"]
    with pytest.raises(UserError, match="no video to look at"):
        paths()


def test_urls_in_lists_stay_urls(tmp_path):
    pytest.importorskip("aiohttp", reason="needs the extra `remote`")
    plain = tmp_path / "plain.txt"
    plain.write_text("a b.mp4\nhttps://host/c.mp4?x=1.mp4\n/d.avi\n")
    assert paths(str(plain)) == [str(tmp_path / "a b.mp4"), "https://host/c.mp4?x=1.mp4", "/d.avi"]
