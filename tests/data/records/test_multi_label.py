"""Records of videos with any number of labels, which may have times."""

import pytest

from mvit_tf.data.lists.video_list import load_video_list
from mvit_tf.errors import UserError
from tests.data.videos import write_numbered

from .sets import make_set


@pytest.mark.parametrize("with_manifest", [True, False])
def test_labels_and_their_times_come_back(tmp_path, with_manifest):
    for name in ("A1", "B2", "C3"):
        write_numbered(tmp_path / f"{name}.mp4", 20)
    source = tmp_path / "train.csv"
    source.write_text("id,actions\nA1,c1 0.1 0.4;c0 0.0 0.2;c1 0.5 0.6\nB2,\nC3,c2 0.25 0.5\n")
    listed = load_video_list(str(source), multi_label=True)
    made = make_set(str(source), tmp_path / "set", multi_label=True)
    assert made.counts()["records_per_class"] == {"c0": 1, "c1": 1, "c2": 1}
    records = str(tmp_path / "set")
    if with_manifest:
        with pytest.raises(UserError, match="any number of labels; set data.multi_label=true"):
            load_video_list(records)
    else:
        (tmp_path / "set" / "set-manifest.json").unlink()
        records += "/*.tfrecord"
        with pytest.raises(UserError, match="labels .*unless data.multi_label=true"):
            load_video_list(records)
    videos = load_video_list(records, multi_label=True)
    assert videos.class_names == listed.class_names == ("c0", "c1", "c2")
    expected = sorted(zip(listed.labels, listed.intervals, strict=True))
    assert sorted(zip(videos.labels, videos.intervals, strict=True)) == expected
    # The same list goes on with the set, another does not.
    if with_manifest:
        assert make_set(str(source), tmp_path / "set", multi_label=True) == made
        source.write_text(source.read_text().replace("c2 0.25", "c2 0.3"))
        with pytest.raises(UserError, match="1 videos have other labels: C3.mp4"):
            make_set(str(source), tmp_path / "set", multi_label=True)


def test_times_of_a_segment_count_from_its_start(tmp_path):
    write_numbered(tmp_path / "A1.mp4", 30)
    source = tmp_path / "train.csv"
    source.write_text("id,start,end,actions\nA1,0.2,0.9,c0 0.3 0.5\n")
    make_set(str(source), tmp_path / "set", multi_label=True, num_shards=1)
    videos = load_video_list(str(tmp_path / "set"), multi_label=True)
    ((label, start, end),) = videos.intervals[0]
    assert (label, round(start, 6), round(end, 6)) == (0, 0.1, 0.3)
