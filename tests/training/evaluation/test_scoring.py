"""What an evaluation leaves behind, and that it gives the same numbers each time."""

import json

import numpy as np
import pytest
from matplotlib.image import imread

from mvit_tf.cli.main import main
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.errors import UserError
from mvit_tf.training import trainer
from mvit_tf.training.evaluation import scoring
from mvit_tf.training.evaluation.saved_views import SavedViews
from mvit_tf.training.experiments.clips import decode_workers
from mvit_tf.training.experiments.experiment import load_experiment
from mvit_tf.training.optimization.training_model import build_training_model
from mvit_tf.training.storage.model_directory import ModelDirectory
from tests.training.tiny import write_config, write_videos


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A model directory after one epoch; one of the held-out videos is empty."""
    root = tmp_path_factory.mktemp("scoring")
    config = write_config(root / "tiny.yaml", write_videos(root / "videos"))
    options = (
        "train.epochs=1,train.warmup_epochs=0,train.learning_rate=1e-2,data.validation=null,"
        "data.decode_workers=0,data.max_failure_share=0.5"
    )
    trainer.run(mode="train", model_dir=root / "run", config_file=config, overrides=options)
    listed = root / "run" / "list.csv"
    held_out = ModelDirectory(root / "run").saved_split().validation
    rows = [
        f"{path},{held_out.class_names[label]}"
        for path, label in zip(held_out.paths, held_out.labels, strict=True)
    ]
    (root / "empty.mp4").touch()
    rows.append(f"{root}/empty.mp4,up")
    listed.write_text("\n".join(["path,label", *rows]) + "\n")
    return root / "run"


def evaluate(run, **data):
    """(evaluation.json, SavedViews) of an evaluation with these keys of `data`."""
    data = {"validation": str(run / "list.csv"), "validation_fraction": 0, **data}
    trainer.run(mode="eval", model_dir=run, overrides=json.dumps({"data": data}))
    report = json.loads((run / "evaluation.json").read_text())
    return report, SavedViews.load(run / "evaluation_views.npz")


def test_an_evaluation_gives_the_same_bits_whatever_decodes(run):
    reports = []
    for options in ({"decode_threads": 1}, {"decode_threads": 3, "decode_workers": 2}):
        report, views = evaluate(run, evaluation_clips=2, **options)
        reports.append((report, views.probabilities, views.video))
    (first, probabilities, video), (report, other, other_video) = reports
    assert first["num_decoded"] == 8 and len(probabilities) == 16
    assert report == first
    np.testing.assert_array_equal(other, probabilities)
    np.testing.assert_array_equal(other_video, video)


def test_validation_in_training_gives_the_same_numbers_each_time(run):
    videos, model, losses = ModelDirectory(run).saved_split().validation, None, []
    for threads, workers in ((1, 0), (4, 2)):
        options = f"data.decode_threads={threads},data.decode_workers={workers}"
        experiment = load_experiment(run / "experiment.yaml", options)
        model = model or build_training_model(experiment, 8)
        with decode_workers(experiment) as pool:
            validate = scoring.validator(experiment, model, videos, None, OutcomeLedger(), pool)
            losses += [validate().loss, validate().loss]
    assert losses == [losses[0]] * 4


def test_an_evaluation_leaves_a_line_pictures_and_views_to_score_in_other_groupings(run, capsys):
    report, views = evaluate(run, evaluation_clips=3, evaluation_crops=3)
    for name in ("per_class_accuracy", "confusion_matrix", "worst_mistakes"):
        assert imread(run / "plots" / f"{name}.png").shape[2] == 4
    for name in ("loss", "top1_of_all", "confusion_matrix", "missing", "per_class"):
        assert getattr(views.report(), name) == report[name]
    said = capsys.readouterr()
    top1, top5 = views.report().top1_of_decoded, views.report().top5_of_decoded
    assert said.out.splitlines()[-1] == (
        f"result      mvit_s_16x4 on list.csv: top-1 {top1:.1%} top-5 {top5:.1%}, "
        "3 clips x 3 crops of 9 videos (1 missing), epoch 1"
    )
    output = run / "other.json"
    command = ["score-views", str(run), "--clips=1", "--crops=1", "--ensemble_method=max"]
    assert main([*command, f"--output={output}"]) == 0
    one = views.report(clips=1, crops=1)
    assert f"top-1 {one.top1_of_decoded:.1%}" in capsys.readouterr().out
    written = json.loads(output.read_text())
    assert (written["loss"], written["clips"], written["crops"]) == (one.loss, 1, 1)
    assert main(["score-views", str(run), "--clips=4"]) == 2
    assert "clips=4: the evaluation had 3 of each video" in capsys.readouterr().err
    assert main(["score-views", str(run / "list.csv")]) == 2
    assert "list.csv holds no views of an evaluation" in capsys.readouterr().err
    assert main(["score-views", str(run / "plots")]) == 2
    assert "`mvit evaluate` writes it" in capsys.readouterr().err


def test_damaged_views_are_refused_in_one_line(run):
    evaluate(run)
    content = (run / "evaluation_views.npz").read_bytes()
    middle = content.index(b"probabilities.npy") + 60
    flipped = content[:middle] + bytes(255 - b for b in content[middle : middle + 40])
    for damaged in (content[: len(content) // 2], flipped + content[middle + 40 :]):
        (run / "damaged.npz").write_bytes(damaged)
        with pytest.raises(UserError, match="damaged.npz holds no views of an evaluation"):
            SavedViews.load(run / "damaged.npz")


def test_views_of_an_earlier_evaluation_do_not_stay_beside_scores_without_any(run):
    evaluate(run)
    data = {"validation": str(run / "list.csv"), "validation_fraction": 0, "save_views": False}
    # Scores of shuffled frames are of a file of their own, and so leave the views.
    trainer.run(
        mode="eval", model_dir=run, overrides=json.dumps({"data": {**data, "shuffle_frames": True}})
    )
    assert (run / "evaluation_views.npz").exists()
    trainer.run(mode="eval", model_dir=run, overrides=json.dumps({"data": data}))
    assert not (run / "evaluation_views.npz").exists()
