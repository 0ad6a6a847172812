"""Lists in the forms that data sets come in."""

import json
import os

import pytest

from mvit_tf.data.lists.video_list import load_video_list
from mvit_tf.errors import UserError


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def names(videos):
    return [os.path.basename(path) for path in videos.paths]


@pytest.mark.parametrize("delimiter", [",", "\t", ";", " "])
def test_a_csv_as_pandas_writes_it(tmp_path, delimiter):
    d = delimiter
    text = f'{d}path{d}label\n0{d}"a {d} b.mp4"{d}"wave ""hi"""\n1{d}c.mp4{d}run\n'
    videos = load_video_list(write(tmp_path / "list.csv", text))
    assert names(videos) == [f"a {d} b.mp4", "c.mp4"]
    assert videos.class_names == ("run", 'wave "hi"') and videos.labels == (1, 0)
    # The separator may be named as well.
    assert load_video_list(tmp_path / "list.csv", separator=delimiter) == videos


def test_the_label_map_of_another_list_serves_a_csv(tmp_path):
    file = write(tmp_path / "list.csv", "Label,Video Path\nwave,a.mp4\n2,b.mp4\n")
    videos = load_video_list(file, class_names=("run", "wave", "jump"))
    assert videos.labels == (1, 2) and names(videos) == ["a.mp4", "b.mp4"]


def test_quotes_without_a_header(tmp_path):
    file = write(tmp_path / "list.txt", '"my videos/a b.mp4" 2\nc.mp4 "0"\n')
    videos = load_video_list(file)
    assert videos.paths[0] == str(tmp_path / "my videos/a b.mp4") and videos.labels == (2, 0)
    file = write(tmp_path / "list.csv", '"a,b.mp4","x,y"\nc, d.mp4, z\n')
    videos = load_video_list(file, separator=",")
    assert names(videos) == ["a,b.mp4", "c, d.mp4"] and videos.class_names == ("x,y", "z")


def test_a_tab_may_be_written_out(tmp_path):
    file = write(tmp_path / "list.txt", "a b.mp4\twave hand\nc.mp4\trun\n")
    videos = load_video_list(file, separator="\\t")
    assert names(videos) == ["a b.mp4", "c.mp4"] and videos.class_names == ("run", "wave hand")


def test_labels_with_an_underscore_are_text(tmp_path):
    videos = load_video_list(write(tmp_path / "list.txt", "a.mp4 1_0\nb.mp4 2_0\n"))
    assert videos.class_names == ("1_0", "2_0") and videos.labels == (0, 1)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("name_of_it,kind\na.mp4,x\nb.mp4,y\n", {"separator": ","},
         "line 1: 'name_of_it' and 'kind' look like a header"),
        ("a.mp4,0\n", {}, "line 1: expected 'path label'.*by the separator: ','"),
        ("my video.mp4,run\n", {}, "line 1: expected 'path label'.*by the separator: ','"),
        ("path,label\na.mp4,x\na, b.mp4,y\n", {}, "line 3: 3 fields, but the header names 2"),
        ('path,label\n"a\nb.mp4",x\nc.mp4\n', {}, "line 4: 1 fields, but the header names 2"),
        ("youtube_id,time_start,time_end,split\na,0,1,test\n", {},
         "header has a column youtube_id, but none for the label .columns: youtube_id, time_st"),
        ("path,label\na.mp4,\n", {}, "line 2: no label is given"),
        ("path,label\n,x\n", {}, "line 2: no path is given"),
        ("path,label\na.mp4,x\nb.mp4,y\na.mp4,y\n", {}, "line 4: .*a.mp4 is already on line 2"),
        ("path,label\n", {}, "list.csv: no videos in this list"),
        ("path,label,start\na.mp4,x,1\n", {}, "start or of the end of the segments is missing"),
        ("path,label,start,end\na.mp4,x,1,1\n", {}, "line 2: the segment from 1 to 1 .* is empty"),
        ("path,label,start,end\na.mp4,x,1,\n", {}, "line 2: start '1' and end '' must be numbers"),
        ("path,label,start,end\na.mp4,x,0,1\na.mp4,x,0,1.0\n", {}, "line 3: .* already on line 2"),
        ("path,label\na.mp4,x\n", {"split": "val"}, "has no column split"),
        ("path,label,split\na.mp4,x,train\nb.mp4,x,test\n", {},
         "the column split holds 'test', 'train'; say which to take"),
        ("path,label,split\na.mp4,x,train\n", {"split": "val"}, "'val' is none of them"),
        ("a.mp4\tplaying guitar\n", {}, "line 1: expected 'path label'.*by the separator"),
        ("a.mp4; 0\n", {}, "line 1: expected 'path label'.*by the separator"),
        ('path,label\na.mp4,x\nb.mp4,"y\nc.mp4,x\n', {}, "line 3: not CSV: .*is a quote left open"),
        ("path,label,Label\na.mp4,x,y\n", {}, "line 1: two columns are named 'label'"),
        ("a.mp4 0\nb.mp4 1699999999\n", {}, "line 2: label 1699999999 would .* of 1,700,000,000"),
        ("34870;Drumming Fingers\n56557;Sliding Right\n", {}, "line 1: .*by the separator: ','"),
        ("a.mp4,clapping,4,0\n", {}, "line 1: .*name the columns in a first line"),
        ("Archery/v_Archery_g01_c01.avi\n", {}, "line 1: .*_c01.avi'; it has no label"),
        ("path,label\na.mp4,x\nb.mp4,nan\n", {}, r"line 3: no label is given \(nan\)"),
        ("path,label\na.mp4,x\npath,label\n", {}, "line 3: the header once more"),
        ("path,label\na.mp4,Jump\n", {"class_names": ("jump", "run")},
         r"line 2: label 'Jump' is not one of the classes \('jump'\)"),
        ("path,label,phase\na.mp4,x,train\nb.mp4,x,val\n", {}, "column phase holds 'train', 'val'"),
        ("path,label,is_train\na.mp4,x,1\nb.mp4,x,0\n", {}, "column is_train holds '0', '1'"),
        ("path,label\na.mp4,0\nb.mp4,1\n", {"class_names": ("1", "2", "3")},
         "line 2: label '0' is none of the classes .1, 2, 3.; as they are numbers"),
    ],
)  # fmt: skip
def test_mistakes_name_the_line(tmp_path, text, options, message):
    with pytest.raises(UserError, match=message):
        load_video_list(write(tmp_path / "list.csv", text), **options)


def test_a_plain_line_may_hold_the_name_of_a_column(tmp_path):
    videos = load_video_list(write(tmp_path / "list.txt", "Video 1.mp4 0\nclip action 2.mp4 1\n"))
    assert names(videos) == ["Video 1.mp4", "clip action 2.mp4"] and videos.labels == (0, 1)


def test_a_list_called_as_a_label_map_is_not_its_own(tmp_path):
    text = '[{"path": "a.mp4", "label": 0}, {"path": "b.mp4", "label": 1}]'
    videos = load_video_list(write(tmp_path / "labels.json", text))
    assert videos.class_names == ("0", "1") and videos.labels == (0, 1)


def test_segments_of_a_file_stay_together_whatever_the_groups(tmp_path):
    rows = "a.mp4,x,0,1,ann\na.mp4,y,1,2,bob\nb.mp4,x,0,1,bob\nc.mp4,x,0,1,cid\nc.mp4,y,1,2,dan\n"
    file = write(tmp_path / "list.csv", "path,label,start,end,player\n" + rows)
    groups = load_video_list(file, group_by="player").groups
    assert groups[0] == groups[1] == groups[2] != groups[3] == groups[4]


def test_one_list_holds_both_sides_of_a_split(tmp_path):
    file = write(
        tmp_path / "list.csv",
        "path,label,split\na.mp4,x,train\nb.mp4,y,train\nc.mp4,y,test\n",
    )
    train = load_video_list(file, split="train")
    assert names(train) == ["a.mp4", "b.mp4"]
    test = load_video_list(file, split="test", class_names=train.class_names)
    assert names(test) == ["c.mp4"] and test.labels == (1,)


@pytest.mark.parametrize(
    "content",
    [
        "path,label\r\na.mp4,x\r\nb\\c.mp4,y\r\n".encode("utf-8-sig"),
        "path\tlabel\r\na.mp4\tx\r\nb\\c.mp4\ty\r\n".encode("utf-16"),
        b"sep=;\r\npath;label\r\na.mp4;x\r\nb\\c.mp4;y\r\n",
    ],
    ids=["csv-utf8", "unicode-text", "sep"],
)
def test_lists_as_excel_saves_them(tmp_path, content):
    (tmp_path / "list.csv").write_bytes(content)
    videos = load_video_list(tmp_path / "list.csv")
    assert videos.paths == (f"{tmp_path}/a.mp4", f"{tmp_path}/b/c.mp4")
    assert videos.class_names == ("x", "y")


def test_a_workbook_is_no_list(tmp_path):
    (tmp_path / "list.xlsx").write_bytes(b"PK\3\4\x14\0\xff\xfe")
    with pytest.raises(UserError, match="a workbook or archive; save it as text in UTF-8"):
        load_video_list(tmp_path / "list.xlsx")


def test_a_backslash_may_be_part_of_a_name(tmp_path):
    write(tmp_path / "a\\b.mp4", "")
    videos = load_video_list(write(tmp_path / "list.txt", "a\\b.mp4 0\na\\c.mp4 1\n"))
    assert names(videos) == ["a\\b.mp4", "c.mp4"]


def test_labels_with_leading_zeros_are_names(tmp_path):
    videos = load_video_list(write(tmp_path / "list.txt", "a.mp4 007\nb.mp4 012\n"))
    assert videos.class_names == ("007", "012") and videos.labels == (0, 1)
    numbered = load_video_list(tmp_path / "list.txt", class_names=[f"c{i}" for i in range(20)])
    assert numbered.labels == (7, 12)


def test_what_a_list_makes_one_wonder_about_is_noted(tmp_path):
    text = "path,label,fold\na.mp4,Jump,1\nb.mp4,jump ,2\nc.mp4,high-jump,1\nd.mp4,high_jump,2\n"
    folds, alike = load_video_list(write(tmp_path / "list.csv", text)).notes
    assert folds.endswith("column fold is not looked at; data.group_by=fold keeps each on one side "
                          "of the split")  # fmt: skip
    assert "classes 'Jump' and 'jump'; 'high-jump' and 'high_jump' differ only in how" in alike
    assert len(load_video_list(tmp_path / "list.csv", group_by="fold").notes) == 1


def test_the_json_of_diving48(tmp_path):
    write(tmp_path / "rgb" / "a_00001.mp4", "")
    text = '[{"vid_name": "a_00001", "label": 1, "start_frame": 0, "end_frame": 81}]'
    videos = load_video_list(write(tmp_path / "train.json", text))
    assert videos.paths == (str(tmp_path / "rgb" / "a_00001.mp4"),) and videos.labels == (1,)


def test_segments_of_long_videos(tmp_path):
    file = write(
        tmp_path / "list.csv",
        "video,action,start,end\nday.mp4,run,0,2.5\nday.mp4,wave,2.5,4\nall.mp4,run,,\n",
    )
    videos = load_video_list(file)
    assert names(videos) == ["day.mp4", "day.mp4", "all.mp4"] and videos.labels == (0, 1, 0)
    assert videos.segments == ((0.0, 2.5), (2.5, 4.0), None)


def test_the_csv_of_kinetics(tmp_path):
    file = write(
        tmp_path / "annotations" / "train.csv",
        "label,youtube_id,time_start,time_end,split\n"
        '"abseiling",-3B32lodo2M,59,69,train\n'
        '"air drumming, fast",whole,3,13,train\n'
        "abseiling,gone,0,10,train\n",
    )
    root = tmp_path / "videos"
    write(root / "abseiling" / "-3B32lodo2M_000059_000069.mp4", "")
    write(root / "whole.mkv", "")
    videos = load_video_list(file, root=root)
    assert videos.class_names == ("abseiling", "air drumming, fast")
    assert videos.labels == (0, 1, 0)
    # One is cut out already, one holds the segment, one is missing and stays in the list.
    assert videos.paths == (
        str(root / "abseiling" / "-3B32lodo2M_000059_000069.mp4"),
        str(root / "whole.mkv"),
        str(root / "gone_000000_000010.mp4"),
    )
    assert videos.segments == (None, (3.0, 13.0), None)
    write(root / "other" / "whole.mp4", "")
    with pytest.raises(UserError, match="line 3: two files are named whole: .*whole"):
        load_video_list(file, root=root)


def test_the_json_of_something_something(tmp_path):
    entries = [
        {"id": "78687", "label": "holding a potato", "template": "Holding [something]",
         "placeholders": ["a potato"]},
        {"id": "42", "label": "pushing a pen", "template": "Pushing [something]",
         "placeholders": ["a pen"]},
    ]  # fmt: skip
    file = write(tmp_path / "labels" / "train.json", json.dumps(entries))
    root = tmp_path / "videos"
    write(root / "78687.webm", "")
    videos = load_video_list(file, root=root)
    assert videos.paths == (str(root / "78687.webm"), str(root / "42.webm"))
    assert videos.class_names == ("Holding something", "Pushing something")
    label_map = {"Pushing something": "0", "Turning something": "1", "Holding something": "2"}
    write(tmp_path / "labels" / "labels.json", json.dumps(label_map))
    videos = load_video_list(file, root=root)
    assert videos.class_names == tuple(label_map) and videos.labels == (2, 0)
    write(file, '[{"id": "1"}]')
    with pytest.raises(UserError, match=r"train.json: its objects have no label \(keys: id\)"):
        load_video_list(file, root=root)
