"""Making record sets: the same bytes whatever happens on the way."""

import contextlib
import errno
import json
import os

import pytest

from mvit_tf.data.lists.video_list import load_video_list
from mvit_tf.data.records import shards as shards_module
from mvit_tf.data.records.prepare import LocalShards, prepare
from mvit_tf.errors import UserError
from mvit_tf.files import held_file
from tests.data.videos import write_numbered

from .sets import call, class_folders, contents, make_set, planned


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Six numbered videos and two that fail."""
    root = class_folders(tmp_path_factory.mktemp("videos"))
    (root / "a/bad.mp4").write_text("no video")
    (root / "b/empty.mp4").touch()
    return root


def test_the_same_bytes_by_any_number_of_processes(videos, tmp_path, monkeypatch):
    make_set(videos, tmp_path / "one", num_shards=3)
    make_set(videos, tmp_path / "two", num_shards=3, make_shards=LocalShards(2, 60.0))
    # From another place, by a relative path.
    monkeypatch.chdir(videos)
    make_set(".", tmp_path / "three", num_shards=3)
    first = contents(tmp_path / "one")
    assert contents(tmp_path / "two") == first == contents(tmp_path / "three")
    assert sorted(first) == [
        *(f"set-{n:05d}-of-00003.tfrecord" for n in range(3)),
        "set-manifest.json",
    ]
    manifest = json.loads(first["set-manifest.json"])
    assert manifest["counts"] == {
        "videos": 8, "records": 6, "failures": 2, "frames": sum(range(20, 26)),
        "records_per_class": {"a": 3, "b": 3},
    }  # fmt: skip
    failures = [failure for shard in manifest["shards"] for failure in shard["failures"]]
    assert {(one["source"], one["outcome"]) for one in failures} == {
        ("a/bad.mp4", "container_error"),
        ("b/empty.mp4", "empty_file"),
    }
    assert all(one["detail"] for one in failures)


def test_failures_leave_no_trace_in_other_records(videos, tmp_path):
    listed = tmp_path / "list.csv"
    good = sorted(videos.glob("*/?.mp4"))
    bad = videos / "a/bad.mp4"
    lines = [f"{path},{path.parent.name}\n" for path in (*good[:3], bad, *good[3:])]
    listed.write_text("path,label\n" + "".join(lines))
    manifest = make_set(listed, tmp_path / "with", num_shards=1)
    (shard,) = manifest.shards
    bad.rename(videos / "a/gone.mp4")
    try:
        other = make_set(listed, tmp_path / "without", num_shards=1)
    finally:
        (videos / "a/gone.mp4").rename(bad)
    assert other.shards[0].sha256 == shard.sha256
    assert [one.outcome for one in other.shards[0].failures] == ["missing"]


class Interrupted(Exception):
    pass


def interrupted_after(count, makes):
    """Makes files, and stops in the middle of the one after `count`."""

    def make(plan, numbers, finish, advance):
        makes.append(len(numbers))
        for done, number in enumerate(numbers):
            members = list(plan.members[number])
            if done == count:
                members = members[:1]

            def encoded(members=members, stop=done == count):
                for index in members:
                    yield shards_module.encode_member(plan, index, call)
                if stop:
                    raise Interrupted

            finish(number, shards_module.write_shard(plan, number, encoded()))

    return make


def test_goes_on_where_it_was_interrupted(videos, tmp_path):
    make_set(videos, tmp_path / "whole", num_shards=4)
    folder, makes = tmp_path / "parts", []
    for count in (1, 2):
        with pytest.raises(Interrupted):
            make_set(videos, folder, num_shards=4, make_shards=interrupted_after(count, makes))
        with pytest.raises(UserError, match="without a manifest"):
            load_video_list(folder)
    # One that a kill left half written, and a finished one that a disk has lost bits of.
    (folder / ".writing-1.set-00003-of-00004.tfrecord").write_bytes(b"half")
    file = folder / "set-00001-of-00004.tfrecord"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    other = folder / ".writing-1.set-2-00000-of-00004.tfrecord"  # Of a set called set-2.
    other.touch()
    make_set(videos, folder, num_shards=4, make_shards=interrupted_after(9, makes))
    other.unlink()
    assert makes == [4, 3, 2]
    assert contents(folder) == contents(tmp_path / "whole")
    # A finished set is made again where it is damaged, and only there.
    file.unlink()
    make_set(videos, folder, num_shards=4, make_shards=interrupted_after(9, makes))
    assert makes == [4, 3, 2, 1]
    assert contents(folder) == contents(tmp_path / "whole")


def test_too_many_failures_end_it_and_mended_videos_are_read_again(tmp_path):
    class_folders(tmp_path / "videos", count=4)
    bad = tmp_path / "videos/a/bad.mp4"
    bad.write_text("no video")
    makes = []
    with pytest.raises(UserError, match="1 of 5 videos .*a/bad.mp4 .container_error") as caught:
        make_set(
            tmp_path / "videos", tmp_path / "set", max_failure_share=0.1,
            make_shards=interrupted_after(9, makes),
        )  # fmt: skip
    assert "--max_failure_share" in str(caught.value)
    write_numbered(bad, 20)
    manifest = make_set(
        tmp_path / "videos", tmp_path / "set", max_failure_share=0.1,
        make_shards=interrupted_after(9, makes),
    )  # fmt: skip
    assert makes == [2, 1] and manifest.counts()["records"] == 5


def test_another_list_or_other_options_are_refused(tmp_path):
    root = class_folders(tmp_path / "videos", count=4)
    for name, stop in (("begun", 1), ("finished", 9)):
        folder = tmp_path / name
        with contextlib.suppress(Interrupted):
            make_set(root, folder, make_shards=interrupted_after(stop, []))
        before = contents(folder)
        with pytest.raises(UserError, match=r"quality=70 \(was 90\); shards=3 \(was 2\)"):
            make_set(root, folder, quality=70, num_shards=3)
        (root / "a/0.mp4").rename(root / "b/new.mp4")
        with pytest.raises(
            UserError, match="1 videos are new: b/new.mp4; 1 videos are gone: a/0.mp4"
        ):
            make_set(root, folder)
        (root / "b/new.mp4").rename(root / "a/0.mp4")
        assert contents(folder) == before


def test_a_full_disk_keeps_what_is_finished(videos, tmp_path, monkeypatch):
    calls = []

    def full(plan, number, encoded):
        calls.append(number)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return shards_module.write_shard(plan, number, encoded)

    monkeypatch.setattr("mvit_tf.data.records.prepare.write_shard", full)
    with pytest.raises(UserError, match="the disk is full; finished files are kept"):
        make_set(videos, tmp_path / "set", num_shards=3, make_shards=LocalShards(1, 60.0))
    assert os.path.exists(tmp_path / "set/set-00000-of-00003.tfrecord")
    make_set(videos, tmp_path / "set", num_shards=3, make_shards=LocalShards(1, 60.0))
    assert calls == [0, 1, 1, 2]


def test_one_process_at_a_time(videos, tmp_path):
    plan = planned(videos, tmp_path)
    (tmp_path / ".set-unfinished").mkdir()
    with (
        held_file(tmp_path / ".set-unfinished/lock"),
        pytest.raises(UserError, match="another process prepares it"),
    ):
        prepare(plan, LocalShards(1, 60.0), max_failure_share=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_shards": 9}, "shards=9 must be from 1 to 8"),
        ({"name": "a/b"}, "name='a/b'"),
        ({"quality": 96}, "quality=96 must be at most 95"),
        ({"fps": -1.0}, "fps=-1.0 must be at least 0"),
        ({"frames": "png"}, "frames='png' must be one of jpeg, video"),
    ],
)
def test_options_out_of_range(videos, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        planned(videos, tmp_path, **options)


def test_a_folder_within_the_source_is_refused(videos):
    for output in (videos, videos / "set"):
        with pytest.raises(UserError, match="is within"):
            planned(videos, output)
