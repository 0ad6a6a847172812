"""Bad requests to the exported signatures, in a process that has only TensorFlow."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mvit_tf.export.saved_model import export_saved_model
from tests.export.tiny import CLASS_NAMES, PREPROCESSING, SAMPLING, tiny_model

LOAD, SESSION = 0, 1
# What the answer to each says; None: it is a good one.
ANSWERS = {
    "good frames": None,
    "wrong rank": "frames must be uint8 [B, T, H, W, 3], RGB; the request has the shape] [5 40 50",
    "zero frames": "RGB, with at least one of each; the request has the shape] [2 0 40 50 3]",
    "zero height": "RGB, with at least one of each; the request has the shape] [2 5 0 50 3]",
    "one pixel": "frames must be 8 to 65536 pixels high and wide; the request has the shape] [2 5",
    "empty batch": "RGB, with at least one of each; the request has the shape] [0 5 40 50 3]",
    "4 GiB": "frames may hold 2147483648 bytes in a request; send fewer or smaller ones",
    "a long side": "frames must be 8 to 65536 pixels high and wide; the request has the shape] [1",
    "a ribbon": "more than 4294967296 bytes when resized to a short side of 32; send fewer",
    "good example": None,
    "no JPEG": "image/encoded must hold JPEG pictures; there is another thing in example] [0]",
    "cut JPEG": "Invalid JPEG data",
    "no frames": "no frames in the feature list image/encoded (a JPEG picture each) of example]",
    "different sizes": "the frames must be of one size (height, width); example] [0] [has]",
    "large JPEG": "frames may have 33554432 pixels; example] [0] [has] [4096 8193]",
    "no example": "Invalid protocol message input",
    "no examples": "examples must be [B] strings, at least one, each a serialized tf.train.Seq",
    "good videos": None,
    "no frame rate": "fps must be frames a second, above 0 and at most 100000; got] [30 0]",
    "one frame rate": "fps must be one number for each video; got the shape] [1]",
    "good video example": None,
    "video example without a rate": None,
    "a rate of zero": "image/frame_rate must be one number of frames a second, above 0 and at most",
    "a rate too high": "above 0 and at most 100000; example] [0] [has] [200000]",
    "two rates": "above 0 and at most 100000; example] [0] [has] [25 30]",
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("requests")
    version = export_saved_model(
        tiny_model(),
        folder / "export",
        class_names=CLASS_NAMES,
        preprocessing=PREPROCESSING.with_short_side(32),
        sampling=SAMPLING,
        num_clips=2,
        views_in_graph=True,
    )
    client, answers = Path(__file__).with_name("bare_client.py"), folder / "answers.json"
    # Isolated from this checkout's path, in a folder without it.
    command = [sys.executable, "-I", client, version, answers]
    subprocess.run(command, cwd=folder, check=True)
    return json.loads(answers.read_text())


def test_both_loaders_answer_good_requests_alike(answers):
    assert set(answers) == set(ANSWERS)
    for name, said in ANSWERS.items():
        if said is None:
            by_load, by_session = answers[name]
            assert (by_load[0], by_session[0]) == ("answered", "answered"), name
            np.testing.assert_allclose(by_load[1], by_session[1], atol=1e-6)
            assert np.ptp(by_load[1]) > 0.01


@pytest.mark.parametrize("loader", [LOAD, SESSION])
@pytest.mark.parametrize("name", [name for name, said in ANSWERS.items() if said])
def test_a_bad_request_is_told_what_is_wanted(answers, name, loader):
    if (name, loader) == ("4 GiB", SESSION):
        pytest.skip("what is fed to a session is copied: the request would take 8 GiB")
    kind, message = answers[name][loader]
    assert kind == "InvalidArgumentError"
    assert ANSWERS[name] in message
