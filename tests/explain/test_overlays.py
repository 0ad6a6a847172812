"""The pictures show the heat where it is."""

import av
import numpy as np
import pytest
from PIL import Image

from mvit_tf.explain import Explanation
from mvit_tf.explain.overlays import heat_grid, write_heat_grid, write_heat_video


@pytest.fixture
def explanation():
    heat = np.zeros((10, 48, 50), np.float32)
    heat[9, 8:16, 32:40] = 1
    frames = np.full((10, 48, 50, 3), 100, np.uint8)
    return Explanation(frames, heat, "wave", 0.9, "rollout")


def test_the_heat_lies_below_its_frame(explanation, tmp_path):
    write_heat_grid(explanation, tmp_path / "heat.png")
    with Image.open(tmp_path / "heat.png") as image:
        picture = np.asarray(image).astype(int)
    np.testing.assert_array_equal(picture, np.asarray(heat_grid(explanation)))
    # Enlarged three times; eight columns and two rows of pairs with gaps of 4 pixels between.
    assert picture.shape == (2 * 288 + 4, 8 * 150 + 7 * 4, 3)
    second = picture[288 + 4 + 144 : 2 * 288 + 4, 150 + 4 : 2 * 150 + 4]  # the tenth frame's heat
    coloured = np.ptp(second, axis=-1) > 20
    assert coloured[24:48, 96:120].all()
    assert coloured.sum() == 24 * 24
    assert not (np.ptp(picture[: 288 + 4], axis=-1) > 20).any()


def test_heat_of_one_height_colours_nothing(explanation):
    flat = Explanation(explanation.frames, np.ones_like(explanation.heat), "wave", 0.9, "rollout")
    assert not np.ptp(np.asarray(heat_grid(flat)), axis=-1).any()


def test_the_video_has_every_frame_at_its_speed(explanation, tmp_path):
    write_heat_video(explanation, tmp_path / "heat.mp4", fps=7.5)
    with av.open(str(tmp_path / "heat.mp4")) as container:
        (stream,) = container.streams.video
        assert stream.average_rate == 7.5
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(frames) == 10 and frames[0].shape == (144, 300, 3)
    left, right = frames[9][:, :150].astype(int), frames[9][:, 150:].astype(int)
    assert np.abs(left - 100).mean() < 4
    hot = np.ptp(right, axis=-1)[24:48, 96:120].mean()
    assert hot > 5 * np.ptp(left, axis=-1).mean() + 10
