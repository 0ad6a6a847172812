"""Length and frame rate of videos whose header lacks them, lies, or hides frames."""

import struct

import numpy as np
import pytest

from mvit_tf.data.video import timing
from mvit_tf.data.video.decoding import DecodeError, open_video
from mvit_tf.data.video.scan import scan_video

from ..videos import (
    MATROSKA_LENGTH,
    MATROSKA_RATE,
    join,
    patch,
    patch_after,
    played,
    read_numbers,
    remove_matroska_rate,
    remux,
    shown_by_time,
    write_audio,
    write_numbered,
    write_video,
)

VP8 = {"codec": "libvpx", "deadline": "realtime", "cpu-used": "8"}


def read_all(path):
    """(VideoInfo, the numbers of all frames by index)."""
    with open_video(path) as video:
        return video.info, read_numbers(
            video.frames_at_indices(range(video.info.num_frames))
        ).tolist()


RECORDINGS = {
    "steady": np.arange(90) / 30,
    "slow": np.arange(40) / 7,
    "late start": 5 + np.arange(60) / 30,
    "jitter": np.arange(90) / 30 + np.random.default_rng(0).uniform(-0.012, 0.012, 90) + 0.1,
    "burst, then slow": np.concatenate([np.arange(30) / 30, 1 + np.arange(20) / 5]),
    "a hole": np.concatenate([np.arange(30) / 30, 6 + np.arange(30) / 30]),
}


@pytest.mark.parametrize("kind", RECORDINGS)
@pytest.mark.parametrize("suffix", [".webm", ".mkv"])
def test_recording_without_rate_and_length(tmp_path, kind, suffix):
    stamps = RECORDINGS[kind].round(3)
    options = VP8 if suffix == ".webm" else {"bframes": 2}
    path = write_numbered(
        tmp_path / f"recording{suffix}",
        len(stamps),
        stamps=stamps,
        container_options={"live": "1"},
        **options,
    )
    remove_matroska_rate(path)
    info, numbers = read_all(path)
    between = (stamps[-1] - stamps[0]) / (len(stamps) - 1)
    assert info.duration == pytest.approx(stamps[-1] - stamps[0] + between, abs=between)
    assert info.num_frames == pytest.approx(len(stamps), abs=1)
    assert numbers == shown_by_time(stamps, info)
    assert set(numbers) >= {0, len(stamps) - 1}


@pytest.mark.parametrize("period", [1_000_000, 8_000_000, 1_000_000_000, 4_000_000_000])
def test_matroska_rate_that_lies(tmp_path, period):
    path = write_numbered(tmp_path / "lie.mkv", 75, bframes=2)
    patch_after(path, MATROSKA_RATE, 0, period.to_bytes(4))
    info, numbers = read_all(path)
    assert info.num_frames == 75 and info.duration == pytest.approx(2.5, abs=1 / 30)
    assert numbers == list(range(75))


def test_matroska_length_that_lies(tmp_path):
    path = write_numbered(tmp_path / "short.mkv", 75)
    patch_after(path, MATROSKA_LENGTH, 0, struct.pack(">d", 400.0))
    patch(path, b"00:00:02.5", b"00:00:00.4")
    info, numbers = read_all(path)
    assert info.fps == 30 and numbers == list(range(75))


@pytest.mark.parametrize("box", [b"mdhd", b"mvhd", b"tkhd"])
@pytest.mark.parametrize("value", [0, 1, 7 * 15360])
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_mp4_length_that_lies(tmp_path, box, value, suffix):
    path = write_numbered(tmp_path / f"lie{suffix}", 75, bframes=2)
    patch_after(path, box, {b"mdhd": 16, b"mvhd": 16, b"tkhd": 20}[box], value.to_bytes(4))
    info, numbers = read_all(path)
    assert info.fps == pytest.approx(30, abs=0.01) and numbers == list(range(75))


@pytest.mark.parametrize("value", [0, 1, 40])
def test_avi_length_that_lies(tmp_path, value):
    path = write_numbered(tmp_path / "lie.avi", 75, codec="mpeg4", bf="2")
    patch_after(path, b"strh", 4 + 32, value.to_bytes(4, "little"))
    info, numbers = read_all(path)
    assert info.fps == 30 and numbers == list(range(75))


def test_flv_length_and_rate_that_lie(tmp_path):
    for name, value in (("duration", 0.4), ("framerate", 1000.0), ("framerate", 1.0)):
        path = write_numbered(tmp_path / "lie.flv", 75, bframes=2)
        patch_after(path, name.encode(), 1, struct.pack(">d", value))
        info, numbers = read_all(path)
        assert info.fps == pytest.approx(30, abs=0.05) and numbers == list(range(75))


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".nut", ".ts"])
@pytest.mark.parametrize("fps", [1200, 4000])
def test_high_speed_video(tmp_path, fps, suffix):
    path = write_numbered(tmp_path / f"fast{suffix}", 300, fps=fps, gop=60)
    info, numbers = read_all(path)
    assert info.fps == pytest.approx(fps, rel=1e-3) and info.num_frames == 300
    assert info.duration == pytest.approx(300 / fps, rel=1e-3)
    assert numbers == list(range(300))


@pytest.mark.parametrize("fps", [1, 0.1])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
def test_slow_video(tmp_path, fps, suffix):
    path = write_numbered(tmp_path / f"slow{suffix}", 12, fps=fps)
    info, numbers = read_all(path)
    assert info.fps == pytest.approx(fps) and numbers == list(range(12))


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize("bframes", [0, 3])
@pytest.mark.parametrize(("first", "last"), [(0, 40), (5, 75), (17, 60), (24, 49), (31, 33)])
def test_cut_without_encoding(tmp_path, suffix, bframes, first, last):
    whole = write_numbered(tmp_path / "whole.mp4", 75, bframes=bframes)
    path = remux(
        whole, tmp_path / f"cut{suffix}", start=first / 30, end=last / 30, shift=first / 30
    )
    info, numbers = read_all(path)
    moments, shown = played(path)
    # The last B-frames may lack their neighbours; the table of frames does not tell.
    length = moments[-1] - moments[0] + 1 / 30
    assert info.fps == 30 and info.duration == pytest.approx(length, abs=(0.1 + bframes) / 30)
    assert numbers == shown[shown_by_time(moments, info)].tolist()
    # Up to `last` by decoding order: with B-frames some later ones come along.
    assert numbers[0] == first and last - 1 in numbers and len(numbers) - (last - first) <= 5


@pytest.mark.parametrize("fragments", ["frag_keyframe", "frag_keyframe+empty_moov"])
def test_fragmented_cut(tmp_path, fragments):
    whole = write_numbered(tmp_path / "whole.mp4", 75)
    path = remux(whole, tmp_path / "cut.mp4", start=0.8, shift=0.8, options={"movflags": fragments})
    assert read_all(path)[1] == list(range(24, 75))


def edit(path, *edits):
    """Gives an MP4 file, its header at the end, an edit list of (seconds, media seconds or -1)."""
    data = path.read_bytes()
    entries = b"".join(
        struct.pack(
            ">IiI", round(seconds * 1000), -1 if media < 0 else round(media * 15360), 1 << 16
        )
        for seconds, media in edits
    )
    body = struct.pack(">II", 0, len(edits)) + entries
    elst = struct.pack(">I", len(body) + 8) + b"elst" + body
    old = data.index(b"edts") - 4
    size = int.from_bytes(data[old : old + 4])
    made = bytearray(
        data[:old] + struct.pack(">I", len(elst) + 8) + b"edts" + elst + data[old + size :]
    )
    for box in (b"moov", b"trak"):
        place = made.index(box) - 4
        grown = int.from_bytes(made[place : place + 4]) + len(elst) + 8 - size
        made[place : place + 4] = grown.to_bytes(4)
    path.write_bytes(made)
    return path


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([(1.0, 0.5)], [*range(15, 45)]),
        ([(1.0, 0.0)], [*range(30)]),
        ([(0.5, 0.0), (0.5, 1.5)], [*range(15), *range(45, 60)]),
        ([(0.5, 1.0), (0.5, 1.0)], [*range(30, 45), *range(30, 45)]),
        ([(2.5, 0.0), (2.5, 0.0)], [*range(75), *range(75)]),
        ([(2.0, -1), (1.0, 0.5)], [*range(15, 45)]),
    ],
)
def test_edit_list(tmp_path, edits, expected):
    path = edit(write_numbered(tmp_path / "edited.mp4", 75), *edits)
    info, numbers = read_all(path)
    assert info.fps == pytest.approx(30, abs=0.05) and numbers == expected


@pytest.mark.parametrize("edits", [[(1.0, 0.5)], [(0.5, 0.1), (0.5, 1.5)], [(2.0, -1), (1.0, 0.5)]])
def test_edit_list_with_b_frames(tmp_path, edits):
    path = edit(write_numbered(tmp_path / "edited.mp4", 75, bframes=2), *edits)
    info, numbers = read_all(path)
    moments, shown = played(path)
    assert info.duration == pytest.approx(moments[-1] - moments[0] + 1 / 30, abs=0.001)
    assert numbers == shown[shown_by_time(moments, info)].tolist()


JOINED = {
    ".mpg": {"codec": "mpeg2video"},
    ".vob": {"codec": "mpeg2video", "bf": "2"},
    ".ts": {"bframes": 3},
    ".m2ts": {"codec": "mpeg2video"},
}


@pytest.mark.parametrize("suffix", JOINED)
@pytest.mark.parametrize("lengths", [(75, 75), (90, 20), (30, 60, 20)])
def test_joined_files(tmp_path, suffix, lengths):
    parts = [
        write_numbered(tmp_path / f"part{n}{suffix}", length, **JOINED[suffix])
        for n, length in enumerate(lengths)
    ]
    path = join(tmp_path / f"joined{suffix}", *parts)
    info, numbers = read_all(path)
    # FFmpeg may stamp the last frame before a joint in a VOB file one period too late.
    held = [n for n, before in zip(numbers, [None, *numbers], strict=False) if n != before]
    assert held == [number for length in lengths for number in range(length)]
    assert info.fps == 30 and (numbers == held or suffix == ".vob")
    with open_video(path) as video:  # Backwards.
        for index in (len(numbers) - 1, 3, lengths[0] + 2, 0):
            assert read_numbers(video.frames_at_indices([index])) == numbers[index]


def test_joined_files_of_far_later_stamps(tmp_path):
    first = write_numbered(tmp_path / "first.ts", 45)
    second = write_numbered(tmp_path / "second.ts", 45, stamps=3600 + np.arange(45) / 30)
    assert read_all(join(tmp_path / "joined.ts", first, second))[1] == [*range(45), *range(45)]


def test_stream_that_first_appears_midway(tmp_path):
    # Behind the 5 MB that FFmpeg looks at on opening.
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (480, 640, 3), np.uint8) for _ in range(30)]
    options = {"codec": "mpeg2video", "gop": 1, "qmin": "1", "qmax": "1"}
    picture = write_video(tmp_path / "picture.mpg", noise, **options)
    assert picture.stat().st_size > 6_000_000
    sound = write_audio(tmp_path / "sound.mpg", codec="mp2")
    path = join(tmp_path / "both.mpg", picture, sound)
    with open_video(picture) as video, open_video(path) as same:
        assert same.info == video.info and video.info.num_frames == 30
        last = video.frames_at_indices([29])
        np.testing.assert_array_equal(same.frames_at_indices([29]), last)
    assert scan_video(path).num_decoded == 30


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".mov", ".flv"])
@pytest.mark.parametrize("gap", [4.0, 9.0, 20.0])
def test_long_hold(tmp_path, suffix, gap):
    stamps = np.concatenate([np.arange(30) / 30, gap + np.arange(30) / 30]).round(3)
    path = write_numbered(tmp_path / f"hole{suffix}", 60, stamps=stamps, bframes=2)
    info, numbers = read_all(path)
    if suffix == ".ts" and gap > 10:  # As after a lost signal: what follows is joined on.
        assert info.duration == pytest.approx(2.0, abs=0.05) and numbers == list(range(60))
    else:
        assert info.duration == pytest.approx(gap + 1, abs=1.5 / info.fps)
        assert numbers == shown_by_time(stamps, info)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".mov", ".flv", ".webm"])
def test_late_start(tmp_path, suffix):
    options = VP8 if suffix == ".webm" else {"bframes": 2}
    stamps = 7 + np.arange(60) / 30
    path = write_numbered(tmp_path / f"late{suffix}", 60, stamps=stamps, **options)
    info, numbers = read_all(path)
    assert info.duration == pytest.approx(2.0, abs=0.05) and numbers == list(range(60))


def test_start_between_keyframes(tmp_path):
    whole = write_numbered(tmp_path / "whole.ts", 75, bframes=2).read_bytes()
    path = tmp_path / "tuned_in.ts"
    # Transport packets of 188 bytes: the first two hold the tables, the rest is cut at 40 %.
    cut = int(len(whole) * 0.4) // 188 * 188
    path.write_bytes(whole[: 188 * 3] + whole[cut:])
    info, numbers = read_all(path)
    assert numbers == list(range(numbers[0], 75)) and info.fps == 30


@pytest.fixture
def reads(monkeypatch):
    """Notes how much of each file is read for its length; all Matroska files count as large."""
    noted = []
    whole = timing._read_extent
    monkeypatch.setattr(timing, "_LARGE", 0)
    monkeypatch.setattr(
        timing,
        "_read_extent",
        lambda *args, **limits: noted.append(limits) or whole(*args, **limits),
    )
    return noted


@pytest.mark.parametrize("start", [0, 6])
def test_large_matroska_is_not_read_whole(tmp_path, reads, start):
    stamps = start + np.arange(300) / 30
    path = write_numbered(tmp_path / "large.mkv", 300, bframes=2, stamps=stamps)
    info, numbers = read_all(path)
    assert info.fps == 30 and numbers == list(range(300))
    assert reads == [{"limit": 200}]
    patch_after(path, MATROSKA_LENGTH, 0, struct.pack(">d", 400.0))
    assert read_all(path)[1] == list(range(300))


def test_large_matroska_that_does_not_fit_its_header(tmp_path, reads):
    path = write_numbered(tmp_path / "large.mkv", 300, bframes=2)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    with pytest.raises(DecodeError, match="of 10.0. s"):
        read_all(cut)
    stamps = np.cumsum([0.02, 0.05, 0.1] * 100).round(3)
    varying = write_numbered(tmp_path / "varying.mkv", 300, stamps=stamps)
    info, numbers = read_all(varying)
    assert numbers == shown_by_time(stamps, info) and info.num_frames == 300
    assert reads == [{"limit": 200}, {}] * 2


def test_only_files_that_need_it_are_read(tmp_path, reads):
    for name in ("plain.mp4", "plain.mov", "plain.avi"):
        codec = {"codec": "mpeg4"} if name.endswith(".avi") else {"bframes": 2}
        read_all(write_numbered(tmp_path / name, 60, **codec))
    assert reads == []


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".flv", ".avi"])
def test_cut_file_is_named(tmp_path, suffix):
    options = {".webm": VP8, ".avi": {"codec": "mpeg4", "gop": 1}}.get(suffix, {})
    whole = write_numbered(tmp_path / f"whole{suffix}", 75, **options)
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.6)])
    with pytest.raises(DecodeError, match=r"of 2\.[45]\d s") as caught:
        read_all(path)
    assert caught.value.outcome == "decode_error"


def test_stop_at_a_joint_is_named(tmp_path):
    first = write_numbered(tmp_path / "first.ts", 45, codec="mpeg2video")
    other = write_numbered(tmp_path / "other.ts", 45)  # Another codec, under the same number.
    with pytest.raises(DecodeError, match="another file is joined to it"):
        read_all(join(tmp_path / "joined.ts", first, other))
