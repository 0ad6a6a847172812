"""What an experiment file may say, and what it is told when it says something else."""

import os
import warnings
from pathlib import Path

import pytest
import yaml
from official.modeling import hyperparams

from mvit_tf.data.preprocessing import Augmentation, Preprocessing
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.errors import UserError
from mvit_tf.training.experiments.experiment import flat_items, load_experiment, save_experiment

CONFIGS = Path(__file__).parents[3] / "configs"

SAVED_BY_0_1 = """\
model:
  name: mvit_b_16x4
  input_shape: [16, 48, 48]
  overrides:
    depths: [1, 1, 1]
    drop_path_rate: 0.0
    embed_dim: 32
    head_dropout_rate: 0.0
    readout: mean
    widen_in: attention
  initial_weights: null
  reset_head: false
data:
  train: videos/2024
  validation: null
  validation_fraction: 0.0
  root: null
  separator: null
  sampling_rate: 2.0
  target_fps: 30.0
  sampling_rule: linspace
  short_side: 48
  mean: [0.45, 0.45, 0.45]
  std: [0.225, 0.225, 0.225]
  channel_order: rgb
  scale: [0.9, 1.0]
  ratio: [1.0, 1.0]
  flip: false
  evaluation_clips: 3
  evaluation_crops: 1
  evaluation_batch_size: null
  shuffle_frames: false
  max_failure_share: 0.05
  decode_threads: null
  seed: 0
train:
  epochs: 3
  batch_size: 16
  learning_rate: 0.002
  warmup_epochs: 1.0
  warmup_start_learning_rate: 1.0e-05
  end_learning_rate: 2.0e-05
  weight_decay: 0.02
  label_smoothing: 0.1
  clip_norm: 1.0
  dtype: float32
  validate_every: 1
  devices: null
  remat: false
  jit_compile: false
  steps_per_execution: 1
  seed: 0
"""


def test_overrides_win_over_the_file_and_reach_the_objects(tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text(
        "model:\n"
        "  name: mvit_s_16x4\n"
        "  overrides: {depths: [1, 1], drop_path_rate: 0}\n"
        "data: {train: /videos, short_side: 128, mean: [0.1, 0.2, 0.3]}\n"
        "train: {epochs: 7, learning_rate: 1e-3}\n"
    )
    experiment = load_experiment(
        config,
        "train.epochs=3,model.input_shape=[8,64,96,3],model.overrides.embed_dim=32,"
        "data.train=/with space/x,data.scale=[0.5,1.0],data.sampling_rate=2,data.clip_norm=null"
        .replace("data.clip_norm", "train.clip_norm"),
    )
    assert (experiment.train.epochs, experiment.train.learning_rate) == (3, 1e-3)
    assert experiment.train.clip_norm is None
    assert experiment.data.train == "/with space/x"
    model = experiment.model_config(num_classes=5)
    assert (model.depths, model.embed_dim, model.drop_path_rate) == ((1, 1), 32, 0.0)
    assert (model.input_size, model.num_classes) == ((8, 64, 96), 5)
    assert experiment.clip_sampling().to_dict() == {
        "num_frames": 8,
        "sampling_rate": 2.0,
        "target_fps": 30.0,
        "rule": "linspace",
        "short_videos": "repeat_last",
    }
    assert experiment.preprocessing().size == (64, 96)
    assert experiment.preprocessing().mean == (0.1, 0.2, 0.3)
    assert experiment.augmentation().scale == (0.5, 1.0)


def test_yaml_overrides_equal_dotted_ones():
    dotted = load_experiment(None, "train.epochs=3,data.train=videos,data.mean=[0.1,0.2,0.3]")
    as_yaml = load_experiment(None, "{train: {epochs: 3}, data: {train: videos, mean: [.1,.2,.3]}}")
    assert dotted.as_dict() == as_yaml.as_dict()


def test_saved_experiment_is_read_back_whole(tmp_path):
    experiment = load_experiment(
        None, "model.overrides.depths=[1,2],data.validation_fraction=0.2,train.end_learning_rate=0"
    )
    save_experiment(experiment, tmp_path / "experiment.yaml")
    again = load_experiment(tmp_path / "experiment.yaml")
    assert again.as_dict() == experiment.as_dict()
    assert flat_items(again)["model.overrides"] == {"depths": [1, 2]}


def test_a_loaded_experiment_cannot_change():
    experiment = load_experiment()
    with pytest.raises(ValueError, match="locked"):
        experiment.model = None
    with pytest.raises(ValueError, match="locked"):
        experiment.train.epochs = 3


def test_sections_are_the_model_gardens_configs():
    experiment = load_experiment(None, "model.overrides.depths=[1,1]")
    assert isinstance(experiment, hyperparams.Config)
    assert isinstance(experiment.data, hyperparams.Config)
    changed = experiment.replace(train={"epochs": 5})
    assert (changed.train.epochs, experiment.train.epochs) == (5, 200)


def test_clips_are_made_by_default_as_the_data_classes_say():
    experiment = load_experiment()
    assert experiment.clip_sampling() == ClipSampling(16)
    assert experiment.preprocessing() == Preprocessing((224, 224))
    assert experiment.augmentation() == Augmentation()


TEXTS = ("2024_01_15", "007", "12:30", "2024-01-15", "no", "1e3", "0x10", ".inf", "true", "3")


@pytest.mark.parametrize("text", TEXTS)
def test_a_key_that_wants_text_keeps_what_was_written(tmp_path, text):
    config = tmp_path / "mine.yaml"
    config.write_text(f"data:\n  train: {text}\n  root: null\n")
    from_file = load_experiment(config)
    assert (from_file.data.train, from_file.data.root) == (text, None)
    for overrides in (f"data.train={text},data.root=null", f"{{data: {{train: {text}}}}}"):
        experiment = load_experiment(None, overrides)
        assert (experiment.data.train, experiment.data.root) == (text, None)
    save_experiment(experiment, tmp_path / "experiment.yaml")
    assert load_experiment(tmp_path / "experiment.yaml").data.train == os.path.abspath(text)


def test_a_quoted_value_may_hold_anything():
    overrides = "data.train='/a,b=c',data.separator=\"\\t\",data.root='null'"
    experiment = load_experiment(None, overrides)
    assert (experiment.data.train, experiment.data.separator) == ("/a,b=c", "\t")
    assert experiment.data.root == "null"


def test_numbers_may_have_an_exponent_without_a_point():
    dotted = load_experiment(None, "train.learning_rate=1e-3,train.clip_norm=2E1")
    as_yaml = load_experiment(None, "{train: {learning_rate: 1e-3, clip_norm: 2E1}}")
    for experiment in (dotted, as_yaml):
        assert (experiment.train.learning_rate, experiment.train.clip_norm) == (1e-3, 20.0)


def test_the_current_forms_are_read_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        experiment = load_experiment(None, "model.input_shape=[8,64,96,3]")
    assert experiment.clip_shape == (8, 64, 96)
    assert flat_items(experiment)["model.input_shape"] == [8, 64, 96, 3]


def test_an_experiment_saved_by_version_0_1_is_read_with_the_new_forms_named(tmp_path):
    path = tmp_path / "experiment.yaml"
    path.write_text(SAVED_BY_0_1)
    with pytest.warns(FutureWarning) as warned:
        experiment = load_experiment(path)
    assert [str(warning.message) for warning in warned] == [
        f"{path}: model.input_shape=[16, 48, 48] is now written [16, 48, 48, 3]",
        f"{path}: model.overrides.widen_in is now model.overrides.expand_in",
    ]
    before = yaml.safe_load(SAVED_BY_0_1)
    before["model"]["input_shape"].append(3)
    before["model"]["overrides"]["expand_in"] = before["model"]["overrides"].pop("widen_in")
    now = yaml.safe_load(yaml.safe_dump(flat_items(experiment)))
    saved = {f"{s}.{key}": value for s, keys in before.items() for key, value in keys.items()}
    assert now == {**flat_items(load_experiment()), **saved}  # Newer keys have their defaults.
    assert experiment.model_config(8).blocks()[1].input_dim == 32  # Expanded in attention.


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("train.epoch=3", "unknown key 'train.epoch'; did you mean 'train.epochs'?"),
        ("data.batch_size=3", "unknown key 'data.batch_size'; did you mean 'train.batch_size'?"),
        ("epochs=3", "unknown section 'epochs'; did you mean the key 'train.epochs'?"),
        ("tain.epochs=3", "unknown section 'tain'; did you mean 'train'?"),
        ("model.overrides.depth=[1]", "did you mean 'model.overrides.depths'?"),
        ("model.overrides.num_classes=3", "it follows from the classes of data.train"),
        ("model.overrides.depths=3", "model.overrides.depths must be a list of int values, got 3"),
        ("model.overrides.drop_path_rate=1.5", "drop_path_rate must be in [0, 1), got 1.5"),
        ("model.name=mvit_b16x4", "unknown model 'mvit_b16x4'; did you mean 'mvit_b_16x4'?"),
        ("model.name=mvit_b_16", "must be 1, as model.name=mvit_b_16 is an image model"),
        (
            "model.input_shape=[8,65,64,3]",
            "model.input_shape=(8, 65, 64, 3): H = 65 must be a multiple of 4",
        ),
        ("model.input_shape=[8,64]", "model.input_shape must be a list of 4 int values"),
        ("model.input_shape=[8,64,64,1]", "model.input_shape[3] must be one of 3, got 1"),
        ("train.epochs=many", "train.epochs must be of type int, got 'many'"),
        ("train.epochs=2.5", "train.epochs must be of type int, got 2.5"),
        ("train.epochs=0", "train.epochs must be at least 1, got 0"),
        ("train.learning_rate=-1", "train.learning_rate must be greater than 0.0, got -1.0"),
        ("train.dtype=mixed_float16", "train.dtype must be one of float32, mixed_bfloat16"),
        ("data.flip=1", "data.flip must be of type bool, got 1"),
        ("data.rand_augment=rand-m7", "data.rand_augment='rand-m7' must start with 'rand'"),
        ("data.random_erasing=2", "data.random_erasing must be at most 1.0, got 2.0"),
        ("data.mixup_alfa=1", "did you mean 'data.mixup_alpha'?"),
        ("data.mean=[1,2]", "data.mean must be a list of 3 float values, got [1, 2]"),
        ("data.evaluation_crops=2", "data.evaluation_crops must be one of 1, 3, got 2"),
        ("data.short_side=100", "short_side 100 is smaller than the crop (224, 224)"),
        ("data.scale=[0.9,0.1]", "scale"),
        ("data.validation=/x,data.validation_fraction=0.2", "both set; keep one"),
        ("train.epochs=3,train.warmup_epochs=3", "warmup_epochs=3 must be less than"),
        ("train.end_learning_rate=1", "must not exceed train.learning_rate=0.0001"),
        ("{train: {epochs: 3, epochs: 4}}", "key 'epochs' is given twice"),
        ("train.epochs=3,train.epochs=4", "key 'train.epochs' is given twice"),
        ("train.epochs=true", "train.epochs must be of type int, got True"),
        ("{train: {epochs: '3'}}", "train.epochs must be of type int, got '3'"),
        ("train.learning_rate=.inf", "train.learning_rate must be a finite number, got inf"),
        ("train.learning_rate=.nan", "train.learning_rate must be a finite number, got nan"),
        ("train.learning_rate=inf", "train.learning_rate must be of type float, got 'inf'"),
        ("train.learning_rate=1e999", "train.learning_rate must be a finite number, got inf"),
        ("train.ema_decay=1.0", "train.ema_decay must be less than 1.0, got 1.0"),
        ("train.layer_decay=0", "train.layer_decay must be greater than 0.0, got 0.0"),
        ("train.class_weights=even", "train.class_weights must be one of balanced, got 'even'"),
        ("train.base_batch_size=x", "train.base_batch_size must be of type int, got 'x'"),
        ("train.gradient_accumulation_steps=3", "train.batch_size=8 must be a multiple of"),
        ("data.multi_label=true,train.class_weights=balanced", "with data.multi_label leave it"),
        ("data.balanced_sampling=true,train.class_weights=balanced", "are both set; keep one"),
        ("data.std=[.nan,1,1]", "data.std[0] must be a finite number, got nan"),
        ("model.overrides.mlp_ratio=.nan", "overrides.mlp_ratio must be a finite number, got nan"),
        ("model.overrides.qkv_bias=maybe", "model.overrides.qkv_bias must be of type bool"),
        ("data.std=[1,0,1]", "data.std[1] must be greater than 0.0, got 0.0"),
        ("data.default_params=1", "unknown key 'data.default_params'"),
        ("data.train=/videos/a,b", "a value with a comma is quoted: data.train='/videos/a,b'"),
        ("nonsense", "is neither 'section.key=value,...' nor YAML"),
        ("train=3", "section 'train' must hold keys, got 3"),
    ],
)
def test_refusals_name_the_key_the_value_and_the_source(overrides, message):
    with pytest.raises(UserError) as refusal:
        load_experiment(None, overrides)
    assert message in str(refusal.value)
    assert "--params_override" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_refusals_of_a_file_name_the_file(tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text("train:\n  lerning_rate: 1e-3\n")
    with pytest.raises(UserError, match="mine.yaml: unknown key 'train.lerning_rate'; did you"):
        load_experiment(config)
    config.write_text("train: [\n")
    with pytest.raises(UserError, match="mine.yaml: not valid YAML: line 2, column 1: "):
        load_experiment(config)
    with pytest.raises(UserError, match="absent.yaml does not exist"):
        load_experiment(tmp_path / "absent.yaml")


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_config_loads_and_says_how_to_run_it(config):
    load_experiment(config)
    header = config.read_text().split("\n\n")[0]
    assert all(line.startswith("#") for line in header.splitlines())
    assert f"python train.py --config_file=configs/{config.name}" in header
    installed = "demo" if config.stem == "demo" else f"train --config_file={config.stem}"
    assert f"mvit {installed}" in header


def test_kinetics_config_is_the_recipe_of_the_paper():
    experiment = load_experiment(CONFIGS / "kinetics400_mvit_b_16x4.yaml")
    train = experiment.train
    assert (train.epochs, train.batch_size, train.warmup_epochs) == (200, 512, 30)
    assert (train.learning_rate, train.weight_decay, train.clip_norm) == (1.6e-3, 0.05, 1.0)
    assert (train.warmup_start_learning_rate, train.end_learning_rate) == (1.6e-5, 1.6e-5)
    assert train.label_smoothing == 0.1
    config = experiment.model_config(400)
    assert (config.drop_path_rate, config.head_dropout_rate) == (0.2, 0.5)
    assert experiment.clip_shape == (16, 224, 224)
    assert (experiment.data.evaluation_clips, experiment.data.evaluation_crops) == (5, 1)


def test_validation_videos_take_the_place_of_a_share_of_the_file(tmp_path):
    file = tmp_path / "share.yaml"
    file.write_text("data: {validation_fraction: 0.2}")
    data = load_experiment(file, "data.validation=/videos").data
    assert (data.validation, data.validation_fraction) == ("/videos", 0.0)
    with pytest.raises(UserError, match="are both set; keep one"):
        load_experiment(file, "data.validation=/videos,data.validation_fraction=0.3")


def test_paths_are_saved_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    keys = "data.train=videos,data.validation=gs://bucket/list.csv,data.root=.,data.label_map=../a"
    experiment = load_experiment(overrides=keys + ",model.initial_weights=weights")
    save_experiment(experiment, tmp_path / "experiment.yaml")
    monkeypatch.chdir("/")
    again = load_experiment(tmp_path / "experiment.yaml")
    assert again.data.train == f"{tmp_path}/videos" and again.data.root == str(tmp_path)
    assert again.data.validation == "gs://bucket/list.csv"
    assert again.data.label_map == f"{tmp_path.parent}/a"
    assert again.model.initial_weights == f"{tmp_path}/weights"
    named = load_experiment(overrides="model.initial_weights=kinetics400")
    assert flat_items(named, full_paths=True)["model.initial_weights"] == "kinetics400"


def test_a_time_limit_that_no_timer_has_is_named(tmp_path):
    with pytest.raises(UserError, match="data.decode_time_limit.*at most"):
        load_experiment(overrides="data.decode_time_limit=1e15")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("data.service='h:1',data.balanced_sampling=true", "data.service and data.balanced_samp"),
        ("data.service='h:1',data.tolerated_damage=0.1", "data.service and data.tolerated_damage"),
        (
            "data.tfds_name=a,data.validation_split=test,data.validation_fraction=0.2",
            "data.validation_split and data.validation_fraction",
        ),
    ],
)
def test_what_excludes_each_other_is_refused(overrides, message):
    with pytest.raises(UserError, match=message):
        load_experiment(None, overrides)
