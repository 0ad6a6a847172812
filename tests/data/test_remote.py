"""Videos, lists and class folders by URL, from servers on loopback."""

import numpy as np
import pytest

from mvit_tf.cli.check_data import check_file
from mvit_tf.data import remote
from mvit_tf.data.lists.content import checksum, copies_between
from mvit_tf.data.lists.saved_split import SavedSplit, save_split
from mvit_tf.data.lists.video_list import load_video_list
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.data.video.decode_workers import DecodeWorkers
from mvit_tf.data.video.decoding import DecodeError, open_video
from mvit_tf.data.video.scan import scan_video
from mvit_tf.errors import UserError
from mvit_tf.files import write_json_lines
from tests.data.videos import numbered_frame, read_numbers, write_video
from tests.remote_servers import s3_server, web_server

_NUM_FRAMES = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    frames = [numbered_frame(number) for number in range(_NUM_FRAMES)]
    for name in ("one/a.mp4", "one/b.mkv", "two/c.avi", "two/c.mp4"):
        (folder / name).parent.mkdir(exist_ok=True)
        codec = "mpeg4" if name.endswith("avi") else "libx264"
        write_video(folder / name, frames, codec=codec)
    # Noise, for a file of many blocks.
    noise = rng.integers(0, 255, (90, 240, 320, 3), dtype=np.uint8)
    write_video(folder / "large.mp4", noise, crf="12", preset="ultrafast")
    (folder / "empty.mp4").touch()
    return folder


@pytest.fixture
def web(folder, monkeypatch):
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(remote, "_PAUSES", (0.0, 0.0))
    with web_server(folder) as server:
        yield server


@pytest.mark.parametrize("with_ranges", [True, False])
@pytest.mark.parametrize("name", ["one/a.mp4", "one/b.mkv", "two/c.avi"])
def test_frames_by_url_are_those_of_the_file(folder, web, name, with_ranges):
    web.with_ranges = with_ranges
    indices = [100, 3, 60]
    with open_video(folder / name) as video:
        expected, info = video.frames_at_indices(indices), video.info
    with open_video(f"{web.url}/{name}") as video:
        found = video.frames_at_indices(indices)
        assert video.info == info
    np.testing.assert_array_equal(found, expected)
    assert read_numbers(found).tolist() == indices
    assert scan_video(f"{web.url}/{name}").num_decoded == _NUM_FRAMES


def test_a_seek_reads_a_part_of_the_file(folder, web):
    size = (folder / "large.mp4").stat().st_size
    with open_video(f"{web.url}/large.mp4") as video:
        video.frames_at_indices([70])
    assert size > 6 * 2**20
    assert sum(count for *_, count in web.requests) < size / 2


def test_a_failure_that_passes_is_not_seen(web):
    web.failing = [503, 503]
    with open_video(f"{web.url}/one/a.mp4") as video:
        web.failing = [503]
        assert read_numbers(video.frames_at_indices([7])) == 7


@pytest.mark.parametrize(
    ("name", "failing", "outcome", "detail"),
    [
        ("none.mp4", [], "missing", r"no such file \(HTTP 404\)"),
        ("empty.mp4", [], "empty_file", "zero bytes"),
        ("one/a.mp4", [403] * 99, "missing", "HTTP 403"),
        ("one/a.mp4", [503] * 99, "missing", "HTTP 503"),
    ],
)
def test_a_url_that_cannot_be_read_is_missing(web, name, failing, outcome, detail):
    web.failing = failing
    url = f"{web.url}/{name}?token=hidden"
    with pytest.raises(DecodeError, match=detail) as caught, open_video(url):
        pass
    assert caught.value.outcome == outcome
    assert str(caught.value).startswith(f"{web.url}/{name}: ")
    assert len([status for *_, status, _ in web.requests if status in (403, 503)]) <= 6


def test_a_server_that_ends_midway_is_missing_not_damage(web):
    with open_video(f"{web.url}/large.mp4") as video:
        web.failing = [500] * 99
        with pytest.raises(DecodeError, match="HTTP 500") as caught:
            video.frames_at_indices([85])
    assert caught.value.outcome == "missing"


def test_a_server_that_hangs_is_cut_off_by_the_workers(web):
    web.failing = ["hang"] * 99
    with DecodeWorkers(1, time_limit=2.0) as workers, pytest.raises(DecodeError) as caught:
        list(workers.run(check_file, f"{web.url}/one/a.mp4"))
    assert caught.value.outcome == "decoder_timeout"


@pytest.mark.parametrize("url", ["hdfs://host/a.mp4", "htp://host/a.mp4"])
def test_an_unknown_scheme_gets_the_known_ones(tmp_path, url):
    with pytest.raises(DecodeError, match=r"or http\(s\)://, s3:// or gs://"), open_video(url):
        pass
    (tmp_path / "list.txt").write_text(f"{url} 0\n")
    with pytest.raises(UserError, match="cannot be read here"):
        load_video_list(tmp_path / "list.txt")
    with pytest.raises(UserError, match="cannot be read here"):
        load_video_list(url)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(remote._PACKAGES, "s3", "no_such_package")
    with pytest.raises(UserError, match=r"no_such_package: pip install 'mvit_tf\[remote\]'"):
        load_video_list("s3://bucket/list.csv")


def test_lists_by_url_and_what_is_kept_of_them(folder, web, tmp_path):
    (folder / "list.csv").write_text("path,label\none/a.mp4,one\ntwo/c.mp4,two\n")
    videos = load_video_list(f"{web.url}/list.csv?token=hidden")
    assert videos.paths == (f"{web.url}/one/a.mp4", f"{web.url}/two/c.mp4")
    assert checksum(videos.paths[0]) == checksum(folder / "one/a.mp4")
    assert copies_between(videos.paths[:1], [str(folder / "one/a.mp4")]) == [
        (videos.paths[0], str(folder / "one/a.mp4"))
    ]
    save_split(tmp_path / "split.csv", videos.subset([0]), videos.subset([1]))
    saved = SavedSplit(tmp_path / "split.csv", videos.class_names)
    saved.check_held_out()
    assert saved.rest_of(videos).paths == videos.paths[:1]
    assert saved.changes_of_training(videos.subset([0])) == []
    web.failing = [404] * 99
    with pytest.raises(UserError, match=r"two/c.mp4 \(gone\)"):
        saved.check_held_out()


def test_web_folders_cannot_be_listed(web):
    with pytest.raises(UserError, match="give a list of the videos' URLs"):
        load_video_list(f"{web.url}/")
    with pytest.raises(UserError, match="no such folder or file"):
        load_video_list(f"{web.url}/none.csv")
    web.failing = [403] * 99
    with pytest.raises(UserError, match="cannot be read: HTTP 403"):
        load_video_list(f"{web.url}/list.csv")


def test_accounts_keep_no_secrets(tmp_path):
    ledger = OutcomeLedger()
    ledger.record("https://h/a.mp4?id=1&sig=hidden", "missing", "no such file")
    write_json_lines(tmp_path / "outcomes.jsonl", ledger.entries())
    assert "https://h/a.mp4?id=1" in (tmp_path / "outcomes.jsonl").read_text()
    assert "hidden" not in (tmp_path / "outcomes.jsonl").read_text()
    assert "hidden" not in str(ledger.nothing_decoded())


def test_class_folders_of_an_object_store(folder, monkeypatch):
    pytest.importorskip("moto")
    s3fs = pytest.importorskip("s3fs")
    with s3_server("bucket") as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        files = s3fs.S3FileSystem(skip_instance_cache=True)
        for name in ("one/a.mp4", "two/c.mp4", "two/deeper/d.mp4", "two/notes.txt"):
            source = folder / ("two/c.mp4" if name.endswith(".mp4") else "empty.mp4")
            files.put_file(str(source), f"bucket/videos/{name}")
        videos = load_video_list("s3://bucket/videos")
        nested = load_video_list("s3://bucket/videos", nested=True)
        with open_video(videos.paths[0]) as video:
            assert read_numbers(video.frames_at_indices([99])) == 99
        with pytest.raises(UserError, match="no such folder or file"):
            load_video_list("s3://bucket/none")
    assert videos.class_names == ("one", "two")
    assert videos.paths == ("s3://bucket/videos/one/a.mp4", "s3://bucket/videos/two/c.mp4")
    assert nested.paths[2] == "s3://bucket/videos/two/deeper/d.mp4"
    assert [reason for _, reason in videos.passed_over] == [
        "nested folder",
        "unknown extension .txt",
    ]
