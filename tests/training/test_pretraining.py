"""MaskFeat as an experiment: its account, its resume, and what is fine-tuned from it."""

import csv
import json

import keras
import numpy as np
import pytest

from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.errors import UserError
from mvit_tf.training import trainer
from mvit_tf.training.experiments.clips import first_training_batch, training_clips
from mvit_tf.training.experiments.experiment import load_experiment
from mvit_tf.training.experiments.videos import training_videos
from mvit_tf.training.optimization.training_model import (
    build_training_model,
    compile_training_model,
)
from mvit_tf.training.storage.checkpoints import read_progress
from tests.training.tiny import arrays, newest_checkpoint, write_videos
from tests.training.two_devices import run_on_two_devices

CONFIG = """\
model:
  name: mvitv2_s_16x4
  input_shape: [4, 64, 64, 3]
  overrides: {{depths: [1, 1, 1, 1], embed_dim: 8, drop_path_rate: 0.1, {model}}}
data: {{train: {videos}, sampling_rate: 2, short_side: 64, scale: [0.5, 1.0], {data}}}
train: {{epochs: 2, batch_size: 8, learning_rate: 1e-3}}
{pretraining}
"""


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = write_videos(tmp_path_factory.mktemp("videos"))
    (root / "up" / "deeper").mkdir()
    (root / "up" / "deeper" / "zero.mp4").write_bytes(b"")
    return root


@pytest.fixture(scope="module")
def config(tmp_path_factory, videos):
    path = tmp_path_factory.mktemp("config") / "pretraining.yaml"
    text = CONFIG.format(
        videos=videos,
        model="last_query_stride: [1, 1, 1]",
        data="random_erasing: 0.25",
        pretraining="pretraining: {method: maskfeat}",
    )
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory, config):
    directory = tmp_path_factory.mktemp("straight")
    trainer.run(mode="train", model_dir=directory, config_file=config)
    return directory


def test_a_model_directory_of_a_pretraining(trained):
    with open(trained / "train_log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "loss", "learning_rate"]
    losses = [float(row["loss"]) for row in rows]
    assert 0 < losses[1] < losses[0] < 1
    entries = [json.loads(line) for line in (trained / "outcomes.jsonl").read_text().splitlines()]
    assert [entry["clips"] for entry in entries if "clips" in entry] == [32, 32]
    replaced = {entry["outcome"] for entry in entries if "replaced_by" in entry}
    assert replaced <= {"empty_file"}
    assert read_progress(newest_checkpoint(trained)).best_epoch == 2
    assert not (trained / "labels.txt").exists()
    assert (trained / "plots" / "training_curves.png").is_file()
    for mode in ("eval", "export"):
        with pytest.raises(
            UserError, match="is of a pre-training .* fine-tune from it: model.init"
        ):
            trainer.run(mode=mode, model_dir=trained)


def test_a_resumed_pretraining_ends_with_the_same_bits(tmp_path, config, trained):
    trainer.run(
        mode="train",
        model_dir=tmp_path,
        config_file=config,
        overrides="train.save_every_steps=3,train.keep_checkpoints=9",
    )
    # As if killed after the third step, and again after the seventh.
    for kept in (3, 7):
        for path in (tmp_path / "checkpoints").iterdir():
            if path.name != f"step-{kept:08d}.weights.h5":
                path.unlink()
        trainer.run(mode="train", model_dir=tmp_path, overrides="train.keep_checkpoints=9")
        straight, resumed = (arrays(newest_checkpoint(run)) for run in (trained, tmp_path))
        weights = [name for name in straight if name.startswith(("layers/", "optimizer/"))]
        assert len(weights) > 100
        for name in weights:
            np.testing.assert_array_equal(resumed[name], straight[name], err_msg=name)
    log = (tmp_path / "train_log.csv").read_text()
    assert log == (trained / "train_log.csv").read_text()


def test_batches_are_the_same_from_any_step_and_on_any_machine(config):
    experiment = load_experiment(config, "data.repeated_augmentation=2")
    videos = training_videos(experiment)

    def batches(**options):
        made = training_clips(experiment, videos, ledger=OutcomeLedger(), workers=None, **options)
        return list(made.take(2).as_numpy_iterator())

    whole, later = batches(start_step=2), batches(start_step=3)
    shards = [batches(start_step=2, shard=(index, 2)) for index in range(2)]
    (inputs, targets), (again, targets_again) = whole[1], later[0]
    np.testing.assert_array_equal(inputs["mask"], again["mask"])
    np.testing.assert_array_equal(targets, targets_again)
    assert (inputs["mask"].shape, targets.shape) == ((8, 2, 2, 2), (8, 32, 109))
    # The first machine takes the outer videos, the second those between.
    clips = [0, 1, 6, 7, 2, 3, 4, 5]
    masks = np.concatenate([shard[0][0]["mask"] for shard in shards])
    np.testing.assert_array_equal(masks, whole[0][0]["mask"][clips])
    np.testing.assert_array_equal(np.concatenate([s[0][1] for s in shards]), whole[0][1][clips])
    shown, labels, class_names = first_training_batch(load_experiment(config))
    assert (labels.shape, class_names) == ((8, 0), ())
    assert 0.1 < (shown == 0).all(axis=-1).mean() < 0.9


@pytest.mark.slow
def test_parts_of_a_batch_make_nearly_the_step_of_the_whole(config):
    norms = []
    for parts in (1, 2):
        experiment = load_experiment(
            config,
            f"train.gradient_accumulation_steps={parts},model.overrides.drop_path_rate=0",
        )
        ledger = OutcomeLedger()
        batches = training_clips(
            experiment, training_videos(experiment), ledger=ledger, workers=None
        )
        keras.utils.set_random_seed(0)
        model = build_training_model(experiment, 0)
        compile_training_model(model, experiment, steps=1)
        norms.append(model.fit(batches.take(1), verbose=0).history)
    # Equal but for clips of which other shares are masked.
    assert norms[1]["loss"] == pytest.approx(norms[0]["loss"], rel=1e-2)
    assert norms[1]["gradient_norm"] == pytest.approx(norms[0]["gradient_norm"], rel=5e-2)


@pytest.mark.slow
def test_two_devices_pretrain(tmp_path, config):
    result = run_on_two_devices(
        f"""
        from mvit_tf.training import trainer
        trainer.run(mode="train", model_dir={str(tmp_path)!r}, config_file={str(config)!r},
                    overrides="train.devices=2,train.epochs=1")
        result = open({str(tmp_path / "train_log.csv")!r}).read()
        """
    )
    assert 0 < float(result.splitlines()[1].split(",")[1]) < 1


def test_a_classifier_is_fine_tuned_from_it(tmp_path, videos, trained, caplog, capsys):
    config = tmp_path / "finetune.yaml"
    text = CONFIG.format(
        videos=videos,
        model="readout: mean_before_norm, head_init_scale: 0.001",
        data="nested: true",
        pretraining="",
    )
    config.write_text(text)
    given = f"model.initial_weights={trained},train.epochs=1"
    with pytest.raises(UserError, match="of a pre-training, .* model.reset_head=true"):
        trainer.run(mode="train", model_dir=tmp_path / "run", config_file=config, overrides=given)
    trainer.run(
        mode="train",
        model_dir=tmp_path / "run",
        config_file=config,
        overrides=f"{given},model.reset_head=true,train.learning_rate=1e-9,"
        "train.end_learning_rate=0,train.warmup_start_learning_rate=0",
    )
    said = capsys.readouterr().out
    assert "fresh    norm/gamma" in said and "left out mask_token/token" in said
    before, after = arrays(newest_checkpoint(trained)), arrays(newest_checkpoint(tmp_path / "run"))
    name = "layers/patch_embedding/vars/0"
    np.testing.assert_allclose(after[name], before[name], atol=1e-6)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("data.validation_fraction=0.2", "data.validation_fraction=0.2 is about classes"),
        (
            "data.validation_fraction=0.2,train.probe=true",
            "data.validation_fraction=0.2, train.probe=True are about classes, and "
            "pretraining.method=maskfeat learns without labels; set "
            "data.validation_fraction=0,train.probe=false",
        ),
        (
            "pretraining.method=null,pretraining.mask_ratio=0.5",
            "pretraining.mask_ratio=0.5 has no effect without pretraining.method=maskfeat",
        ),
        ("data.mixup_alpha=0.8", "learns without labels; set data.mixup_alpha=0"),
        ("train.lora_rank=4", "set train.lora_rank=null"),
        ("pretraining.mask_window=[2,3,3]", "pretraining: mask_window=(2, 3, 3) must be (T, H, W)"),
        ("pretraining.mask_ratio=0.01", "pretraining: mask_ratio=0.01 of 8 places masks 0"),
        ("pretraining.mask_ratio=1.5", "pretraining.mask_ratio must be less than 1.0, got 1.5"),
        ("pretraining.method=mae", "pretraining.method must be one of maskfeat, got 'mae'"),
        ("model.name=mvitv2_s,model.input_shape=null,data.evaluation_clips=1", "video models"),
    ],
)
def test_what_makes_no_sense_with_it_is_named(config, overrides, message):
    with pytest.raises(UserError) as refusal:
        load_experiment(config, overrides)
    assert message in str(refusal.value)
