"""One model and one video for all tests of a file."""

import pytest

from mvit_tf.data.moving_shapes import MovingShapes, write_moving_shapes
from tests.export.formats.models import tiny


@pytest.fixture(scope="module")
def model():
    return tiny("mvitv2_s_16x4")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    shapes = MovingShapes(num_frames=24, height=48, width=64)
    write_moving_shapes(folder, videos_per_class=1, seed=0, shapes=shapes)
    return sorted(folder.rglob("*.mp4"))[0]
