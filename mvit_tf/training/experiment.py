"""One experiment as typed data: what a YAML file of `configs/` and `--params_override` may say.

The sections are the Model Garden's `hyperparams.Config`, so that its users find their files,
flags and `as_dict` again; pydantic checks what goes into them, once, as declared here and in the
data classes whose fields are keys of `data`.

Importing this module imports `official.modeling.hyperparams`, and with it `tf_keras`, which is
never used: 0.3 s on top of TensorFlow. Outside `training`, nothing of the package does.
"""

import dataclasses
import json
import typing
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml
from official.modeling import hyperparams
from pydantic import Field
from pydantic.dataclasses import dataclass

from mvit_tf.data.preprocessing import Augmentation, Preprocessing
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.errors import UserError, did_you_mean
from mvit_tf.files import write_text_atomically
from mvit_tf.models import MViTConfig, get_config
from mvit_tf.training.experiment_text import OVERRIDE_SOURCE, parse_overrides, read_yaml
from mvit_tf.typed import (
    CHECKS,
    Count,
    NotNegative,
    Positive,
    Seed,
    Share,
    ShareBelowOne,
    refusal,
)

# Fields of MViTConfig that follow from other keys of the experiment.
_DERIVED_MODEL_FIELDS = {
    "num_classes": "the classes of data.train",
    "input_shape": "model.input_shape",
    "input_size": "model.input_shape",
    "image": "model.name",
}
_RENAMED_MODEL_FIELDS = {"widen_in": "expand_in"}

_ModelFields = pydantic.create_model(
    "_ModelFields",
    __config__=CHECKS,
    **{
        name: (hint, None)
        for name, hint in typing.get_type_hints(MViTConfig).items()
        if name not in _DERIVED_MODEL_FIELDS
    },
)


def _config_of_given(fields: pydantic.BaseModel) -> hyperparams.Config:
    return hyperparams.Config(fields.model_dump(exclude_unset=True))


# Fields of the data classes that follow from the model's input, and one that `data` calls
# otherwise; all others are keys of `data`, with the type, range and default declared there.
_FROM_INPUT = ("num_frames", "size")
_KEY_OF_FIELD = {"rule": "sampling_rule"}


def _keys_of(cls: type) -> dict[str, str]:
    """Key of `data` -> field of a data class."""
    names = [field.name for field in dataclasses.fields(cls)]
    return {_KEY_OF_FIELD.get(name, name): name for name in names if name not in _FROM_INPUT}


def _shared_keys():
    for cls in (ClipSampling, Preprocessing, Augmentation):
        hints = typing.get_type_hints(cls, include_extras=True)
        for key, name in _keys_of(cls).items():
            yield key, hints[name], getattr(cls, name)


_ClipKeys = dataclasses.make_dataclass("_ClipKeys", _shared_keys(), bases=(hyperparams.Config,))


@dataclass(config=CHECKS)
class ModelSection(hyperparams.Config):
    """Which model.

    Attributes:
        name: a name of `mvit_tf.list_models()`.
        input_shape: `[T, H, W, 3]` of a clip; `None` takes the named model's own.
        overrides: other `MViTConfig` fields, by name.
        initial_weights: a published set ("kinetics400"; `mvit weights` lists them), a PyTorch
            checkpoint, a `.weights.h5` file, or a model directory whose best checkpoint is
            taken; `None` starts from random weights.
        reset_head: keep the new random head and load only the rest of `initial_weights`, as
            fine-tuning on other classes needs.
    """

    name: str = "mvit_b_16x4"
    input_shape: tuple[Count, Count, Count, Literal[3]] | None = None
    # What it holds is what was given of `_ModelFields`.
    overrides: Annotated[_ModelFields, pydantic.AfterValidator(_config_of_given)] = Field(
        default_factory=hyperparams.Config
    )
    initial_weights: str | None = None
    reset_head: bool = False


@dataclass(config=CHECKS)
class DataSection(_ClipKeys):
    """Which videos, how clips are taken from them, and how frames become model input.

    The fields of `ClipSampling`, `Preprocessing` and `Augmentation` are keys too: sampling_rate,
    target_fps, sampling_rule (`ClipSampling.rule`); short_side, mean, std, channel_order; scale,
    ratio, flip.

    Attributes:
        train: training videos: a folder with one folder per class, or a `path label` list.
        validation: validation videos, in either form.
        validation_fraction: share of each class of `train` held out when there is no `validation`.
        root: folder that relative paths of lists start from; `None` is the list's own folder.
        separator: what stands between path and label in a list; `None` is white space.
        evaluation_clips: temporal views per video of the final evaluation.
        evaluation_crops: 1 (centre) or 3 (left, centre, right) spatial views.
        evaluation_batch_size: views per evaluation step; `None` is `train.batch_size`.
        shuffle_frames: evaluate with each clip's frames in random order (the paper's Table 9).
        max_failure_share: share of videos that may fail to decode before a run ends in an error.
        decode_threads: videos decoded at once; `None` leaves it to the pipeline.
        seed: of the validation split, the order of the videos and the augmentation.
    """

    train: str | None = None
    validation: str | None = None
    validation_fraction: ShareBelowOne = 0.0
    root: str | None = None
    separator: str | None = None
    evaluation_clips: Count = 5
    evaluation_crops: Literal[1, 3] = 1
    evaluation_batch_size: Count | None = None
    shuffle_frames: bool = False
    max_failure_share: Share = 0.05
    decode_threads: Count | None = None
    seed: Seed = 0


@dataclass(config=CHECKS)
class TrainSection(hyperparams.Config):
    """How the weights are learned.

    Attributes:
        epochs: passes over the training videos, one clip of each a pass.
        batch_size: clips per step over all devices together.
        learning_rate: the peak, after the warm-up.
        warmup_epochs: epochs of linear warm-up; may be fractional.
        warmup_start_learning_rate: where the warm-up begins.
        end_learning_rate: where the cosine ends.
        weight_decay: AdamW's; none on biases, norms and other 1-D weights.
        label_smoothing: share of each label spread over all classes.
        clip_norm: global norm the gradient is clipped to; `None` does not clip.
        dtype: "float32" or "mixed_bfloat16".
        validate_every: epochs between validations (one centre view per video); the last epoch
            is always validated.
        devices: number of devices; `None` is every GPU, or one CPU. More than the machine has
            GPUs is refused; without any GPU the CPU is split.
        remat: keep only the input of each block and compute the rest again for the gradient:
            less memory, more time, the same numbers.
        jit_compile: compile the training step by XLA; one device only.
        steps_per_execution: training steps per call of the compiled function; one device only.
        seed: of the initial weights, dropout and stochastic depth.
    """

    epochs: Count = 200
    batch_size: Count = 8
    learning_rate: Positive = 1e-4
    warmup_epochs: NotNegative = 0.0
    warmup_start_learning_rate: NotNegative = 1e-6
    end_learning_rate: NotNegative = 1e-6
    weight_decay: NotNegative = 0.05
    label_smoothing: ShareBelowOne = 0.1
    clip_norm: Positive | None = 1.0
    dtype: Literal["float32", "mixed_bfloat16"] = "float32"
    validate_every: Count = 1
    devices: Count | None = None
    remat: bool = False
    jit_compile: bool = False
    steps_per_execution: Count = 1
    seed: Seed = 0


@dataclass(config=CHECKS)
class Experiment(hyperparams.Config):
    """A whole experiment; `load_experiment` makes it, checks it and locks it against change."""

    model: ModelSection = Field(default_factory=ModelSection)
    data: DataSection = Field(default_factory=DataSection)
    train: TrainSection = Field(default_factory=TrainSection)

    def model_config(self, num_classes: int) -> MViTConfig:
        """The config of the model for so many classes."""
        fields = self.model.overrides.as_dict()
        if self.model.input_shape is not None:
            fields["input_shape"] = self.model.input_shape
        return get_config(self.model.name).replace(num_classes=num_classes, **fields)

    @property
    def clip_shape(self) -> tuple[int, int, int]:
        """(T, H, W) of the model's input."""
        return (self.model.input_shape or get_config(self.model.name).input_shape)[:3]

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
        keys = _keys_of(cls)
        return cls(**fields, **{name: getattr(self.data, key) for key, name in keys.items()})


_SECTIONS = {"model": ModelSection, "data": DataSection, "train": TrainSection}
_KEYS = {
    name: [field.name for field in dataclasses.fields(section)]
    for name, section in _SECTIONS.items()
}
_CHECKER = pydantic.TypeAdapter(Experiment)


def load_experiment(config_file: str | Path | None = None, overrides: str = "") -> Experiment:
    """Reads a YAML file, then the overrides, over the defaults.

    A form of an older version is taken with a `FutureWarning` that names the new one.

    Args:
        config_file: YAML with the sections `model`, `data`, `train`; `None` for defaults only.
        overrides: `"train.epochs=3,data.train=/videos"`, or YAML of the file's form.

    Raises:
        UserError: the file is missing or not YAML, or a key or value is refused.
    """
    text_keys = _text_keys()
    given = {}
    if config_file is not None:
        given[str(config_file)] = read_yaml(config_file, text_keys)
    given[OVERRIDE_SOURCE] = parse_overrides(overrides, text_keys)
    merged = {}
    for source, values in given.items():
        values = _known_keys(values, source)
        _checked(values, source)
        for section, keys in values.items():
            merged[section] = _merged(merged.get(section, {}), keys)
    source = " with ".join(source for source, values in given.items() if values)
    experiment = _checked(merged, source)
    _check_combinations(experiment, source)
    for section in _SECTIONS:
        getattr(experiment, section).lock()
    experiment.lock()
    return experiment


def save_experiment(experiment: Experiment, path: str | Path):
    """Writes every key with its value, so that `load_experiment(path)` gives it back."""
    text = yaml.dump(_plain(experiment.as_dict()), Dumper=_Dumper, sort_keys=False)
    write_text_atomically(Path(path), text)


class _Dumper(yaml.SafeDumper):
    """YAML with one key a line and lists in brackets."""


_Dumper.add_representer(
    list, lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, True)
)


def flat_items(experiment: Experiment) -> dict[str, Any]:
    """`{"model.name": ..., "data.train": ...}`; `model.overrides` is one item."""
    return {
        f"{section}.{key}": value
        for section, keys in _plain(experiment.as_dict()).items()
        for key, value in keys.items()
    }


def _text_keys() -> set[str]:
    """Dotted names of the keys whose values are text."""
    classes = {**_SECTIONS, "model.overrides": _ModelFields}
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
    if isinstance(shape, list) and len(shape) == 3:
        keys["input_shape"] = [*shape, 3]
        _warn(f"{source}: model.input_shape={shape} is now written {keys['input_shape']}")
    if keys.get("overrides") is None:
        keys.pop("overrides", None)
        return
    fields = keys["overrides"]
    if not isinstance(fields, dict):
        raise UserError(f"{source}: model.overrides must hold keys, got {fields!r}")
    keys["overrides"] = {_RENAMED_MODEL_FIELDS.get(key, key): fields[key] for key in fields}
    for key in fields:
        name = f"model.overrides.{key}"
        if key in _RENAMED_MODEL_FIELDS:
            _warn(f"{source}: {name} is now model.overrides.{_RENAMED_MODEL_FIELDS[key]}")
        elif key in _DERIVED_MODEL_FIELDS:
            raise UserError(
                f"{source}: {name} cannot be set; it follows from {_DERIVED_MODEL_FIELDS[key]}"
            )
        elif key not in _ModelFields.model_fields:
            hint = did_you_mean(str(key), _ModelFields.model_fields, "model.overrides.")
            raise UserError(f"{source}: unknown key '{name}'; {hint}")


def _warn(message: str):
    warnings.warn(message, FutureWarning, stacklevel=5)


def _check_combinations(experiment: Experiment, source: str):
    """Refuses values that are each legal and together are not."""
    data, train = experiment.data, experiment.train
    try:
        config = experiment.model_config(num_classes=1)
    except UserError as error:
        key = "model." if str(error).startswith("input_shape") else ""
        raise UserError(f"{source}: {key}{error}") from error
    if config.image:
        raise UserError(
            f"{source}: model.name={experiment.model.name} is an image model; train.py trains "
            "on videos"
        )
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


def _merged(values: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """`overrides` over `values`; a mapping in both (`model.overrides`) is merged by key."""
    both = {
        key: {**values[key], **value}
        for key, value in overrides.items()
        if isinstance(value, dict) and isinstance(values.get(key), dict)
    }
    return {**values, **overrides, **both}


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
