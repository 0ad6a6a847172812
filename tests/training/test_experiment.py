"""What an experiment file may say, and what it is told when it says something else."""

from pathlib import Path

import pytest

from mvit_tf.errors import UserError
from mvit_tf.training.experiment import flat_items, load_experiment, save_experiment

CONFIGS = Path(__file__).parents[2] / "configs"


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
        "train.epochs=3,model.input_shape=[8,64,96],model.overrides.embed_dim=32,"
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
        ("model.name=mvit_b_16", "mvit_b_16 is an image model"),
        ("model.input_shape=[8,65,64]", "model.input_shape H = 65 must be a multiple of 4"),
        ("train.epochs=many", "train.epochs must be of type int, got 'many'"),
        ("train.epochs=2.5", "train.epochs must be of type int, got 2.5"),
        ("train.epochs=0", "train.epochs must be at least 1, got 0"),
        ("train.learning_rate=-1", "train.learning_rate must be greater than 0.0, got -1.0"),
        ("train.dtype=mixed_float16", "train.dtype must be one of float32, mixed_bfloat16"),
        ("data.flip=1", "data.flip must be of type bool, got 1"),
        ("data.mean=[1,2]", "data.mean must be a list of 3 float values, got [1, 2]"),
        ("data.evaluation_crops=2", "data.evaluation_crops must be one of 1, 3, got 2"),
        ("data.short_side=100", "short_side 100 is smaller than the crop (224, 224)"),
        ("data.scale=[0.9,0.1]", "scale"),
        ("data.validation=/x,data.validation_fraction=0.2", "both set; keep one"),
        ("train.epochs=3,train.warmup_epochs=3", "warmup_epochs=3 must be less than"),
        ("train.end_learning_rate=1", "must not exceed train.learning_rate=0.0001"),
        ("{train: {epochs: 3, epochs: 4}}", "key 'epochs' is given twice"),
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
