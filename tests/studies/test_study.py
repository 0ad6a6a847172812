"""Files of studies: those of the package, and what is refused."""

import dataclasses

import pytest
import yaml

from mvit_tf.analysis.complexity import complexity
from mvit_tf.errors import UserError
from mvit_tf.studies.study import PRETRAINING, find_study, load_study, package_studies
from mvit_tf.training.experiments.experiment import (
    flat_items,
    load_experiment,
    merge_overrides,
)
from mvit_tf.training.experiments.files import package_configs
from mvit_tf.training.optimization.training_model import build_training_model
from tests.studies.toy import STUDY, write_study

NAMES = (
    "frame_order", "key_value_stride", "pooling_function", "positions", "pretraining",
    "pretraining_own_videos", "relative_positions", "residual_pooling", "skip_path",
)  # fmt: skip


MASKFEAT = "pretraining.method=maskfeat,pretraining.mask_window=[2,2,2]"


def experiments_of(name):
    study = load_study(find_study(name))
    names = [*study.variants, *([PRETRAINING] if study.pretraining else [])]
    return study, {name: load_experiment(study.base, study.overrides_of(name)) for name in names}


def test_the_package_has_these_studies():
    assert tuple(package_studies()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_variant_builds_and_differs_from_the_others(name):
    study, experiments = experiments_of(name)
    assert len(study.seeds) == 3 and len(study.shapes.class_names) == 16
    assert study.claims and all(v.published is not None for v in study.variants.values())
    built = {}
    for variant, experiment in experiments.items():
        model = build_training_model(experiment, 16)
        if variant != PRETRAINING:
            config = experiment.model_config(16)
            assert model.count_params() == complexity(config).params
        label = study.variants.get(variant)
        built[variant] = (
            str(experiment.as_dict()),
            label and (label.label_share, label.pretrained),
        )
    assert len(set(built.values())) == len(built)


def test_all_studies_take_less_than_six_hours_and_no_run_more_than_four_minutes():
    studies = [load_study(path) for path in package_studies().values()]
    assert sum(study.expected_minutes(3) for study in studies) < 6 * 60
    assert max(study.minutes for study in studies) <= 4
    # Of like length: multiply-adds forward of all clips of a run, in units of 1e12.
    for study in studies:
        if study.own_videos:
            continue
        for name, variant in study.variants.items():
            experiment = load_experiment(study.base, study.overrides_of(name))
            clips = experiment.train.epochs * variant.label_share * 16 * 40
            assert clips * complexity(experiment.model_config(16)).macs < 0.9e12


def test_the_vit_of_frame_order_costs_what_the_mvit_does():
    _, experiments = experiments_of("frame_order")
    macs = {name: complexity(e.model_config(16)).macs for name, e in experiments.items()}
    assert macs["mvit"] == pytest.approx(49.0e6, rel=0.01)
    assert macs["vit"] == pytest.approx(53.3e6, rel=0.01)
    vit = experiments["vit"].model_config(16)
    assert len(vit.depths) == 1 and not any(block.has_key_pooling for block in vit.blocks())


def test_own_videos_are_trained_on_as_the_packages_experiments_say():
    configs, (_, experiments) = package_configs(), experiments_of("pretraining_own_videos")
    before = load_experiment(configs["small_data_maskfeat"])
    assert flat_items(experiments[PRETRAINING]) == flat_items(before)
    tuned = load_experiment(
        configs["small_data_from_maskfeat"],
        "model.initial_weights=null,model.reset_head=false,data.validation_fraction=0.0",
    )
    assert flat_items(experiments["labels_100_pretrained"]) == flat_items(tuned)


def test_published_numbers_are_those_of_the_tables():
    def published(name, key="accuracy"):
        variants = load_study(find_study(name)).variants.values()
        return [getattr(variant.published, key) for variant in variants]

    assert published("frame_order") == [77.2, 68.5]
    assert published("frame_order", "shuffled") == [70.1, 68.4]
    assert published("positions") == [75.8, 76.5, 77.2]
    assert published("key_value_stride") == [77.6, 77.1, 77.2, 75.8]
    assert published("key_value_stride", "gmacs") == [130.8, 83.6, 70.5, 63.7]
    assert published("pooling_function") == [77.2, 75.4, 78.3, 78.4]
    assert published("skip_path") == [77.2, 74.6]
    assert published("residual_pooling") == [79.3, 79.7, 79.7, 81.0]
    assert published("relative_positions") == [80.1, 80.4, 80.6, 81.0]
    assert published("pretraining") == [81.0, 82.2, None, None, None, None]


def test_a_study_of_ones_own_is_read(tmp_path):
    study = load_study(write_study(tmp_path))
    assert (study.name, study.base) == ("toy", tmp_path / "tiny.yaml")
    assert study.shapes.num_frames == 16 and study.seeds == (0, 1)
    assert study.variants["none"].published.mparams == 36.2
    assert study.expected_minutes(2) == pytest.approx(0.8)
    pretrained = dataclasses.replace(study, name="other")
    assert pretrained.variants == study.variants


def test_overrides_are_merged_and_the_later_one_counts():
    merged = merge_overrides(
        "train.epochs=3,model.overrides.depths=[1,1]",
        "",
        '{"train": {"epochs": 4}, "model": {"overrides": {"embed_dim": 8}}}',
        "data.train=007",
    )
    experiment = load_experiment(None, merged)
    assert experiment.train.epochs == 4 and experiment.data.train == "007"
    assert experiment.model.overrides.as_dict() == {"depths": (1, 1), "embed_dim": 8}
    with pytest.raises(UserError, match="unknown key 'train.epoch'; did you mean 'train.epochs'"):
        merge_overrides("train.epoch=3")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base": "tinny"}, "base=tinny is neither a file nor an experiment of the package"),
        ({"seed": 3}, "unknown key 'seed'; did you mean 'seeds'"),
        ({"seeds": []}, r"seeds must be one or more whole numbers from 0 to .*, got \[\]"),
        ({"seeds": [0, -1]}, r"seeds must be .* got \[0, -1\]"),
        ({"seeds": [2**32]}, r"whole numbers from 0 to 2\*\*32 - 1, got \[4294967296\]"),
        ({"seeds": [0, 0]}, r"seeds must differ, got \[0, 0\]"),
        ({"minutes": 0}, "minutes must be a number above 0, got 0"),
        ({"title": None}, "title is missing"),
        ({"variants": {}}, "variants must be one or more"),
        ({"variants": {"videos": {}}, "claims": []}, "none of them 'pretraining' or 'videos'"),
        ({"variants": {"a": {"parms": "x"}}}, "variants.a: unknown key 'parms'; did you mean"),
        (
            {"variants": {"a": {"params": "train.epoch=1"}}, "claims": []},
            "a: .*unknown key 'train.epoch'",
        ),
        ({"variants": {"a": {"label_share": 0}}}, "variants.a: label_share=0.* greater than 0"),
        ({"variants": {"a": {"pretrained": True}}}, "no section pretraining"),
        ({"claims": [{"says": "x", "greater": "none", "less": "jont"}]}, "no variant 'jont'"),
        ({"claims": [{"says": "x", "greater": "none", "less": "none"}]}, "'none' is compared with"),
        ({"variants": {"a" * 61: {}}, "claims": []}, "becomes a folder's name; .*, at most 60"),
        ({"params": "train.epochs=1"}, "none: .*tiny.yaml with params: train.warmup_epochs=1 must"),
        ({"variants": {"a/../b": {}}, "claims": []}, "'a/../b' becomes a folder's name"),
        ({"variants": {"a": {"published": {"accuracy": 5000}}}}, "accuracy=5000.* at most 100"),
        ({"params": "train.seed=3"}, "train.seed is set by the study, for each run"),
        (
            {"variants": {"a": {"params": "data.train=/x"}}, "claims": []},
            "a: params: data.train is set by the study",
        ),
        (
            {"pretraining": {"params": "train.batch_size=4", "minutes": 1.0}},
            "pretraining: pretraining.method must be maskfeat, got None",
        ),
        (
            {"variants": {"a": {"params": MASKFEAT}}, "claims": []},
            "a: pretraining.method must be null, got maskfeat",
        ),
        ({"claims": [{"says": "x", "greater": "none"}]}, r"claims\[0\]: less is missing"),
        ({"shapes": {"hight": 3}}, "shapes: unknown key 'hight'; did you mean 'height'"),
        ({"shapes": {"width": 33}}, "even.*33"),
        ({"videos_per_class": {"train": 0, "test": 1}}, "train=0 must be at least 1"),
        ({"pretraining": {"minutes": 1.0}}, "pretraining: params is missing"),
        ({"params": 3}, "params must be text, got 3"),
        ({"own_videos": "yes"}, "own_videos must be true or false, got 'yes'"),
    ],
)
def test_mistakes_are_refused_with_the_file_and_the_value(change, message, tmp_path):
    path = write_study(tmp_path)
    path.write_text(yaml.safe_dump({**yaml.safe_load(STUDY), **change}))
    with pytest.raises(UserError, match=message) as refused:
        load_study(path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_an_unknown_study_is_refused_with_the_nearest():
    with pytest.raises(UserError, match="no study 'frame_oder'.*did you mean 'frame_order'"):
        find_study("frame_oder")
