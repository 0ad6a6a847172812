"""Many damaged files, and many opens of one file: no crash, no hang, no growth."""

import collections
import os
import pathlib
import subprocess
import sys

import pytest

from mvit_tf.data.video.decoding import OUTCOMES

from ..videos import write_numbered

SOURCES = {
    "whole.mp4": {"bframes": 2},
    "whole.mov": {"codec": "mpeg4"},
    "whole.mkv": {
        "codec": "libx265",
        "preset": "ultrafast",
        "x265-params": "log-level=none",
    },
    "whole.webm": {"codec": "libvpx-vp9", "deadline": "realtime", "cpu-used": "8"},
    "whole.avi": {"codec": "mpeg4", "bf": "2"},
    "whole.ts": {"bframes": 2},
    "whole.mpg": {"codec": "mpeg2video", "bf": "2"},
    "whole.flv": {"bframes": 2},
    "whole.wmv": {"codec": "wmv2"},
    "whole.gif": {"codec": "gif", "pix_fmt": "rgb8", "fps": 25},
}
ROOT = pathlib.Path(__file__).parents[3]


def run(*arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_mutated_videos(tmp_path):
    for name, options in SOURCES.items():
        write_numbered(tmp_path / name, 30, **options)
    count = 2000
    script = pathlib.Path(__file__).with_name("mutated_videos.py")
    done = run(script, tmp_path, count, 0)
    lines = done.stdout.splitlines()
    # The last line names the file that ended the process, if one did.
    assert done.returncode == 0, f"{lines[-1]}: {done.returncode}, {done.stderr[-2000:]}"
    assert len(lines) == count
    outcomes = collections.Counter(line.split()[3] for line in lines)
    assert set(outcomes) <= {"ok", *OUTCOMES}
    assert outcomes["ok"] > count // 10 and len(outcomes) >= 5


_READ_AGAIN_AND_AGAIN = """
import sys
from mvit_tf.data.video.decoding import open_video

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

for number in range(10_000):
    with open_video(sys.argv[1]) as video:
        video.frames_at_indices([2, 15, 29, 7])
    if number == 200:
        start = resident()
print(resident() - start)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads the memory under /proc")
def test_memory_does_not_grow(tmp_path):
    path = write_numbered(tmp_path / "video.mp4", 30, bframes=2)
    done = run("-c", _READ_AGAIN_AND_AGAIN, path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 50e6
