"""One experiment as typed data: what a YAML file of `configs/` and `--params_override` may say."""

import dataclasses
import json
import os
import typing
import warnings
from pathlib import Path
from typing import Any

import pydantic
import yaml
from official.modeling import hyperparams
from pydantic import Field
from pydantic.dataclasses import dataclass

from mvit_tf.data.preprocessing import Augmentation, Preprocessing
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.errors import FormerNameWarning, UserError, did_you_mean
from mvit_tf.files import write_text_atomically
from mvit_tf.geometry import CHANNELS
from mvit_tf.models import MViTConfig, get_config
from mvit_tf.remote_path import as_path
from mvit_tf.training.experiments.files import BASE, read_with_bases
from mvit_tf.training.experiments.pretraining_keys import check_pretraining_keys
from mvit_tf.training.experiments.sections import (
    DERIVED_MODEL_FIELDS,
    RENAMED_MODEL_FIELDS,
    DataSection,
    ModelFields,
    ModelSection,
    PretrainingSection,
    TrainSection,
    keys_of,
)
from mvit_tf.training.experiments.text import OVERRIDE_SOURCE, parse_overrides
from mvit_tf.typed import CHECKS, refusal
from mvit_tf.urls import absolute


@dataclass(config=CHECKS)
class Experiment(hyperparams.Config):
    """A whole experiment; `load_experiment` makes it, checks it and locks it against change."""

    model: ModelSection = Field(default_factory=ModelSection)
    data: DataSection = Field(default_factory=DataSection)
    train: TrainSection = Field(default_factory=TrainSection)
    pretraining: PretrainingSection = Field(default_factory=PretrainingSection)

    def model_config(self, num_classes: int) -> MViTConfig:
        """The config of the model for so many classes."""
        fields = self.model.overrides.as_dict()
        named = get_config(self.model.name)
        if self.model.input_shape is not None:
            shape = self.model.input_shape
            fields["input_shape"] = shape[1:] if named.image and shape[0] == 1 else shape
        return named.replace(num_classes=num_classes, **fields)

    @property
    def images(self) -> bool:
        """Whether the model takes images, which are clips of one frame everywhere else."""
        return self.model_config(num_classes=1).image

    @property
    def clip_shape(self) -> tuple[int, int, int]:
        """(T, H, W) of the model's input; T is 1 for images."""
        return (self.model.input_shape or (1, *get_config(self.model.name).input_shape))[-4:-1]

    @property
    def evaluation_batch_size(self) -> int:
        """Views of an evaluation step, over all devices together."""
        return self.data.evaluation_batch_size or self.train.batch_size

    @property
    def input_in_words(self) -> str:
        """What the model takes: "clips of 16x224x224" or "images of 224x224"."""
        frames, height, width = self.clip_shape
        size = f"{height}x{width}"
        return f"images of {size}" if self.images else f"clips of {frames}x{size}"

    def clip_sampling(self) -> ClipSampling:
        """Which frames of a video make a clip."""
        return self._from_data(ClipSampling, num_frames=self.clip_shape[0])

    def preprocessing(self) -> Preprocessing:
        """How frames become model input."""
        return self._from_data(Preprocessing, size=self.clip_shape[1:])

    def augmentation(self) -> Augmentation:
        """What training changes at random."""
        return self._from_data(Augmentation)

    def _from_data(self, cls, **fields):
        keys = keys_of(cls)
        return cls(**fields, **{name: getattr(self.data, key) for key, name in keys.items()})


_SECTIONS = {
    "model": ModelSection,
    "data": DataSection,
    "train": TrainSection,
    "pretraining": PretrainingSection,
}
_KEYS = {
    name: [field.name for field in dataclasses.fields(section)]
    for name, section in _SECTIONS.items()
}
_CHECKER = pydantic.TypeAdapter(Experiment)


def load_experiment(config_file: str | Path | None = None, overrides: str = "") -> Experiment:
    """Reads a YAML file, then the overrides, over the defaults.

    The key `base` of a file names another that is read before it: an experiment of the package
    ("kinetics400_mvit_b_16x4"), or a file by its path from the folder of the one that names it.
    A form of an older version is taken with a `FormerNameWarning` that names the new one.

    Args:
        config_file: YAML with the sections `model`, `data`, `train` and `pretraining`, and maybe
            `base`; `None` for defaults only.
        overrides: `"train.epochs=3,data.train=/videos"`, or YAML of the file's form.

    Raises:
        UserError: the file is missing or not YAML, or a key or value is refused.
    """
    text_keys = _text_keys()
    given = {}
    if config_file is not None:
        given.update(read_with_bases(config_file, text_keys))
    given[OVERRIDE_SOURCE] = parse_overrides(overrides, text_keys)
    merged = {}
    for source, values in given.items():
        values = _known_keys(values, source)
        _checked(values, source)
        for section, keys in values.items():
            merged[section] = _merged(merged.get(section, {}), keys)
        data = values.get("data", {})
        named = data.get("validation") or data.get("validation_split")
        if named is not None and "validation_fraction" not in data:
            # One's own list or split takes the place of a share that an earlier source holds out.
            merged["data"]["validation_fraction"] = 0.0
    source = " with ".join(source for source, values in given.items() if values)
    experiment = _checked(merged, source)
    _check_combinations(experiment, source)
    for section in _SECTIONS:
        getattr(experiment, section).lock()
    experiment.lock()
    return experiment


def merge_overrides(*texts: str) -> str:
    """Several `--params_override` as one; where two set a key, the later one counts.

    Raises:
        UserError: one of them is of no such form, or has a key that does not exist.
    """
    merged = {}
    for text in texts:
        values = _known_keys(parse_overrides(text, _text_keys()), OVERRIDE_SOURCE)
        for section, keys in values.items():
            merged[section] = _merged(merged.get(section, {}), keys)
    return json.dumps(merged)


def save_experiment(experiment: Experiment, path: str | Path):
    """Writes every key with its value, so that `load_experiment(path)` gives it back.

    Paths are written in full: the experiment is gone on with from another current folder too.
    """
    values = _with_full_paths(_plain(experiment.as_dict()))
    text = yaml.dump(values, Dumper=_Dumper, sort_keys=False)
    write_text_atomically(as_path(path), text)


class _Dumper(yaml.SafeDumper):
    """YAML with one key a line and lists in brackets."""


_Dumper.add_representer(
    list, lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, True)
)


def flat_items(experiment: Experiment, *, full_paths: bool = False) -> dict[str, Any]:
    """`{"model.name": ..., "data.train": ...}`; `model.overrides` is one item.

    Args:
        full_paths: give paths as `save_experiment` does.
    """
    values = _plain(experiment.as_dict())
    return {
        f"{section}.{key}": value
        for section, keys in (_with_full_paths(values) if full_paths else values).items()
        for key, value in keys.items()
    }


def _text_keys() -> set[str]:
    """Dotted names of the keys whose values are text."""
    classes = {**_SECTIONS, "model.overrides": ModelFields}
    return {
        f"{prefix}.{key}"
        for prefix, cls in classes.items()
        for key, hint in typing.get_type_hints(cls).items()
        if any(part is str or isinstance(part, str) for part in (hint, *typing.get_args(hint)))
    }


def _checked(values: dict[str, Any], source: str) -> Experiment:
    try:
        # As JSON, in which a list is a tuple and a mapping a section, however strict the types.
        return _CHECKER.validate_json(json.dumps(values, default=str))
    except pydantic.ValidationError as error:
        raise UserError(f"{source}: {refusal(error, Experiment)}") from error


def _known_keys(values: dict[str, Any], source: str) -> dict[str, dict[str, Any]]:
    """The sections that hold anything, with today's names and forms of keys."""
    sections = {}
    for section, keys in values.items():
        if section == BASE:
            raise UserError(f"{source}: base={keys} can only stand in a config file, at its top")
        if section not in _SECTIONS:
            raise UserError(f"{source}: unknown section '{section}'; {_nearest_key(section)}")
        if keys is None:
            continue
        if not isinstance(keys, dict):
            raise UserError(f"{source}: section '{section}' must hold keys, got {keys!r}")
        for key in keys:
            if key not in _KEYS[section]:
                hint = _nearest_key(str(key), section)
                raise UserError(f"{source}: unknown key '{section}.{key}'; {hint}")
        sections[section] = dict(keys)
    if "model" in sections:
        _renew_model_keys(sections["model"], source)
    return sections


def _nearest_key(word: str, section: str | None = None) -> str:
    """What may have been meant by an unknown section, or by an unknown key of a section."""
    for other, keys in _KEYS.items():
        if word in keys:
            return f"did you mean {'' if section else 'the key '}'{other}.{word}'?"
    if section is None:
        return did_you_mean(word, _SECTIONS)
    return did_you_mean(word, _KEYS[section], f"{section}.")


def _renew_model_keys(keys: dict[str, Any], source: str):
    shape = keys.get("input_shape")
    if isinstance(shape, list) and len(shape) == 3 and shape[-1] == CHANNELS:
        keys["input_shape"] = [1, *shape]  # of an image model
    elif isinstance(shape, list) and len(shape) == 3:
        keys["input_shape"] = [*shape, 3]
        _warn(f"{source}: model.input_shape={shape} is now written {keys['input_shape']}")
    if keys.get("overrides") is None:
        keys.pop("overrides", None)
        return
    fields = keys["overrides"]
    if not isinstance(fields, dict):
        raise UserError(f"{source}: model.overrides must hold keys, got {fields!r}")
    keys["overrides"] = {RENAMED_MODEL_FIELDS.get(key, key): fields[key] for key in fields}
    for key in fields:
        name = f"model.overrides.{key}"
        if key in RENAMED_MODEL_FIELDS:
            _warn(f"{source}: {name} is now model.overrides.{RENAMED_MODEL_FIELDS[key]}")
        elif key in DERIVED_MODEL_FIELDS:
            raise UserError(
                f"{source}: {name} cannot be set; it follows from {DERIVED_MODEL_FIELDS[key]}"
            )
        elif key not in ModelFields.model_fields:
            hint = did_you_mean(str(key), ModelFields.model_fields, "model.overrides.")
            raise UserError(f"{source}: unknown key '{name}'; {hint}")


def _warn(message: str):
    warnings.warn(message, FormerNameWarning, stacklevel=5)


def _check_combinations(experiment: Experiment, source: str):
    """Refuses values that are each legal and together are not."""
    data, train = experiment.data, experiment.train
    try:
        config = experiment.model_config(num_classes=1)
    except UserError as error:
        key = "model." if str(error).startswith("input_shape") else ""
        raise UserError(f"{source}: {key}{error}") from error
    if train.freeze_blocks > len(config.blocks()):
        raise UserError(
            f"{source}: train.freeze_blocks={train.freeze_blocks}: {experiment.model.name} has "
            f"{len(config.blocks())} blocks; set 0 to {len(config.blocks())}"
        )
    if train.probe and (train.freeze_blocks or train.lora_rank is not None):
        raise UserError(
            f"{source}: train.probe trains the head alone: leave out train.freeze_blocks and "
            "train.lora_rank"
        )
    if config.image:
        _check_image_keys(experiment, source)
    check_pretraining_keys(flat_items(experiment), config, source)
    try:
        experiment.clip_sampling()
        experiment.preprocessing()
        experiment.augmentation()
    except UserError as error:
        raise UserError(f"{source}: data.{error}") from error
    if data.validation is not None and data.validation_fraction > 0:
        raise UserError(
            f"{source}: data.validation and data.validation_fraction are both set; keep one"
        )
    if data.tfds_name is not None and data.validation_split and data.validation_fraction > 0:
        raise UserError(
            f"{source}: data.validation_split and data.validation_fraction are both set; keep one"
        )
    validated = data.validation or data.validation_fraction > 0 or data.validation_split
    if train.early_stopping_patience is not None and not validated:
        raise UserError(
            f"{source}: train.early_stopping_patience={train.early_stopping_patience} needs a "
            "validation score; set data.validation or data.validation_fraction, or leave it out"
        )
    if data.service is not None and data.tolerated_damage > 0:
        raise UserError(
            f"{source}: data.service and data.tolerated_damage are both set; keep one: a damaged "
            "record ends a training by a service"
        )
    if train.batch_size % data.repeated_augmentation:
        raise UserError(
            f"{source}: train.batch_size={train.batch_size} must be a multiple of "
            f"data.repeated_augmentation={data.repeated_augmentation}, the clips of each video"
        )
    if data.service is not None and train.probe:
        raise UserError(
            f"{source}: data.service and train.probe are both set; keep one: the views of a probe "
            "are decoded here"
        )
    if data.service is not None and data.balanced_sampling:
        raise UserError(
            f"{source}: data.service and data.balanced_sampling are both set; keep one: the "
            "workers of a service take each record once"
        )
    if data.train is not None and data.tfds_name is not None:
        raise UserError(f"{source}: data.train and data.tfds_name are both set; keep one")
    if train.batch_size % train.gradient_accumulation_steps:
        raise UserError(
            f"{source}: train.batch_size={train.batch_size} must be a multiple of "
            f"train.gradient_accumulation_steps={train.gradient_accumulation_steps}, the parts "
            "it is computed in"
        )
    if data.multi_label and train.class_weights is not None:
        raise UserError(
            f"{source}: train.class_weights={train.class_weights} is for videos of one label each; "
            "with data.multi_label leave it null"
        )
    if data.balanced_sampling and train.class_weights is not None:
        raise UserError(
            f"{source}: train.class_weights={train.class_weights} and data.balanced_sampling are "
            "both set; keep one: together they would count rare classes twice"
        )
    if train.warmup_epochs >= train.epochs:
        raise UserError(
            f"{source}: train.warmup_epochs={train.warmup_epochs:g} must be less than "
            f"train.epochs={train.epochs}; set train.warmup_epochs=0 for a short run"
        )
    for name in ("warmup_start_learning_rate", "end_learning_rate"):
        if getattr(train, name) > train.learning_rate:
            raise UserError(
                f"{source}: train.{name}={getattr(train, name):g} must not exceed "
                f"train.learning_rate={train.learning_rate:g}"
            )


def _check_image_keys(experiment: Experiment, source: str):
    """Refuses what an image model has no use for."""
    data, name = experiment.data, experiment.model.name
    if data.evaluation_clips != 1:
        raise UserError(
            f"{source}: data.evaluation_clips={data.evaluation_clips} must be 1, as "
            f"model.name={name} is an image model"
        )
    for key in ("shuffle_frames", "service", "tfds_name"):
        if getattr(data, key):
            raise UserError(
                f"{source}: data.{key}={getattr(data, key)} is for videos, and model.name={name} "
                f"is an image model; leave it out"
            )


def _merged(values: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """`overrides` over `values`; a mapping in both (`model.overrides`) is merged by key."""
    both = {
        key: {**values[key], **value}
        for key, value in overrides.items()
        if isinstance(value, dict) and isinstance(values.get(key), dict)
    }
    return {**values, **overrides, **both}


def _with_full_paths(values: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    data, model = dict(values["data"]), dict(values["model"])
    for key in ("train", "validation", "root", "label_map", "tfds_data_dir"):
        if data[key] is not None:
            data[key] = absolute(os.path.expanduser(data[key]) if "tfds" in key else data[key])
    # It may also be the name of a published set.
    if model["initial_weights"] is not None and Path(model["initial_weights"]).exists():
        model["initial_weights"] = absolute(model["initial_weights"])
    return {**values, "model": model, "data": data}


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
