"""Predicting on video files from a SavedModel."""

import numpy as np
import pytest

from mvit_tf.data.decoding import DecodeError
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.data.pipeline import evaluation_views
from mvit_tf.data.video_list import VideoList
from mvit_tf.export.predictor import SavedModelPredictor
from mvit_tf.export.saved_model import export_saved_model
from mvit_tf.training.evaluation import ViewPredictor
from tests.data.videos import write_video
from tests.export.tiny import CLASS_NAMES, PREPROCESSING, SAMPLING, tiny_model

NUM_CLIPS = 3


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    paths = []
    for name, (frames, height, width) in {"a": (30, 48, 64), "b": (12, 80, 40)}.items():
        picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        rolled = [np.roll(picture, 5 * step, axis=1) for step in range(frames)]
        paths.append(str(write_video(folder / f"{name}.mp4", rolled)))
    return VideoList(tuple(paths), (0, 1), CLASS_NAMES)


def test_predictions_are_those_of_evaluation_with_centre_crops(videos, tmp_path):
    model = tiny_model()
    views = evaluation_views(
        videos,
        sampling=SAMPLING,
        preprocessing=PREPROCESSING,
        num_clips=NUM_CLIPS,
        num_crops=1,
        batch_size=4,
        ledger=OutcomeLedger(),
    )
    evaluated, num_views = ViewPredictor(model, batch_size=4).average_by_video(views, len(videos))
    assert num_views.tolist() == [NUM_CLIPS, NUM_CLIPS]
    assert np.abs(evaluated[0] - evaluated[1]).max() > 0.01

    export_saved_model(
        model,
        tmp_path,
        class_names=CLASS_NAMES,
        preprocessing=PREPROCESSING,
        sampling=SAMPLING,
        num_clips=NUM_CLIPS,
    )
    predictor = SavedModelPredictor(tmp_path)
    assert predictor.directory == tmp_path / "1"
    predicted = [predictor.predict_video(path) for path in videos.paths]
    np.testing.assert_allclose(predicted, evaluated, rtol=0, atol=1e-5)

    (tmp_path / "empty.mp4").touch()
    with pytest.raises(DecodeError) as caught:
        predictor.predict_video(tmp_path / "empty.mp4")
    assert caught.value.outcome == "empty_file"
