"""Frame i is frame i in every codec and container that FFmpeg can write here."""

import numpy as np
import pytest

from mvit_tf.data.video.decoding import VideoReader, open_video
from mvit_tf.data.video.scan import scan_video

from ..videos import played, read_numbers, remux, shown_by_time, write_numbered

_X265 = {"codec": "libx265", "preset": "ultrafast", "x265-params": "log-level=none"}
_VP8 = {"codec": "libvpx", "deadline": "realtime", "cpu-used": "8"}
_VP9 = {"codec": "libvpx-vp9", "deadline": "realtime", "cpu-used": "8"}
_HIDDEN = {"deadline": "good", "auto-alt-ref": "1", "lag-in-frames": "16"}
_AV1 = {"codec": "libsvtav1", "preset": "12"}
_MPEG2 = {"codec": "mpeg2video", "bf": "2"}
_MPEG4 = {"codec": "mpeg4", "bf": "2"}
_MJPEG = {"codec": "mjpeg", "pix_fmt": "yuvj420p"}
_OPEN = {"bframes": 3, "x264-params": "open-gop=1"}
_REFRESH = {"x264-params": "intra-refresh=1"}

# The name of each file is free but for its suffix, which sets the container.
FORMATS = {
    "h264.mp4": {"bframes": 3},
    "h264.mov": {"bframes": 3},
    "h264.mkv": {"bframes": 3},
    "h264.ts": {"bframes": 3},
    "h264.m2ts": {"bframes": 2},
    "h264.flv": {"bframes": 3},
    "h264.f4v": {"bframes": 2},
    "h264.avi": {"bframes": 2},
    "h264.3gp": {"gop": 250},
    "h264.mxf": {"bframes": 2},
    "h264.m4v": {"bframes": 2},
    "h264.asf": {},
    "h264.mpg": {"bframes": 2},
    "open_gop.mp4": _OPEN,
    "open_gop.ts": _OPEN,
    "open_gop.mkv": _OPEN,
    "refresh.mp4": _REFRESH,
    "refresh.mkv": _REFRESH,
    "refresh.ts": _REFRESH,
    "hevc.mp4": _X265,
    "hevc.mkv": _X265,
    "hevc.ts": _X265,
    "hevc_open_gop.mp4": _X265 | {"x265-params": "log-level=none:bframes=4:open-gop=1"},
    "hevc_leading.mp4": _X265 | {"x265-params": "log-level=none:bframes=4:open-gop=0:radl=2"},
    "vp8.webm": _VP8,
    "vp8_hidden.mkv": _VP8 | _HIDDEN,
    "vp9.webm": _VP9,
    "vp9.mp4": _VP9,
    "vp9_hidden.webm": _VP9 | _HIDDEN,
    "av1.mp4": _AV1,
    "av1.mkv": _AV1,
    "av1.ivf": _AV1,
    "mpeg1.mpg": {"codec": "mpeg1video", "bf": "2"},
    "mpeg2.mpg": _MPEG2,
    "mpeg2.vob": _MPEG2,
    "mpeg2.ts": _MPEG2,
    "mpeg2.mts": _MPEG2,
    "mpeg2.mkv": _MPEG2,
    "mpeg2.m2v": _MPEG2,
    "mpeg2.mxf": {"codec": "mpeg2video"},
    "mpeg2.wtv": {"codec": "mpeg2video"},
    "mpeg4.mp4": _MPEG4,
    "mpeg4.mov": _MPEG4,
    "mpeg4.avi": _MPEG4,
    "mpeg4.mkv": _MPEG4,
    "mpeg4.nut": _MPEG4,
    "mpeg4.3gp": {"codec": "mpeg4"},
    "msmpeg4.avi": {"codec": "msmpeg4"},
    "wmv1.wmv": {"codec": "wmv1"},
    "wmv2.wmv": {"codec": "wmv2"},
    "flv1.flv": {"codec": "flv"},
    "mjpeg.avi": _MJPEG,
    "mjpeg.mov": _MJPEG,
    "mjpeg.mkv": _MJPEG,
    "gif.gif": {"codec": "gif", "pix_fmt": "rgb8", "fps": 25},
    "apng.apng": {"codec": "apng", "pix_fmt": "rgb24"},
    "ffv1.mkv": {"codec": "ffv1"},
    "ffv1.avi": {"codec": "ffv1"},
    "prores.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "png.mov": {"codec": "png", "pix_fmt": "rgb24"},
    "qtrle.mov": {"codec": "qtrle", "pix_fmt": "rgb24"},
    "svq1.mov": {"codec": "svq1", "pix_fmt": "yuv410p"},
    "huffyuv.avi": {"codec": "huffyuv", "pix_fmt": "yuv422p"},
    "utvideo.avi": {"codec": "utvideo"},
    "raw.avi": {"codec": "rawvideo"},
    "raw.y4m": {"codec": "wrapped_avframe"},
    "fragments.mp4": {"bframes": 2, "container_options": {"movflags": "frag_keyframe"}},
    "no_index.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "dash.mp4": {"bframes": 2, "container_options": {"movflags": "dash+frag_keyframe"}},
    "live.mkv": {"bframes": 2, "container_options": {"live": "1"}},
    "live.webm": _VP8 | {"container_options": {"live": "1"}},
}
# Raw streams, which know no time: FFmpeg takes 25 frames a second.
RAW = {"h264.h264": {"bframes": 2}, "hevc.hevc": _X265, "mjpeg.mjpeg": _MJPEG}


def check_random_access(path, expected, seeks, seed):
    """Frames read singly, in any order, are those of reading forward, to the bit."""
    with open_video(path) as video:
        forward = video.frames_at_indices(range(video.info.num_frames))
    assert read_numbers(forward).tolist() == expected
    rng = np.random.default_rng(seed)
    with open_video(path) as video:
        for index in rng.integers(0, len(expected), seeks).tolist():
            np.testing.assert_array_equal(video.frames_at_indices([index])[0], forward[index])
    index = int(rng.integers(0, len(expected)))
    with open_video(path) as video:  # Straight after opening.
        np.testing.assert_array_equal(video.frames_at_indices([index])[0], forward[index])


@pytest.mark.parametrize("name", FORMATS)
def test_frame_i_is_frame_i(tmp_path, name):
    options = FORMATS[name]
    path = write_numbered(tmp_path / name, 75, **options)
    with open_video(path) as video:
        assert video.info.fps == options.get("fps", 30) and video.info.num_frames == 75
    check_random_access(path, list(range(75)), 7, sorted(FORMATS).index(name))


@pytest.mark.parametrize("name", RAW)
def test_raw_stream(tmp_path, name):
    path = write_numbered(tmp_path / name, 40, **RAW[name])
    check_random_access(path, list(range(40)), 3, 0)


@pytest.mark.parametrize("name", FORMATS | RAW)
def test_scan_counts_every_frame(tmp_path, name):
    scan = scan_video(write_numbered(tmp_path / name, 40, **(FORMATS | RAW)[name]))
    assert (scan.num_decoded, scan.num_damaged, scan.detail) == (40, 0, "")


VARIABLE = ["h264.mp4", "h264.mov", "h264.mkv", "h264.ts", "h264.flv", "hevc.mp4", "vp8.webm"]
VARIABLE += ["vp9.webm", "av1.mkv", "mpeg4.mp4", "mpeg4.nut", "fragments.mp4", "live.mkv"]


@pytest.mark.parametrize("name", VARIABLE)
def test_variable_rate(tmp_path, name):
    rng = np.random.default_rng(VARIABLE.index(name))
    stamps = np.cumsum(rng.choice([0.02, 0.033, 0.04, 0.1], 60)).round(3)
    path = write_numbered(tmp_path / name, 60, stamps=stamps, **FORMATS[name])
    with open_video(path) as video:
        info = video.info
    assert info.duration == pytest.approx(stamps[-1] - stamps[0] + 0.05, abs=0.1)
    check_random_access(path, shown_by_time(stamps, info), 7, 0)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".ts", ".flv"])
@pytest.mark.parametrize("bframes", [0, 2])
def test_cut_without_encoding(tmp_path, suffix, bframes):
    whole = write_numbered(tmp_path / "whole.mp4", 75, bframes=bframes)
    path = remux(whole, tmp_path / f"cut{suffix}", start=0.6, end=2.2, shift=0.6)
    with open_video(path) as video:
        info = video.info
    moments, shown = played(path)
    check_random_access(path, shown[shown_by_time(moments, info)].tolist(), 7, 0)


@pytest.mark.parametrize("name", ["h264.mp4", "open_gop.mp4", "hevc_leading.mp4"])
def test_jumps_do_not_decode_from_the_start(tmp_path, name, monkeypatch):
    path = write_numbered(tmp_path / name, 200, **FORMATS[name])
    decoded = []
    decode = VideoReader._decode

    def counted(self):
        for picture in decode(self):
            decoded.append(picture)
            yield picture

    monkeypatch.setattr(VideoReader, "_decode", counted)
    with open_video(path) as video:
        for index in (190, 150, 185, 140, 170):
            before = len(decoded)
            assert read_numbers(video.frames_at_indices([index])) == index
            assert len(decoded) - before < 60
