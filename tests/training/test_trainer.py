"""The modes of train.py on real videos: evaluation, export, fine-tuning."""

import csv
import json
import os
import shutil

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from mvit_tf.cli.main import main
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.errors import UserError
from mvit_tf.training import trainer
from mvit_tf.training.evaluation import scoring
from mvit_tf.training.experiments.clips import first_training_batch, training_clips
from mvit_tf.training.experiments.experiment import load_experiment
from mvit_tf.training.experiments.videos import labelled_videos, train_and_validation
from mvit_tf.training.loop import callbacks
from mvit_tf.training.storage import trained_model
from mvit_tf.training.storage.checkpoints import read_progress
from tests.training.tiny import arrays, newest_checkpoint, write_config, write_videos
from tests.training.two_devices import run_on_two_devices


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = write_videos(tmp_path_factory.mktemp("videos"))
    (root / "up" / "zero.mp4").write_bytes(b"")
    return root


@pytest.fixture(scope="module")
def config(tmp_path_factory, videos):
    return write_config(tmp_path_factory.mktemp("config") / "tiny.yaml", videos)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, config):
    """A model directory after four uninterrupted epochs."""
    directory = tmp_path_factory.mktemp("straight")
    trainer.run(mode="train", model_dir=directory, config_file=config)
    return directory


def log_rows(directory):
    with open(directory / "train_log.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_model_directory_holds_what_the_readme_says(trained):
    names = {path.relative_to(trained).as_posix() for path in trained.rglob("*")}
    assert {
        "experiment.yaml",
        "labels.txt",
        "split.csv",
        "checkpoints/best.weights.h5",
        "checkpoints/step-00000009.weights.h5",
        "checkpoints/step-00000012.weights.h5",
        "train_log.csv",
        "outcomes.jsonl",
        "tensorboard/train",
        "plots/training_curves.png",
    } <= names
    rows = log_rows(trained)
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    # One epoch of three steps of warm-up to 1e-3, then a cosine to 1e-6.
    assert float(rows[0]["learning_rate"]) == pytest.approx(1e-3, rel=1e-5)
    assert float(rows[3]["learning_rate"]) == pytest.approx(1e-6, rel=1e-3)
    assert all(np.isfinite(float(row["val_loss"])) for row in rows)
    outcomes = (trained / "outcomes.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in outcomes]
    totals = [entry for entry in entries if "clips" in entry]
    assert [total["clips"] for total in totals] == [24] * 4
    replaced = [entry for entry in entries if "replaced_by" in entry]
    assert len(replaced) == sum(total["replaced"] for total in totals) > 0
    assert {entry["outcome"] for entry in replaced} == {"empty_file"}
    assert read_progress(newest_checkpoint(trained)).epoch == 4


def test_evaluation_and_export_use_the_best_weights(trained):
    trainer.run(mode="eval", model_dir=trained)
    report = json.loads((trained / "evaluation.json").read_text())
    assert (report["num_videos"], report["num_decoded"], report["clips"]) == (8, 8, 2)
    assert sum(map(sum, report["confusion_matrix"])) == 8
    assert report["epoch"] == read_progress(trained / "checkpoints" / "best.weights.h5").epoch
    assert (trained / "plots" / "confusion_matrix.png").read_bytes().startswith(b"\x89PNG")

    trainer.run(mode="eval", model_dir=trained, overrides="data.shuffle_frames=true")
    shuffled = json.loads((trained / "evaluation_shuffled_frames.json").read_text())
    assert shuffled["frames_shuffled"]
    assert shuffled["loss"] != report["loss"]
    assert json.loads((trained / "evaluation.json").read_text()) == report

    trainer.run(mode="export", model_dir=trained)
    served = tf.saved_model.load(str(trained / "export" / "1")).signatures["serving_default"]
    output = served(frames=tf.zeros([1, 4, 48, 48, 3], tf.uint8))
    assert output["probabilities"].shape == (1, 8)
    names = (trained / "labels.txt").read_text().split()
    assert [name.decode() for name in output["classes"].numpy()[0]] == names


@pytest.mark.parametrize("mode", ["eval", "export"])
def test_a_training_that_goes_on_beside_is_not_mixed_in(
    tmp_path, monkeypatch, capsys, trained, mode
):
    """The weights are those of the epoch that is reported, not of the next one's checkpoint."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    best = run / "checkpoints" / "best.weights.h5"
    epoch, head = read_progress(best).epoch, arrays(best)["layers/dense/vars/1"]
    newer = tmp_path / "newer.weights.h5"
    shutil.copy(best, newer)
    with h5py.File(newer, "a") as file:
        file["layers/dense/vars/1"][...] = head + 1
        progress = json.loads(file["mvit_tf"].attrs["progress"])
        file["mvit_tf"].attrs["progress"] = json.dumps({**progress, "epoch": epoch + 1})
    module, name = {
        "eval": (scoring, "build_training_model"),
        "export": (trained_model, "MViT"),
    }[mode]
    build, models = getattr(module, name), []

    def built_while_training_saved(*arguments, **options):
        models.append(build(*arguments, **options))
        os.replace(newer, best)
        return models[-1]

    monkeypatch.setattr(module, name, built_while_training_saved)
    trainer.run(mode=mode, model_dir=run)
    assert f"epoch {epoch} " in capsys.readouterr().out
    assert read_progress(best).epoch == epoch + 1
    np.testing.assert_array_equal(models[0].get_layer("head").bias, head)


def test_options_of_speed_and_memory_train_to_the_same_weights(tmp_path, config):
    fixed = (
        "train.epochs=1,train.warmup_epochs=0,data.validation_fraction=0,"
        "model.overrides.drop_path_rate=0,model.overrides.head_dropout_rate=0"
    )
    weights = {}
    for option in ("remat=false", "remat=true", "jit_compile=true", "steps_per_execution=4"):
        directory = tmp_path / option
        overrides = f"{fixed},train.{option}"
        trainer.run(mode="train", model_dir=directory, config_file=config, overrides=overrides)
        weights[option] = arrays(newest_checkpoint(directory))
    plain = weights["remat=false"]
    assert plain["optimizer/vars/0"] == 4
    for option, other in weights.items():
        assert other["optimizer/vars/0"] == 4
        for name in ("layers/dense/vars/0", "layers/patch_embedding/vars/0"):
            np.testing.assert_allclose(other[name], plain[name], atol=2e-4, err_msg=option)


AUGMENTED = (
    "data.rand_augment=rand-m7-n4-mstd0.5-inc1,data.color_jitter=0.4,data.random_erasing=0.25,"
    "data.mixup_alpha=0.8,data.cutmix_alpha=1.0,train.epochs=3"
)


def test_a_resumed_run_sees_the_clips_of_an_uninterrupted_one(config):
    experiment = load_experiment(config, AUGMENTED)
    training, _ = train_and_validation(experiment, labelled_videos(experiment), saved=None)

    def batches(start_step):
        made = training_clips(
            experiment, training, start_step=start_step, ledger=OutcomeLedger(), workers=None
        )
        assert [spec.shape for spec in made.element_spec] == [(8, 4, 32, 32, 3), (8, 8)]
        return list(made.as_numpy_iterator())

    whole, resumed = batches(0), batches(7)
    assert len(whole) == 9 and len(resumed) == 2
    for (clips, labels), (again, labels_again) in zip(whole[7:], resumed, strict=True):
        np.testing.assert_array_equal(again, clips)
        np.testing.assert_array_equal(labels_again, labels)
    # Of clips of two classes, as two of one class still add up to 1.
    weights = [labels.max(axis=1).min() for _, labels in whole]
    assert len(set(weights)) == 9 and max(weights) < 1
    clips, labels, class_names = first_training_batch(experiment)
    np.testing.assert_array_equal(clips, whole[0][0])
    np.testing.assert_array_equal(labels, whole[0][1])
    assert class_names == training.class_names


def test_mixing_needs_two_clips(config):
    experiment = load_experiment(config, "data.mixup_alpha=0.8,train.batch_size=1")
    with pytest.raises(UserError, match="train.batch_size must be at least 2"):
        first_training_batch(experiment)


def test_one_class_only_is_refused(tmp_path, config, videos):
    one = tmp_path / "videos"
    shutil.copytree(videos / "down", one / "down")
    with pytest.raises(UserError, match="one class only, 'down': .* add videos of at least one"):
        trainer.run(
            mode="train", model_dir=tmp_path / "run", config_file=config,
            overrides=f"data.train={one},train.batch_size=2,train.epochs=2",
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_what_was_held_out_stays_so_when_the_videos_change(tmp_path, capsys):
    """Added and removed videos would otherwise deal the split anew."""
    videos = write_videos(tmp_path / "videos")
    (videos / "up" / "notes.txt").touch()
    config, run = write_config(tmp_path / "tiny.yaml", videos), tmp_path / "run"
    options = "train.warmup_epochs=0,train.epochs="
    trainer.run(mode="train", model_dir=run, config_file=config, overrides=options + "1")
    said = "".join(capsys.readouterr())
    assert "classes     3 (up_right) to 3 (down) videos a class, median 3" in said
    assert "passed over 1 entries beside the videos (1 unknown extension .txt); first: " in said
    assert "warning: 8 of 8 classes with fewer than 5 videos: " in said
    split = (run / "split.csv").read_text()
    held_out = [row["path"] for row in csv.DictReader(split.splitlines())
                if row["split"] == "validation"]  # fmt: skip
    assert len(held_out) == 8

    trained_on = sorted(set(map(str, videos.rglob("*.mp4"))) - set(held_out))
    os.remove(trained_on[0])
    for name in ("a", "z"):
        shutil.copy(held_out[0], videos / "down" / f"{name}.mp4")
    with pytest.raises(UserError, match="not those that training began with: 2 videos .* are new"):
        trainer.run(mode="train", model_dir=run, overrides="train.epochs=2")
    trainer.run(
        mode="train_and_eval", model_dir=run, overrides="train.epochs=2,data.allow_changed=true"
    )
    said = "".join(capsys.readouterr())
    assert f"changed     2 videos to train on are new: {videos}/down/a.mp4" in said
    assert f"changed     1 videos to train on are gone: {trained_on[0]}" in said
    assert "warning: 1 files are in training and in validation" in said
    rows = list(csv.DictReader((run / "split.csv").read_text().splitlines()))
    assert [row["path"] for row in rows if row["split"] == "validation"] == held_out
    training = {row["path"] for row in rows if row["split"] == "train"}
    assert trained_on[0] not in training and f"{videos}/down/a.mp4" in training
    trainer.run(mode="train", model_dir=run)  # It is allowed by now.
    assert "nothing to train: 2 of 2 epochs are done" in "".join(capsys.readouterr())
    report = json.loads((run / "evaluation.json").read_text())
    assert report["num_videos"] == report["num_decoded"] == 8

    shutil.copy(held_out[1], held_out[0])
    for mode in ("eval", "train"):
        with pytest.raises(UserError, match=f"1 videos held out in .*{held_out[0]} .changed"):
            trainer.run(mode=mode, model_dir=run, overrides="train.epochs=3")
    # A list of its own is another matter, and so is a directory that kept none.
    own = f"data.validation={run}/split.csv,data.validation_split=validation"
    trainer.run(mode="eval", model_dir=run, overrides=own)
    assert json.loads((run / "evaluation.json").read_text())["num_videos"] == 8
    (run / "split.csv").unlink()
    trainer.run(mode="eval", model_dir=run)


def test_initial_weights_bring_no_optimizer(tmp_path, config, trained):
    """The schedule and the moments of the other training are over."""
    trainer.run(
        mode="train", model_dir=tmp_path, config_file=config,
        overrides=f"train.epochs=1,train.warmup_epochs=0,model.initial_weights={trained}",
    )  # fmt: skip
    saved = arrays(newest_checkpoint(tmp_path))
    assert saved["optimizer/vars/0"] == 3  # its iterations: one epoch
    before = arrays(trained / "checkpoints" / "best.weights.h5")
    change = saved["layers/dense/vars/0"] - before["layers/dense/vars/0"]
    assert 0 < np.abs(change).max() < 0.01


@pytest.mark.parametrize(
    ("mode", "overrides", "message"),
    [
        ("train", "train.batch_size=4", r"another experiment: train.batch_size \(8 there, 4 now\)"),
        ("train", "model.overrides.depths=[1,2],data.seed=3", r"overrides.depths \(.*, data.seed"),
        ("eval", "data.short_side=40", r"data.short_side \(36 there, 40 now\)"),
        ("export", "data.sampling_rate=3", r"data.sampling_rate \(2.0 there, 3.0 now\)"),
        ("eval", "data.seed=5", r"data.seed \(0 there, 5 now\)"),
    ],
)
def test_another_experiment_in_a_model_directory_is_refused(trained, mode, overrides, message):
    with pytest.raises(UserError, match=message):
        trainer.run(mode=mode, model_dir=trained, overrides=overrides)


def test_fine_tuning_takes_all_but_the_head(tmp_path, config, trained):
    three = write_videos(tmp_path / "videos")
    for name in ("up", "up_left", "up_right", "down_left", "down_right"):
        for video in (three / name).iterdir():
            video.unlink()
        (three / name).rmdir()
    weights = (
        f"data.train={three},train.epochs=1,train.warmup_epochs=0,model.initial_weights={trained}"
    )
    with pytest.raises(UserError, match="was trained on 8 classes, the model has 3.*reset_head"):
        trainer.run(
            mode="train", model_dir=tmp_path / "tuned", config_file=config, overrides=weights
        )
    # The refused run leaves nothing behind that stands in the way of the right one.
    trainer.run(
        mode="train",
        model_dir=tmp_path / "tuned",
        config_file=config,
        overrides=weights + ",model.reset_head=true,train.learning_rate=1e-9,"
        "train.warmup_start_learning_rate=0,train.end_learning_rate=0,train.weight_decay=0",
    )
    tuned = arrays(newest_checkpoint(tmp_path / "tuned"))
    before = arrays(trained / "checkpoints" / "best.weights.h5")
    patches = "layers/patch_embedding/vars/0"
    np.testing.assert_allclose(tuned[patches], before[patches], atol=1e-7)
    assert tuned["layers/dense/vars/0"].shape[1] == 3


def test_too_many_damaged_videos_end_the_run(tmp_path, config):
    with pytest.raises(UserError, match=r"zero.mp4 \(empty_file"):
        trainer.run(
            mode="train",
            model_dir=tmp_path,
            config_file=config,
            overrides="data.max_failure_share=0.01,data.validation_fraction=0",
        )
    assert not (tmp_path / "checkpoints").exists()


def test_two_devices_train_to_the_weights_of_one(tmp_path, config):
    """Without dropout, whose random numbers each replica draws for itself."""
    distances = run_on_two_devices(
        f"""
        import h5py
        import numpy as np
        from mvit_tf.training import trainer

        def weights(devices):
            directory = "{tmp_path}/" + str(devices)
            trainer.run(mode="train", model_dir=directory, config_file="{config}", overrides=(
                "train.epochs=1,train.warmup_epochs=0,data.validation_fraction=0,"
                "model.overrides.depths=[1],model.overrides.head_dropout_rate=0,"
                f"train.devices={{devices}}"))
            with h5py.File(directory + "/checkpoints/step-00000004.weights.h5") as file:
                return [file["layers/dense/vars/0"][()], file["layers/patch_embedding/vars/0"][()]]

        two, one = weights(2), weights(1)
        result = [float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(two, one)]
        """
    )
    assert max(distances) < 1e-3


def test_mixed_bfloat16_and_more_epochs_on_a_resumed_run(tmp_path, config, capsys):
    options = "train.dtype=mixed_bfloat16,train.warmup_epochs=0,train.epochs="
    trainer.run(mode="train", model_dir=tmp_path, config_file=config, overrides=options + "1")
    assert "mixed_bfloat16" in capsys.readouterr().out
    assert keras.config.dtype_policy().name == "float32"
    assert arrays(newest_checkpoint(tmp_path))["layers/dense/vars/0"].dtype == "f4"

    trainer.run(mode="train", model_dir=tmp_path, config_file=config, overrides=options + "2")
    output = capsys.readouterr().out
    assert "changed     train.epochs: 1 -> 2" in output
    assert "resuming    after epoch 1" in output
    assert read_progress(newest_checkpoint(tmp_path)).epoch == 2
    trainer.run(mode="train", model_dir=tmp_path)
    assert "nothing to train: 2 of 2 epochs are done" in capsys.readouterr().out


def test_a_multi_label_set_is_trained_evaluated_exported_and_predicted(tmp_path, videos, capsys):
    """Directions as two labels, one of them with times; several clips of a video in a batch."""
    rows = ["path,actions"]
    for path in sorted(videos.glob("*/*.mp4")):
        if path.parent.name in ("up", "down", "up_left", "left"):
            parts = [f"{part} 0.1 0.5" for part in path.parent.name.split("_")]
            rows.append(f"{path},{';'.join(parts)}")
    listed = tmp_path / "list.csv"
    listed.write_text("\n".join(rows) + "\n")
    trainer.run(
        mode="train_and_eval",
        model_dir=tmp_path / "run",
        config_file=write_config(tmp_path / "multi.yaml", listed),
        overrides="data.multi_label=true,data.repeated_augmentation=2,data.ensemble_method=max,"
        "data.mixup_alpha=0.8,data.balanced_sampling=true,data.max_failure_share=0.2,"
        "data.decode_workers=0,train.epochs=1,train.warmup_epochs=0,train.batch_size=4",
    )
    said = capsys.readouterr().out
    assert "evaluated   mAP " in said and "% mAP on validation" in said
    (row,) = log_rows(tmp_path / "run")
    assert list(row) == ["epoch", *callbacks.EpochLog.MULTI_LABEL_COLUMNS] and all(row.values())
    best = read_progress(tmp_path / "run" / "checkpoints" / "best.weights.h5")
    report = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert [entry["name"] for entry in report["per_class"]] == ["down", "left", "up"]
    assert 0 < report["mean_average_precision_of_decoded"] <= 1
    assert float(row["val_mean_average_precision"]) == pytest.approx(best.best_accuracy)
    assert (tmp_path / "run" / "plots" / "average_precision.png").read_bytes()[1:4] == b"PNG"

    trainer.run(mode="export", model_dir=tmp_path / "run")
    video = str(next(videos.glob("left/*.mp4")))
    capsys.readouterr()
    for model in ("run", "run/export"):
        assert main(["predict", "--json", "--threshold", "0", str(tmp_path / model), video]) == 0
    of_run, of_export = map(json.loads, capsys.readouterr().out.splitlines())
    assert of_run["probabilities"] == pytest.approx(of_export["probabilities"], abs=1e-4)
    assert set(of_run["classes"]) == {"down", "left", "up"}
    assert sum(of_run["probabilities"].values()) != pytest.approx(1, abs=1e-3)
    assert main(["predict", "--threshold", "1", str(tmp_path / "run"), video]) == 0
    assert capsys.readouterr().out.startswith(f"{video}: no class at 100% or more; the nearest are")
    with pytest.raises(UserError, match=r"data.multi_label \(True there, False now\)"):
        trainer.run(mode="eval", model_dir=tmp_path / "run", overrides="data.multi_label=false")
