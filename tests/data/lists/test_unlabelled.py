import pytest

from mvit_tf.data.lists.unlabelled import load_unlabelled_videos
from mvit_tf.errors import UserError


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def names(videos, folder):
    return [path.removeprefix(f"{folder}/") for path in videos.paths]


def test_a_folder_has_videos_at_any_depth(tmp_path):
    touch(tmp_path / "b.mp4", tmp_path / "a" / "x" / "c.MKV", tmp_path / "a" / "d.avi")
    touch(tmp_path / "a" / "notes.txt", tmp_path / ".git" / "e.mp4")
    videos = load_unlabelled_videos(tmp_path)
    assert names(videos, tmp_path) == ["a/d.avi", "a/x/c.MKV", "b.mp4"]
    assert (videos.num_classes, videos.labels) == (0, ((), (), ()))
    assert videos.target(0, 0.0, 1.0).shape == (0,)
    assert videos.passed_over == ((f"{tmp_path}/a/notes.txt", "unknown extension .txt"),)
    with pytest.raises(UserError, match="which side of a split a video is on: no 'train'"):
        load_unlabelled_videos(tmp_path, split="train")
    touch(tmp_path / "empty" / "a.txt")
    with pytest.raises(UserError, match="empty: no videos in it, at any depth"):
        load_unlabelled_videos(tmp_path / "empty")
    with pytest.raises(UserError, match="nowhere: no such .*; give a folder of videos"):
        load_unlabelled_videos(tmp_path / "nowhere")


def test_a_list_may_hold_paths_alone_or_labels_that_are_left(tmp_path):
    plain, labelled, csv = (tmp_path / name for name in ("plain.txt", "labelled.txt", "list.csv"))
    plain.write_text("a clip.mp4\n\nfolder/b.mp4\n")
    assert names(load_unlabelled_videos(plain), tmp_path) == ["a clip.mp4", "folder/b.mp4"]
    assert load_unlabelled_videos(plain, root="/data").paths[0] == "/data/a clip.mp4"
    plain.write_text("path\na.mp4\n")
    assert names(load_unlabelled_videos(plain), tmp_path) == ["a.mp4"]
    with pytest.raises(UserError, match="which side of a split a video is on: no 'train'"):
        load_unlabelled_videos(plain, split="train")
    labelled.write_text("a.mp4 0\nb.mp4 0\n")
    csv.write_text("path,label,split,start,end\na.mp4,x,train,0,2\nb.mp4,y,val,1,2\n")
    for file, split, expected in ((labelled, None, ["a.mp4", "b.mp4"]), (csv, "train", ["a.mp4"])):
        videos = load_unlabelled_videos(file, split=split)
        assert names(videos, tmp_path) == expected
        assert (videos.num_classes, set(videos.labels)) == (0, {()})
    assert videos.segments == ((0.0, 2.0),)
    plain.write_text("a.mp4\nb.mp4\n./a.mp4\n")
    with pytest.raises(UserError, match="plain.txt, line 3: ./a.mp4 is already on line 1"):
        load_unlabelled_videos(plain)
