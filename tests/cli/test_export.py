"""`mvit export` with what serving asks for."""

import signal

import numpy as np
import pytest

from mvit_tf import factory
from mvit_tf.cli.main import main
from mvit_tf.export import saved_model
from mvit_tf.export.formats import export as formats
from mvit_tf.export.metadata import load_metadata
from mvit_tf.export.predictor import open_predictor
from mvit_tf.models import MViT
from mvit_tf.presets import save_to_preset
from mvit_tf.training.experiments.experiment import load_experiment
from mvit_tf.training.storage.checkpoints import Progress
from mvit_tf.training.storage.model_directory import ModelDirectory
from tests.export.formats.models import tiny
from tests.training.tiny import write_config

CLASS_NAMES = ("cartwheel", "juggling", "wave")


@pytest.fixture
def run(tmp_path):
    """A model directory as training leaves it."""
    experiment = load_experiment(write_config(tmp_path / "config.yaml", tmp_path))
    directory = ModelDirectory(tmp_path / "moves")
    directory.claim(experiment, CLASS_NAMES)
    model = MViT(experiment.model_config(len(CLASS_NAMES)))
    directory.checkpoints.save(model, Progress().after_epoch(0.5, 1.0))
    return directory.path


def test_the_views_in_the_graph_are_those_of_evaluation(run, capsys):
    keys = "--params_override=data.evaluation_clips=4,data.evaluation_crops=3"
    assert main(["export", f"--model_dir={run}", "--views_in_graph", keys]) == 0
    assert "exported    epoch 1 to" in capsys.readouterr().out
    metadata = load_metadata(run / "export" / "1")
    assert (metadata.views_in_graph, metadata.num_clips, metadata.num_crops) == (True, 4, 3)
    readme = (run / "export" / "README.md").read_text()
    assert "`serve_videos`: probabilities of whole videos, all their frames: 4 x 3 views" in readme
    assert "--model_name=moves" in readme
    assert main(["export", f"--model_dir={run}", "--model_name=a b"]) == 2
    assert "error: --model_name='a b': letters" in capsys.readouterr().err
    assert [path.name for path in (run / "export").iterdir() if path.is_dir()] == ["1"]


@pytest.mark.parametrize("kind", ["mine.keras", "preset"])
def test_a_model_that_was_saved_elsewhere_is_exported(tmp_path, kind, capsys):
    model = tiny("mvitv2_s_16x4")
    path = tmp_path / kind
    model.save(path) if kind == "mine.keras" else save_to_preset(model, path)
    output = tmp_path / "exported"
    assert main(["export", f"--model={path}", f"--output={output}"]) == 0
    assert f"exported    {path} to {output / '1'}" in capsys.readouterr().out
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 40, 50, 3), dtype=np.uint8)
    got, wanted = (open_predictor(each).predict_frames(frames) for each in (output, path))
    np.testing.assert_allclose(got, wanted, atol=1e-6)
    assert main(["export", f"--model={tmp_path / 'none'}", f"--output={output}"]) == 2
    assert "none: no .keras file and no preset" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--format=litert"], ["--dtype=bfloat16"]])
def test_an_output_that_is_a_file_is_refused_before_anything_is_loaded(tmp_path, capsys, flags):
    (tmp_path / "file").touch()
    for output in ("file", "file/inner"):
        named = ["--model=nowhere.keras", f"--output={tmp_path / output}"]
        assert main(["export", *named, *flags]) == 2
        assert capsys.readouterr().err == (
            f"error: {tmp_path / output} cannot be a folder: {tmp_path / 'file'} is a file\n"
        )


def test_a_signal_ends_the_other_formats_with_its_own_status(monkeypatch, capsys):
    monkeypatch.setattr(
        factory, "create_model", lambda *_, **__: signal.raise_signal(signal.SIGTERM)
    )
    flags = ["--model=mvit_b_16x4", "--weights=kinetics400", "--output=out", "--format=litert"]
    assert main(["export", *flags]) == 143
    assert "interrupted; the same command starts again" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--dtype=bfloat16"]])
def test_a_store_that_cannot_be_written_is_told_in_one_line(monkeypatch, capsys, flags):
    def fails(*_, **__):
        raise PermissionError(13, "no such right")

    monkeypatch.setattr(factory, "create_model", lambda *_, **__: None)
    monkeypatch.setattr(saved_model, "export_model", fails)
    monkeypatch.setattr(formats, "export_format", fails)
    named = ["--model=mvit_b_16x4", "--weights=kinetics400", "--output=gs://bucket/export"]
    assert main(["export", *named, *flags]) == 2
    said = "error: gs://bucket/export cannot be read or written: no such right; when that is put"
    assert said in capsys.readouterr().err


def test_the_served_name_reaches_an_export_in_another_dtype(monkeypatch, tmp_path):
    asked = {}
    monkeypatch.setattr(factory, "create_model", lambda *_, **__: None)
    monkeypatch.setattr(formats, "export_format", lambda *_, **options: asked.update(options))
    named = ["--model=mvit_b_16x4", "--weights=kinetics400", f"--output={tmp_path}"]
    assert main(["export", *named, "--dtype=int8", "--model_name=moves"]) == 0
    assert (asked["dtype"], asked["model_name"]) == ("int8", "moves")


def test_flags_of_serving_reach_the_export_of_a_published_model(monkeypatch, tmp_path):
    asked = {}

    def export_model(model, to, **options):
        asked.update(options)
        return f"{to}/1"

    monkeypatch.setattr(factory, "create_model", lambda name, *, weights: (name, weights))
    monkeypatch.setattr(saved_model, "export_model", export_model)
    flags = ["--model=mvit_b_16x4", "--weights=kinetics400", f"--output={tmp_path}"]
    assert main(["export", *flags, "--views_in_graph", "--model_name=moves"]) == 0
    assert asked == {"views_in_graph": True, "model_name": "moves"}
