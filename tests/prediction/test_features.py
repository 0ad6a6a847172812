"""Embeddings: from models and exports, resumed, and their neighbours."""

import errno
import types

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mvit_tf.cli.main import main
from mvit_tf.data.clips import evaluation_frames, gather_frames
from mvit_tf.data.transforms import evaluation_preprocess
from mvit_tf.data.video.decode_workers import DecodeWorkers
from mvit_tf.errors import UserError
from mvit_tf.export.predictor import ModelPredictor, SavedModelPredictor
from mvit_tf.export.saved_model import export_model
from mvit_tf.prediction import features as features_module
from mvit_tf.prediction.features import VideoFeatures, extract_features
from mvit_tf.prediction.inputs import VideoInput
from mvit_tf.prediction.neighbours import nearest_by_cosine, plot_neighbours
from tests.export.tiny import CLASS_NAMES, PREPROCESSING, SAMPLING, tiny_model
from tests.prediction.predictors import ColourPredictor, write_coloured


def knowing_model():
    model = tiny_model()
    model.preprocessing, model.sampling, model.class_names = PREPROCESSING, SAMPLING, CLASS_NAMES
    return model


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    parts = {"a": "red", "b": "blue", "c": "red", "d": "green", "e": "blue"}
    return [
        VideoInput(write_coloured(folder / f"{name}.mp4", (colour, 20 + number)))
        for number, (name, colour) in enumerate(parts.items())
    ]


def test_features_are_what_the_head_reads(videos, tmp_path):
    model = knowing_model()
    predictor = ModelPredictor(model, num_clips=2)
    (tmp_path / "bad.mp4").touch()
    asked, failures = [*videos[:2], VideoInput(str(tmp_path / "bad.mp4"))], []
    file = tmp_path / "f.npz"
    found = extract_features(predictor, asked, file, on_failure=failures.append)
    assert list(found.names) == [video.path for video in videos[:2]]
    assert [error.outcome for error in failures] == ["empty_file"]
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []
    frames, facts = gather_frames(
        evaluation_frames(videos[0].path, SAMPLING, 2),
        lambda frames, _: evaluation_preprocess(frames, PREPROCESSING).numpy(),
    )
    logits = model(frames[facts.picks]).numpy().mean(axis=0)
    head = model.get_layer("head")
    again = found.features[0] @ head.kernel.numpy() + head.bias.numpy()
    np.testing.assert_allclose(again, logits, atol=1e-4)
    np.testing.assert_array_equal(VideoFeatures.load(file).features, found.features)

    clips = extract_features(predictor, videos[:2], file, layer="stage_1", per_clip=True)
    assert clips.clips.tolist() == [0, 1, 0, 1]
    maps = model.feature_maps(frames[facts.picks])["stage_1"].numpy()
    np.testing.assert_allclose(clips.features[:2], maps.mean(axis=(1, 2, 3)), atol=1e-5)
    with pytest.raises(UserError, match="no layer 'stage_9'.*pooled, stage_1, stage_2"):
        extract_features(predictor, videos, file, layer="stage_9")


def test_frames_in_memory_and_exports(videos, tmp_path):
    model = knowing_model()
    version = export_model(model, tmp_path / "export", num_clips=2)
    export, own = SavedModelPredictor(version), ModelPredictor(model, num_clips=2)
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 50, 60, 3), np.uint8)
    np.testing.assert_allclose(
        own.predict_frames(frames), export.predict_frames(frames), rtol=0, atol=1e-5
    )
    more = np.repeat(frames, 2, axis=1)  # picked evenly, in the graph or before it
    np.testing.assert_allclose(
        own.predict_frames(more), export.predict_frames(more), rtol=0, atol=1e-5
    )
    with pytest.raises(UserError, match=r"shape \(4, 50, 60, 3\)"):
        own.predict_frames(frames[0])
    own.batch_size = 2
    np.testing.assert_allclose(
        own.predict_video(videos[0].path), export.predict_video(videos[0].path), atol=1e-5
    )
    part = own.predict_video(videos[4].path, segment=(0.1, 0.5))
    np.testing.assert_allclose(
        part, export.predict_video(videos[4].path, segment=(0.1, 0.5)), atol=1e-5
    )


def test_exports_give_features_by_their_signature(videos, tmp_path):
    export = SavedModelPredictor(export_model(knowing_model(), tmp_path / "export", num_clips=2))

    def features(frames):
        grid = tf.reduce_mean(tf.cast(frames, tf.float32), axis=(2, 3))[:, :, None, None]
        return {"pooled": tf.reduce_mean(grid, axis=(1, 2, 3)), "stage_1": grid}

    export._loaded = types.SimpleNamespace(signatures={"features": features})
    found = extract_features(export, videos, tmp_path / "f.npz")
    assert found.features.shape == (5, 3) and found.features[1].argmax() == 2
    stage = extract_features(export, videos, tmp_path / "f.npz", layer="stage_1")
    np.testing.assert_allclose(stage.features, found.features, rtol=1e-5)
    with pytest.raises(UserError, match="no layer 'stage_2'.*pooled, stage_1"):
        extract_features(export, videos, tmp_path / "f.npz", layer="stage_2")
    export._loaded = types.SimpleNamespace(signatures={})
    with pytest.raises(UserError, match="no signature 'features': export the model again"):
        extract_features(export, videos, tmp_path / "f.npz")


def test_a_run_that_was_ended_goes_on(videos, tmp_path):
    class Counting(ColourPredictor):
        calls = 0

        def _features(self, clips, layer):
            self.calls += 1
            return super()._features(clips, layer)

    file = tmp_path / "f.tfrecord"
    first = Counting()

    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_features(first, videos, file, on_progress=stop)
    partial = tmp_path / "f.tfrecord.partial"
    partial.write_bytes(partial.read_bytes() + b"cut off in the middle")
    second = Counting()
    found = extract_features(second, videos, file)
    assert second.calls == 1 + 2 * 2  # the model's own, and two clips of each video left
    assert len(found.names) == 5 and not partial.exists()
    records = [tf.train.Example.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(file))]
    row = records[4].features.feature
    assert row["name"].bytes_list.value[0].decode() == videos[4].path
    np.testing.assert_allclose(row["features"].float_list.value, found.features[4])


def test_the_nearest_are_of_the_same_colour(videos, tmp_path):
    found = extract_features(ColourPredictor(), videos, tmp_path / "f.npz")
    rows, cosines = nearest_by_cosine(found.features, range(5), 2)
    assert rows[:, 0].tolist()[:3] == [2, 4, 0] and rows[4, 0] == 1
    assert (cosines[[0, 1, 2, 4], 0] > 0.999).all() and (cosines[:, 1] < 0.9).all()
    with DecodeWorkers(1) as workers:
        plot_neighbours(found.names, found.features, tmp_path / "sheet.png", workers=workers)
    assert min(Image.open(tmp_path / "sheet.png").size) > 400


def test_features_on_the_command_line(videos, tmp_path, capsys):
    knowing_model().save(tmp_path / "model.keras")
    (tmp_path / "bad.mp4").touch()
    output, sheet = tmp_path / "f.npz", tmp_path / "sheet.png"
    asked = [videos[0].path, str(tmp_path / "bad.mp4"), videos[1].path]
    command = ["features", str(tmp_path / "model.keras"), *asked]
    assert main([*command, "--output", str(output), "--neighbours", str(sheet)]) == 2
    printed = capsys.readouterr()
    assert f"{output}: 2 embeddings of" in printed.out and sheet.is_file()
    assert "bad.mp4: the file is empty" in printed.err
    assert main([*command, "--output", str(tmp_path / "f.csv")]) == 2
    assert "must end in .npz or .tfrecord" in capsys.readouterr().err
    for sheet, reason in (
        (tmp_path / "none" / "sheet.png", f"there is no folder {tmp_path / 'none'}"),
        ("s3://bucket/sheet.png", "give a file of this machine"),
        (tmp_path, "is a folder"),
    ):
        assert main([*command, "--output", str(output), "--neighbours", str(sheet)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line == f"error: {sheet}: {reason}"


def test_each_video_is_asked_once_what_it_is_now(videos, tmp_path, monkeypatch):
    asked = []
    key = features_module._key
    monkeypatch.setattr(features_module, "_key", lambda v: asked.append(v) or key(v))
    extract_features(ColourPredictor(), [*videos, videos[0]], tmp_path / "f.npz")
    assert asked == videos


def test_what_cannot_be_written_is_one_line(videos, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    file = tmp_path / "f.npz"
    with pytest.raises(UserError, match=f"^{file} cannot be written: No space left on device$"):
        extract_features(ColourPredictor(), videos, file)
    assert (tmp_path / "f.npz.partial").is_file()
    found = np.eye(2, 3, dtype=np.float32)
    monkeypatch.setattr("mvit_tf.prediction.neighbours.write_figure", full)
    with DecodeWorkers(1) as workers, pytest.raises(UserError, match="sheet.png cannot be written"):
        plot_neighbours(
            [video.path for video in videos[:2]], found, tmp_path / "sheet.png", workers=workers
        )
