"""Which mistakes are the worst, and how the sheet shows them."""

import numpy as np
import pytest
from matplotlib.image import imread

from mvit_tf.data.lists.video_list import VideoList, load_video_list
from mvit_tf.training.evaluation.mistakes import plot_mistakes, worst_mistakes
from mvit_tf.training.experiments.experiment import load_experiment
from tests.training.tiny import write_config, write_videos


def test_the_highest_losses_come_first_and_right_ones_not_at_all():
    videos = VideoList(tuple(f"f/{i}.mp4" for i in range(5)), (0, 0, 1, 1, 0), ("x", "y"))
    probabilities = np.array([(0.4, 0.6), (0.1, 0.9), (0.45, 0.55), (0.8, 0.2), (0, 0)])
    worst = worst_mistakes(probabilities, np.array([1, 1, 1, 1, 0]), videos)
    assert [mistake.video for mistake in worst] == [1, 3, 0]
    assert [mistake.loss for mistake in worst] == pytest.approx(-np.log([0.1, 0.2, 0.4]))
    assert worst[0].text == "true x 10%\ntaken for y 90%\n1.mp4"
    assert [m.video for m in worst_mistakes(probabilities, np.ones(5), videos, 2)] == [1, 3]


def test_a_multi_label_video_is_wrong_where_a_class_is():
    videos = VideoList(("a.mp4", "b.mp4"), ((0, 1), ()), ("x", "y", "z"))
    probabilities = np.array([(0.9, 0.3, 0.8), (0.1, 0.2, 0.4)])
    (worst,) = worst_mistakes(probabilities, np.ones(2), videos)
    assert worst.loss == pytest.approx(-np.log([0.9, 0.3, 0.2]).mean())
    assert worst.text == "true x 90%\ntrue y 30%\nnot z 80%\na.mp4"


def test_a_video_that_is_gone_leaves_a_gap(tmp_path):
    config = write_config(tmp_path / "tiny.yaml", write_videos(tmp_path / "v", videos_per_class=1))
    videos = load_video_list(tmp_path / "v")
    wrong = np.full((8, 8), 0.01)
    mistakes = worst_mistakes(wrong, np.ones(8), videos, 3)
    assert len(mistakes) == 3
    experiment = load_experiment(config)

    def shown():
        plot_mistakes(mistakes, experiment, videos, None, tmp_path / "sheet.png")
        picture = np.round(255 * imread(tmp_path / "sheet.png")[..., :3])
        return (picture == 0xD9).all(-1).mean()

    assert shown() < 0.01
    (tmp_path / "v" / "down_left").joinpath("down_left_0000.mp4").write_bytes(b"")
    one = shown()
    assert 0.15 < one < 0.33
    for path in tmp_path.glob("v/*/*.mp4"):
        path.unlink()
    assert shown() > 0.6
