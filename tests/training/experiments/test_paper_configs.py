"""The experiments of the papers: what each holds, beside the numbers of its source."""

import re
from pathlib import Path

import pytest

from mvit_tf.analysis.complexity import complexity
from mvit_tf.errors import UserError
from mvit_tf.training.experiments.experiment import load_experiment
from mvit_tf.training.storage.initial_weights import initial_weights

CONFIGS = Path(__file__).parents[3] / "configs"
NO_PAPERS = ("demo", "finetune")

# From arXiv 2104.11227, arXiv 2112.01526 and SlowFast's files: input (frames, pixels), stride of
# frames, classes, epochs, warm-up, batch, peak, weight decay, drop path, temporal and spatial
# views, million parameters, GMACs.
PUBLISHED = {
    "kinetics400_mvit_s_16x4": (16, 224, 4, 400, 200, 30, 512, 1.6e-3, 0.05, 0.2, 5, 1, 26.1, 32.9),
    "kinetics400_mvit_b_16x4": (16, 224, 4, 400, 200, 30, 512, 1.6e-3, 0.05, 0.2, 5, 1, 36.6, 70.5),
    "kinetics400_mvit_b_32x3": (32, 224, 3, 400, 200, 30, 512, 1.6e-3, 0.05, 0.3, 5, 1, 36.6, 170),
    "kinetics400_mvit_b_64x3": (64, 224, 3, 400, 5, 0, 512, 1.6e-4, 0.05, 0.3, 3, 3, 36.6, 455),
    "kinetics400_mvitv2_s_16x4": (16, 224, 4, 400, 200, 30, 512, 1.6e-3, 0.05, 0.2, 5, 1, 34.5, 64),
    "kinetics400_mvitv2_s_16x4_from_imagenet": (
        16, 224, 4, 400, 100, 15, 512, 4.8e-4, 0.05, 0.2, 5, 1, 34.5, 64,
    ),
    "kinetics400_mvitv2_s_16x4_from_maskfeat": (
        16, 224, 4, 400, 100, 20, 512, 16 * 6e-4, 0.05, 0.1, 10, 1, 36, 71,
    ),
    "kinetics400_mvitv2_b_32x3": (
        32, 224, 3, 400, 200, 30, 512, 1.6e-3, 0.05, 0.3, 5, 1, 51.2, 225,
    ),
    "kinetics400_mvitv2_l_40x3": (
        40, 312, 3, 400, 30, 0, 128, 1.6e-5, 1e-8, 0.75, 5, 3, 213.4, 2828,
    ),
    "kinetics600_mvit_b_16x4": (16, 224, 4, 600, 200, 30, 512, 1.6e-3, 0.05, 0.2, 5, 1, 36.8, 70.5),
    "kinetics600_mvit_b24_32x3": (32, 224, 3, 600, 200, 30, 512, 1.6e-3, 0.05, 0.3, 5, 1, 53, 236),
    "ssv2_mvit_b_16x4": (16, 224, None, 174, 100, 3, 512, 0.02, 1e-4, 0.4, 1, 3, 36.4, 70.5),
    "ssv2_mvitv2_s_16x4": (16, 224, None, 174, 100, 3, 128, 8 * 0.0025, 1e-4, 0.4, 1, 3, 34.4, 64),
    "ssv2_mvitv2_b_32x3": (32, 224, None, 174, 100, 3, 128, 8 * 0.0015, 1e-4, 0.4, 1, 3, 51.1, 225),
    "charades_mvit_b_16x4": (16, 224, 4, 157, 200, 4, 256, 0.6, 1e-7, 0.45, 10, 3, 36.4, 70.5),
    "imagenet_mvit_b_16": (1, 224, None, 1000, 300, 70, 2048, 8 * 2.5e-4, 0.05, 0.1, 1, 1, 37, 7.8),
    "imagenet_mvitv2_t": (1, 224, None, 1000, 300, 70, 2048, 8 * 2.5e-4, 0.05, 0.1, 1, 1, 24, 4.7),
    "imagenet_mvitv2_s": (1, 224, None, 1000, 300, 70, 2048, 8 * 2.5e-4, 0.05, 0.1, 1, 1, 35, 7.0),
    "imagenet_mvitv2_b": (1, 224, None, 1000, 300, 70, 2048, 8 * 2.5e-4, 0.05, 0.3, 1, 1, 52, 10.2),
}  # fmt: skip
# The paper's count of MViT-S is not the one that its Table 3c gives.
GMACS_OF_OUR_OWN = {"kinetics400_mvit_s_16x4": 29.95}
PRETRAINING = "kinetics400_mvitv2_s_16x4_maskfeat"


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_config_holds_the_numbers_of_its_source(name):
    (frames, pixels, stride, classes, epochs, warmup, batch, peak, decay, drop, clips, crops,
     params, gmacs) = PUBLISHED[name]  # fmt: skip
    experiment = load_experiment(CONFIGS / f"{name}.yaml")
    data, train = experiment.data, experiment.train
    config = experiment.model_config(classes)
    assert experiment.clip_shape == (frames, pixels, pixels)
    assert stride is None or (data.sampling_rate, data.sampling_rule) == (stride, "linspace")
    assert (train.epochs, train.warmup_epochs, train.batch_size) == (epochs, warmup, batch)
    assert train.base_batch_size == batch
    assert train.learning_rate == pytest.approx(peak)
    assert (train.weight_decay, config.drop_path_rate) == (decay, drop)
    assert (data.evaluation_clips, data.evaluation_crops) == (clips, crops)
    cost = complexity(config)
    assert cost.params / 1e6 == pytest.approx(params, rel=0.014)
    assert cost.macs / 1e9 == pytest.approx(GMACS_OF_OUR_OWN.get(name, gmacs), rel=0.01)
    header = (CONFIGS / f"{name}.yaml").read_text()
    assert f"{cost.macs / 1e9:.2f} GMACs forward" in header


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_command_of_the_header_says_what_may_be_said(name):
    config = CONFIGS / f"{name}.yaml"
    (overrides,) = re.findall(r"--params_override=(\S+)", config.read_text())
    experiment = load_experiment(config, overrides)
    assert experiment.data.train is not None and experiment.data.validation is not None


@pytest.mark.parametrize(
    "name",
    [
        "mvit_b_64x3",
        "mvitv2_l_40x3",
        "mvitv2_s_16x4_from_imagenet",
        "mvitv2_s_16x4_from_maskfeat",
    ],
)
def test_a_fine_tuning_without_the_weights_it_starts_from_ends_in_a_line(name):
    config = CONFIGS / f"kinetics400_{name}.yaml"
    experiment = load_experiment(config, "data.train=/data/k400/train")
    with pytest.raises(UserError, match=r"^model.initial_weights: .*/path/to/.*: no such file"):
        initial_weights(experiment)
    (overrides,) = re.findall(r"--params_override=(\S+)", config.read_text())
    assert "/path/to/" not in load_experiment(config, overrides).model.initial_weights


def test_every_config_but_the_general_ones_is_compared():
    names = {path.stem for path in CONFIGS.glob("*.yaml")} - {*NO_PAPERS}
    papers = {name for name in names if name.split("_")[0] in
              ("kinetics400", "kinetics600", "ssv2", "charades", "imagenet")}  # fmt: skip
    assert papers == {*PUBLISHED, PRETRAINING}


@pytest.mark.parametrize(
    "name",
    [name for name in PUBLISHED if name.startswith("kinetics") and not name.endswith("maskfeat")],
)
def test_kinetics_trains_with_the_augmentation_of_slowfasts_files(name):
    experiment = load_experiment(CONFIGS / f"{name}.yaml")
    data, train = experiment.data, experiment.train
    large = name == "kinetics400_mvitv2_l_40x3"
    assert data.rand_augment == "rand-m7-n4-mstd0.5-inc1" and data.random_erasing == 0.25
    assert (data.mixup_alpha, data.cutmix_alpha) == ((0, 0) if large else (0.8, 1.0))
    assert (data.mixup_switch_prob, data.repeated_augmentation) == (0.5, 1 if large else 2)
    assert data.scale == (0.08, 1.0) and data.flip
    assert (train.label_smoothing, train.clip_norm, train.optimizer) == (0.1, 1.0, "adamw")
    assert experiment.model_config(400).head_dropout_rate == 0.5
    share = train.learning_rate / 1.6e-3  # The warm-up begins and the cosine ends at a hundredth.
    assert train.warmup_start_learning_rate == pytest.approx(1.6e-5 * share)
    assert train.end_learning_rate == pytest.approx(1.6e-5 * share)


def test_something_something_neither_mirrors_nor_spreads_its_clips():
    for name in PUBLISHED:
        if name.startswith("ssv2"):
            experiment = load_experiment(CONFIGS / f"{name}.yaml")
            data, train = experiment.data, experiment.train
            assert (data.flip, data.sampling_rule) == (False, "segments")
            assert (train.optimizer, train.momentum, train.clip_norm) == ("sgd", 0.9, None)
            assert experiment.model.initial_weights == "kinetics400" and experiment.model.reset_head


def test_charades_takes_several_labels_and_the_maximum_over_views():
    experiment = load_experiment(CONFIGS / "charades_mvit_b_16x4.yaml")
    data, train = experiment.data, experiment.train
    assert data.multi_label and data.ensemble_method == "max"
    assert (data.mixup_alpha, data.cutmix_alpha, train.optimizer) == (0, 0, "sgd")


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name.startswith("imagenet")])
def test_imagenet_is_prepared_and_augmented_as_its_files_say(name):
    data = load_experiment(CONFIGS / f"{name}.yaml").data
    assert (data.mean, data.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (data.short_side, data.interpolation) == (256, "bicubic")  # 224 / 0.875
    assert data.rand_augment == "rand-m9-n6-mstd0.5-inc1"


def test_maskfeat_holds_the_numbers_of_slowfasts_files():
    """configs/masked_ssl/k400_MVITv2_S_16x4_{MaskFeat_PT,FT}.yaml, for 16 machines."""
    experiment = load_experiment(CONFIGS / f"{PRETRAINING}.yaml", "data.train=/data/k400/train")
    data, train, config = experiment.data, experiment.train, experiment.model_config(0)
    assert experiment.pretraining.as_dict() == {
        "method": "maskfeat", "mask_ratio": 0.4, "mask_window": (8, 7, 7),
    }  # fmt: skip
    assert (config.query_stride, config.last_query_stride) == ((1, 2, 2), (1, 1, 1))
    assert (config.expand_in, config.drop_path_rate) == ("mlp", 0)
    assert (data.scale, data.flip, data.repeated_augmentation) == ((0.5, 1.0), True, 1)
    assert (data.rand_augment, data.color_jitter, data.random_erasing) == (None, 0, 0)
    assert (train.epochs, train.warmup_epochs, train.batch_size) == (300, 10, 16 * 32)
    assert train.learning_rate == pytest.approx(16 * 1e-4)
    for rate in (train.warmup_start_learning_rate, train.end_learning_rate):
        assert rate == pytest.approx(16 * 1e-6)
    assert (train.weight_decay, train.clip_norm, train.layer_decay) == (0.05, 0.02, 1)
    header = (CONFIGS / f"{PRETRAINING}.yaml").read_text()
    assert f"{complexity(config).macs / 1e9:.2f} GMACs forward" in header

    experiment = load_experiment(CONFIGS / "kinetics400_mvitv2_s_16x4_from_maskfeat.yaml")
    data, train, config = experiment.data, experiment.train, experiment.model_config(400)
    assert data.rand_augment == "rand-m7-mstd0.5-inc1" and data.random_erasing == 0.25
    assert (data.mixup_alpha, data.cutmix_alpha, data.repeated_augmentation) == (0.8, 1.0, 2)
    assert (train.layer_decay, train.clip_norm, train.label_smoothing) == (0.75, 5.0, 0.1)
    for rate in (train.warmup_start_learning_rate, train.end_learning_rate):
        assert rate == pytest.approx(16 * 1e-6)
    assert (config.readout, config.head_init_scale) == ("mean_before_norm", 0.001)
    assert (config.expand_in, config.head_dropout_rate) == ("mlp", 0)
    assert experiment.model.reset_head
