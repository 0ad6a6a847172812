"""Predicting on video files from a SavedModel."""

import numpy as np
import pytest

from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.data.pipeline import evaluation_views
from mvit_tf.data.video.decoding import DecodeError
from mvit_tf.errors import UserError
from mvit_tf.export import requests
from mvit_tf.export.predictor import ModelPredictor, SavedModelPredictor, open_predictor
from mvit_tf.export.saved_model import export_model, export_saved_model
from mvit_tf.models import MViT
from mvit_tf.prediction.inputs import VideoInput
from mvit_tf.prediction.videos import of_each_video
from mvit_tf.training.evaluation.evaluation import ViewPredictor
from mvit_tf.training.experiments.experiment import load_experiment
from mvit_tf.training.storage.checkpoints import Progress
from mvit_tf.training.storage.model_directory import ModelDirectory
from tests.data.videos import write_video
from tests.export.tiny import CLASS_NAMES, PREPROCESSING, SAMPLING, tiny_model
from tests.training.tiny import write_config

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
    evaluated, num_views = ViewPredictor(model, batch_size=4).scores_by_video(views, len(videos))
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


def trained(folder):
    """A model directory as training leaves it, and its model."""
    experiment = load_experiment(write_config(folder / "config.yaml", folder))
    model = MViT(
        experiment.model_config(len(CLASS_NAMES)),
        preprocessing=experiment.preprocessing(),
        sampling=experiment.clip_sampling(),
        class_names=CLASS_NAMES,
    )
    model.get_layer("head").kernel.assign(10 * model.get_layer("head").kernel)
    directory = ModelDirectory(folder / "run")
    directory.claim(experiment, CLASS_NAMES)
    directory.checkpoints.save(model, Progress().after_epoch(0.5, 1.0))
    return model, directory.path


def test_every_way_to_the_same_weights_gives_the_same(videos, tmp_path):
    model, run = trained(tmp_path)
    model.save(tmp_path / "model.keras")
    version = export_model(model, tmp_path / "export", num_clips=2)
    expected = model.predict_videos(videos.paths, num_clips=2)
    assert [prediction.path for prediction in expected] == list(videos.paths)
    assert np.abs(expected[0].probabilities - expected[1].probabilities).max() > 0.01
    before = sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*"))
    for way in (run, tmp_path / "export", version):
        predictions = open_predictor(way).predict_videos(videos.paths)
        for prediction, other in zip(predictions, expected, strict=True):
            assert prediction.class_names == CLASS_NAMES
            np.testing.assert_allclose(
                prediction.probabilities, other.probabilities, rtol=0, atol=1e-5
            )
    assert sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*")) == before

    five = model.predict_videos(videos.paths[:1])[0]  # five clips, as published models
    (kept,) = open_predictor(tmp_path / "model.keras").predict_videos(videos.paths[:1])
    np.testing.assert_allclose(kept.probabilities, five.probabilities, rtol=0, atol=1e-5)


def test_what_the_export_refuses_is_said_in_one_line(tmp_path, monkeypatch):
    export_saved_model(
        tiny_model(),
        tmp_path,
        class_names=CLASS_NAMES,
        preprocessing=PREPROCESSING,
        sampling=SAMPLING,
        num_clips=NUM_CLIPS,
    )
    predictor = SavedModelPredictor(tmp_path)
    with pytest.raises(UserError) as caught:
        predictor.predict_frames(np.zeros((1, 4, 7, 40, 3), np.uint8))
    said = "the export refuses these frames: [frames must be 8 to 65536 pixels high and wide; "
    assert str(caught.value) == f"{said}the request has the shape] [1 4 7 40 3]"
    with pytest.raises(UserError, match="the export refuses these frames: .*frames must be 8"):
        predictor.clip_features(np.zeros((1, 4, 7, 40, 3), np.uint8))

    frames = np.random.default_rng(0).integers(0, 256, (5, 4, 40, 50, 3), np.uint8)
    whole, asked, answer = predictor.predict_frames(frames), [], predictor._answer
    monkeypatch.setattr(predictor, "_answer", lambda *of: asked.append(len(of[1])) or answer(*of))
    monkeypatch.setattr(requests, "MAX_REQUEST_BYTES", 2 * frames[0].nbytes)
    np.testing.assert_allclose(predictor.predict_frames(frames), whole, rtol=0, atol=1e-5)
    assert asked == [2, 2, 1]


def test_a_video_that_the_model_refuses_does_not_stop_the_others():
    def compute(video, workers):
        if video.path == "flat.mp4":
            raise UserError("the export refuses these frames: too flat")
        return video.path

    videos = [VideoInput("flat.mp4"), VideoInput("good.mp4")]
    refused, answered = of_each_video(compute, videos, num_workers=1)
    assert (refused[2].outcome, str(refused[2])) == (
        "bad_frames", "flat.mp4: the export refuses these frames: too flat"
    )  # fmt: skip
    assert answered == (videos[1], "good.mp4", None)


def test_predictions_are_ranked(videos):
    model = tiny_model()
    model.preprocessing, model.sampling, model.class_names = PREPROCESSING, SAMPLING, CLASS_NAMES
    (prediction,) = model.predict_videos(videos.paths[:1])
    ranked = prediction.top()
    assert {name for name, _ in ranked} == set(CLASS_NAMES)
    values = [probability for _, probability in ranked]
    assert values == sorted(values, reverse=True) and sum(values) == pytest.approx(1)
    assert prediction.top(1) == [(CLASS_NAMES[prediction.probabilities.argmax()], values[0])]
    with pytest.raises(DecodeError, match="no such file"):
        model.predict_videos(["nowhere.mp4"])


def test_a_model_that_does_not_know_its_world_is_refused(tmp_path):
    model = tiny_model()
    with pytest.raises(UserError, match="set model.preprocessing, model.sampling, model.class"):
        model.predict_videos([])
    with pytest.raises(UserError, match="set model.preprocessing"):
        export_model(model, tmp_path / "export")
    assert not (tmp_path / "export").exists()
    model.preprocessing, model.sampling, model.class_names = PREPROCESSING, SAMPLING, ("a", "b")
    with pytest.raises(UserError, match="3 outputs, but there are 2 class names"):
        ModelPredictor(model)
    model.save(tmp_path / "model.keras")
    with pytest.raises(UserError, match="3 outputs"):
        open_predictor(tmp_path / "model.keras")
    (tmp_path / "damaged.keras").write_bytes(b"PK")
    with pytest.raises(UserError, match="damaged.keras is cut short or no Keras model"):
        open_predictor(tmp_path / "damaged.keras")
    (tmp_path / "a.weights.h5").touch()
    with pytest.raises(UserError, match="holds weights alone.*--model NAME --weights"):
        open_predictor(tmp_path / "a.weights.h5")
