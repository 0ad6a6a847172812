import contextlib
import os
import signal
import socket
from pathlib import Path

import av
import numpy as np
import pytest

from mvit_tf.data.video.decoding import OUTCOMES, DecodeError, open_video
from mvit_tf.errors import UserError

from ..videos import numbered_frame, read_numbers, write_audio, write_numbered, write_video

ENCODINGS = {
    "gop12.mp4": {"gop": 12},
    "gop12_bframes.mp4": {"gop": 12, "bframes": 3},
    "gop250_bframes.mp4": {"gop": 250, "bframes": 3},
    "open_gop.mp4": {"gop": 12, "bframes": 3, "x264-params": "open-gop=1"},
    "ten_bits.mov": {"bframes": 2, "pix_fmt": "yuv420p10le"},
    "full_chroma.mkv": {"bframes": 2, "pix_fmt": "yuv444p"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg4_bframes.avi": {"codec": "mpeg4", "bf": "2"},
    "bframes.avi": {"bframes": 2},
    "bframes.ts": {"bframes": 2},
    "bframes.flv": {"bframes": 2},
    "vp9.webm": {"codec": "libvpx-vp9", "cpu-used": "8", "deadline": "realtime"},
    "mpeg2.mpg": {"codec": "mpeg2video"},
    "wmv2.wmv": {"codec": "wmv2"},
}


def numbers_at(path, indices):
    with open_video(path) as video:
        return read_numbers(video.frames_at_indices(indices)).tolist()


@pytest.mark.parametrize("name", ENCODINGS)
def test_frame_i_is_frame_i(tmp_path, name):
    path = write_numbered(tmp_path / name, 75, **ENCODINGS[name])
    with open_video(path) as video:
        assert video.info.fps == 30.0 and video.info.num_frames == 75
        assert video.info.duration == pytest.approx(2.5)
        assert video.info.codec == ENCODINGS[name].get("codec", "h264").replace("libvpx-", "")
        assert (video.info.width, video.info.height, video.info.rotation) == (80, 64, 0)
        frames = video.frames_at_indices(range(75))
        assert frames.dtype == np.uint8 and frames.shape == (75, 64, 80, 3)
        assert read_numbers(frames).tolist() == list(range(75))
    # Any order, repeats, far jumps, and outside the video.
    wanted = [70, 3, 3, 41, 0, 74, 74, 12]
    assert numbers_at(path, wanted) == wanted
    assert numbers_at(path, [-5, 80, 1000]) == [0, 74, 74]
    for index in range(0, 75, 7):
        assert numbers_at(path, [index]) == [index]
    with open_video(path) as video:  # The same reader again, backwards.
        for index in (74, 30, 31, 2):
            assert read_numbers(video.frames_at_indices([index])).tolist() == [index]


def test_variable_frame_rate_goes_by_time(tmp_path):
    # 40 frames at 60 a second, a long hold, 20 at 15 a second: by index all would be wrong.
    stamps = np.concatenate([np.arange(40) / 60, 1.2 + np.arange(20) / 15]).round(3)
    path = write_numbered(tmp_path / "vfr.mp4", 60, stamps=stamps, bframes=2)
    with open_video(path) as video:
        info = video.info
        shown = read_numbers(video.frames_at_indices(range(info.num_frames))).tolist()
    assert info.num_frames == 60 and 20 < info.fps < 27
    moments = np.arange(60) / info.fps
    expected = [int(np.flatnonzero(stamps <= m + 0.25 / info.fps)[-1]) for m in moments]
    assert shown == expected
    assert shown.count(39) > 5  # The hold shows one frame for long.
    assert [numbers_at(path, [i])[0] for i in (0, 17, 35, 59)] == [
        expected[i] for i in (0, 17, 35, 59)
    ]


def test_pixels_are_rgb_in_the_right_place(tmp_path):
    image = np.zeros((64, 96, 3), np.uint8)
    image[:32, :48], image[:32, 48:], image[32:, :48] = (220, 30, 30), (30, 200, 40), (30, 40, 220)
    path = write_video(tmp_path / "colours.mp4", [image] * 3, pix_fmt="yuv444p", crf="4")
    with open_video(path) as video:
        frame = video.frames_at_indices([1])[0]
    assert np.abs(frame.astype(int) - image).mean() < 4


@pytest.mark.parametrize(
    ("rotation", "degrees", "turn"),
    [
        ({"degrees": 0}, 0, lambda x: x),
        ({"degrees": 90}, 90, lambda x: np.rot90(x, 1)),
        ({"degrees": 180}, 180, lambda x: np.rot90(x, 2)),
        ({"degrees": -90}, 270, lambda x: np.rot90(x, 3)),
        ({"degrees": 0, "hflip": True}, 0, lambda x: x[:, ::-1]),
        ({"degrees": 0, "vflip": True}, 180, lambda x: x[::-1]),
    ],
)
def test_display_matrix_is_applied(tmp_path, rotation, degrees, turn):
    stored = write_numbered(tmp_path / "stored.mp4", 5)
    turned = write_numbered(tmp_path / "turned.mp4", 5, rotation=rotation)
    with open_video(stored) as video:
        expected = [turn(frame) for frame in video.frames_at_indices([1, 4])]
    with open_video(turned) as video:
        frames = video.frames_at_indices([1, 4])
        assert video.info.rotation == degrees
        assert frames.shape[1:3] == (video.info.height, video.info.width)
    np.testing.assert_array_equal(frames, expected)


def cover_only(path):
    """An mp3 with a cover picture, which FFmpeg presents as a video stream."""
    with av.open(str(path), "w", format="mp3") as container:
        sound = container.add_stream("libmp3lame", rate=16000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 64, 80, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(numbered_frame(3), format="rgb24")
        for number in range(10):
            frame = av.AudioFrame(format="s16p", layout="mono", samples=1152)
            frame.planes[0].update(bytes(2304))
            frame.sample_rate, frame.pts = 16000, number * 1152
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
        container.mux(cover.encode(picture) + cover.encode(None))
    return path


def truncated(path, keep, **options):
    whole = write_numbered(path.with_name("whole" + path.suffix), 60, **options).read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    return path


BAD_FILES = {
    "missing": lambda folder: folder / "nowhere.mp4",
    "empty_file": lambda folder: Path(folder / "zero.mp4").write_bytes(b"") or folder / "zero.mp4",
    "no_video_stream": lambda folder: write_audio(folder / "sound.mp4"),
    "container_error": lambda folder: truncated(folder / "cut.mp4", 0.6),
    "decode_error": lambda folder: truncated(
        folder / "cut.mp4", 0.6, container_options={"movflags": "faststart"}
    ),
}


@pytest.mark.parametrize("outcome", BAD_FILES)
def test_bad_file_ends_in_its_outcome(tmp_path, outcome):
    path = BAD_FILES[outcome](tmp_path)
    with pytest.raises(DecodeError) as caught, open_video(path) as video:
        video.frames_at_indices([59])
    error = caught.value
    assert isinstance(error, UserError)
    assert error.outcome == outcome and outcome in OUTCOMES
    assert error.path == str(path) and str(error) == f"{path}: {error.detail}"
    assert "\n" not in error.detail


def test_cover_picture_is_no_video(tmp_path):
    with pytest.raises(DecodeError) as caught, open_video(cover_only(tmp_path / "song.mp3")):
        pass
    assert caught.value.outcome == "no_video_stream"


def test_text_and_folder_are_no_videos(tmp_path):
    for name in ("text.mp4", "text.txt"):
        (tmp_path / name).write_text("not a video at all\n" * 50)
    (tmp_path / "folder.mp4").mkdir()
    for name in ("text.mp4", "text.txt", "folder.mp4"):
        with pytest.raises(DecodeError) as caught, open_video(tmp_path / name):
            pass
        assert caught.value.outcome == "container_error"


@contextlib.contextmanager
def time_limit(seconds):
    """Turns a hang into a failure."""

    def fail(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def refused(path):
    with time_limit(10), pytest.raises(DecodeError) as caught, open_video(path):
        pass
    return caught.value


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_are_refused_unopened(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "link.mp4").symlink_to("pipe.mp4")
    for name in ("pipe.mp4", "link.mp4"):  # Nobody writes to it: opening it would hang.
        error = refused(tmp_path / name)
        assert error.outcome == "container_error" and "a pipe" in error.detail
        assert "save it to a file first" in error.detail
    reading, writing = os.pipe()
    try:
        os.write(writing, write_numbered(tmp_path / "video.ts", 3).read_bytes()[:4096])
        assert "a pipe" in refused(f"/dev/fd/{reading}").detail
        assert os.read(reading, 1) == b"G"  # Nothing was taken from it.
    finally:
        os.close(reading)
        os.close(writing)


def test_standard_input_from_a_file(tmp_path):
    path = write_numbered(tmp_path / "video.ts", 20)
    with open(path, "rb") as file:
        assert numbers_at(f"/dev/fd/{file.fileno()}", [3, 19, 0]) == [3, 19, 0]


def test_other_special_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # Names of sockets must be short.
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.mp4")
        assert "a socket" in refused("socket.mp4").detail
    assert "a device" in refused("/dev/zero").detail
    assert "a folder" in refused(tmp_path).detail


def test_names_that_cannot_be(tmp_path):
    (tmp_path / "dead.mp4").symlink_to("nowhere.mp4")
    (tmp_path / "file").write_bytes(b"x")
    for name in ("dead.mp4", "zero\0byte.mp4", "file/inside.mp4", "long" * 2000):
        assert refused(tmp_path / name).outcome == "missing"


def test_stream_without_frames(tmp_path):
    # A complete header and no picture data: the packets lie beyond the end of the file.
    path = truncated(tmp_path / "cut.mp4", 1.0, container_options={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + 4])
    with pytest.raises(DecodeError) as caught, open_video(path):
        pass
    assert caught.value.outcome == "no_frames"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cut.mp4", {"container_options": {"movflags": "faststart"}}),
        ("cut.mkv", {}),
        ("cut.avi", {"codec": "mpeg4", "gop": 1}),
    ],
)
def test_cut_off_file_gives_what_is_there_and_no_more(tmp_path, name, options):
    path = truncated(tmp_path / name, 0.6, **options)
    assert numbers_at(path, [0, 5, 10]) == [0, 5, 10]
    with pytest.raises(DecodeError) as caught:
        numbers_at(path, [0, 5, 59])
    assert caught.value.outcome == "decode_error" and "of 2.00 s" in caught.value.detail


def test_damage_in_the_middle(tmp_path):
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (64, 80, 3), np.uint8) for _ in range(60)]
    whole = write_video(tmp_path / "noise.mp4", noise, gop=12)
    data = bytearray(whole.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data)
    with open_video(whole) as video:
        expected = video.frames_at_indices(range(60))
    with open_video(damaged) as video:
        np.testing.assert_array_equal(video.frames_at_indices(range(20)), expected[:20])
    with open_video(damaged) as video:  # Reached from a keyframe behind the damage.
        np.testing.assert_array_equal(video.frames_at_indices([58]), expected[[58]])
    with pytest.raises(DecodeError, match="a damaged frame"), open_video(damaged) as video:
        video.frames_at_indices(range(20, 40))


def test_odd_file_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("concat:a.mp4", "with space, ünd %d.mp4", "-dash.mp4"):
        os.replace(write_numbered("plain.mp4", 3), name)
        assert numbers_at(name, [2]) == [2]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files under /proc")
def test_files_are_closed(tmp_path):
    good = write_numbered(tmp_path / "good.mp4", 10)
    bad = [make(tmp_path) for make in BAD_FILES.values()]
    numbers_at(good, [1])
    before = len(os.listdir("/proc/self/fd"))
    readers = []
    for path in [good, *bad]:
        try:
            with open_video(path) as video:
                readers.append(video)  # Still referenced, yet closed.
                video.frames_at_indices([59])
        except DecodeError:
            pass
    assert len(os.listdir("/proc/self/fd")) == before
