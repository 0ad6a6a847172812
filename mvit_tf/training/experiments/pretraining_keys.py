"""What of an experiment makes no sense with a pre-training, and whether its masks fit."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from mvit_tf.errors import UserError
from mvit_tf.models import MViTConfig
from mvit_tf.pretraining.geometry import mask_window, masked_places
from mvit_tf.training.experiments.sections import PretrainingSection

# Keys about classes, and the values with which they do nothing.
_WITHOUT_CLASSES = {
    "model.reset_head": False,
    "data.validation": None,
    "data.validation_split": None,
    "data.validation_fraction": 0,
    "data.balanced_sampling": False,
    "data.label_map": None,
    "data.mixup_alpha": 0,
    "data.cutmix_alpha": 0,
    "train.head_learning_rate": None,
    "train.class_weights": None,
    "train.early_stopping_patience": None,
    "train.freeze_blocks": 0,
    "train.lora_rank": None,
    "train.probe": False,
}


# What only a pre-training has a use for, and the defaults.
_OF_MASKS = {
    f"pretraining.{field.name}": field.default
    for field in dataclasses.fields(PretrainingSection)
    if field.name.startswith("mask_")
}


def check_pretraining_keys(items: Mapping[str, Any], config: MViTConfig, source: str):
    """Refuses what a pre-training has no use for, and of a classifier what only it has.

    Args:
        items: dotted names and values, see `flat_items`.
        config: of the model.
        source: of the experiment, for the message.

    Raises:
        UserError: keys that are about classes, or masks that do not fit the model; of a
            classifier, masks.
    """
    method = items["pretraining.method"]
    if method is None:
        _refuse_masks(items, source)
        return
    given = {key: items[key] for key, idle in _WITHOUT_CLASSES.items() if items[key] != idle}
    if given:
        idle = ((key, _WITHOUT_CLASSES[key]) for key in given)
        raise UserError(
            f"{source}: {', '.join(f'{key}={value}' for key, value in given.items())} "
            f"{'is' if len(given) == 1 else 'are'} about classes, and pretraining.method={method} "
            "learns without labels; set "
            + ",".join(f"{k}={'null' if v is None else str(v).lower()}" for k, v in idle)
        )
    try:
        window = mask_window(config, items["pretraining.mask_window"])
        masked_places(window, items["pretraining.mask_ratio"])
    except UserError as error:
        raise UserError(f"{source}: pretraining: {error}") from None


def _refuse_masks(items, source):
    for key, default in _OF_MASKS.items():
        if items[key] != default:
            raise UserError(
                f"{source}: {key}={items[key]} has no effect without pretraining.method=maskfeat"
            )


def refuse_pretraining(experiment, model_dir):
    """Refuses what needs a classifier.

    Args:
        experiment: Experiment.
        model_dir: for the message.

    Raises:
        UserError: the experiment is a pre-training.
    """
    if experiment.pretraining.method is not None:
        raise UserError(
            f"{model_dir} is of a pre-training (pretraining.method="
            f"{experiment.pretraining.method}), which has no classes to score, predict or serve; "
            "train it with --mode=train, then fine-tune from it: "
            f"model.initial_weights={model_dir},model.reset_head=true"
        )
