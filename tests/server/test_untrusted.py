"""What strangers send, as the decoding processes see it."""

import io

import numpy as np
import pytest
from PIL import Image

from mvit_tf.data.sampling import ClipSampling
from mvit_tf.data.video.decoding import DecodeError
from mvit_tf.server import untrusted
from mvit_tf.server.untrusted import untrusted_clip_parts, untrusted_images
from tests.data.videos import write_numbered

SAMPLING = ClipSampling(num_frames=4, sampling_rate=2)


def refusal(function, *args):
    with pytest.raises(DecodeError) as caught:
        list(function(*args))
    return caught.value.outcome, caught.value.detail


def test_a_playlist_of_a_file_beside_it_is_not_followed(tmp_path):
    video = write_numbered(tmp_path / "good.mp4", 30)
    facts, *parts = untrusted_clip_parts(str(video), SAMPLING, 1)
    assert facts.picks.shape == (1, 4) and parts[0].shape == (4, 64, 80, 3)
    playlist = tmp_path / "upload"
    playlist.write_text("ffconcat version 1.0\nfile good.mp4\n")
    outcome, detail = refusal(untrusted_clip_parts, str(playlist), SAMPLING, 1)
    assert outcome == "container_error" and detail.startswith("cannot be opened as a video")


def test_frames_too_large_for_a_clip_are_refused_before_they_come(tmp_path, monkeypatch):
    video = write_numbered(tmp_path / "good.mp4", 30)
    monkeypatch.setattr(untrusted, "MOST_CLIP_BYTES", 4 * 64 * 80 * 3 - 1)
    outcome, detail = refusal(untrusted_clip_parts, str(video), SAMPLING, 1)
    assert outcome == "too_large"
    assert detail == ("a clip of 4 frames of 80x64 takes 61.44 kB, and 61.44 kB at most are taken")
    Image.fromarray(np.zeros((64, 80, 3), np.uint8)).save(tmp_path / "0.jpg")
    assert refusal(untrusted_images, str(tmp_path / "{}.jpg"), 4)[0] == "too_large"


def test_images_of_one_clip_have_one_size(tmp_path):
    for number, width in enumerate((50, 50, 51)):
        file = io.BytesIO()
        Image.fromarray(np.full((40, width, 3), number, np.uint8)).save(file, "png")
        (tmp_path / f"{number}.jpg").write_bytes(file.getvalue())
    pattern = str(tmp_path / "{}.jpg")
    assert [int(part.max()) for part in untrusted_images(pattern, 2)] == [0, 1]
    assert refusal(untrusted_images, pattern, 3) == (
        "decode_error", "frame 3 of 3 is 51x40, the first is 50x40",
    )  # fmt: skip
