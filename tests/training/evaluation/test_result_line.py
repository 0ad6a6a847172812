"""The one line of an evaluation."""

import numpy as np
import pytest

from mvit_tf.training.evaluation.evaluation import make_report
from mvit_tf.training.evaluation.result_line import data_name, result_line
from mvit_tf.training.experiments.experiment import load_experiment
from tests.training.evaluation.test_evaluation import six_class_videos
from tests.training.tiny import write_config


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ("", "videos held out of videos"),
        ("data.validation=/d/val.csv,data.validation_fraction=0", "val.csv"),
        ("data.validation=/d/a.csv,data.validation_split=test,data.validation_fraction=0",
         "a.csv (test)"),
        ("data.validation='https://h/f/val.csv?token=hidden',data.validation_fraction=0",
         "val.csv"),
    ],
)  # fmt: skip
def test_the_name_of_the_data(tmp_path, overrides, name):
    config = write_config(tmp_path / "tiny.yaml", "/somewhere/videos")
    assert data_name(load_experiment(config, overrides)) == name


def test_the_line_names_model_data_views_and_score():
    probabilities = np.eye(6)[[0, 0, 2, 3, 4, 5, 5]]
    report = make_report(probabilities, np.array([1, 1, 1, 1, 0, 1, 1]), six_class_videos(), {})
    how = {"model": "mvit_b_16x4", "data": "val.csv", "epoch": 37, "crops": 1}
    assert result_line(report, **how, clips=5, ensemble_method="mean") == (
        "result      mvit_b_16x4 on val.csv: top-1 83.3% top-5 100.0%, 5 clips x 1 crop of "
        "7 videos (1 missing), epoch 37"
    )
    shuffled = result_line(report, **how, clips=1, ensemble_method="max", frames_shuffled=True)
    assert shuffled.endswith(
        "1 clip x 1 crop (max) of 7 videos (1 missing), frames shuffled, epoch 37"
    )
