"""One experiment as typed data: what a YAML file of `configs/` and `--params_override` may say.

The sections are dataclasses on the Model Garden's `hyperparams.Config`, so that its users find
their files, flags and `as_dict` again; `typed_values` checks what goes into them.

Importing this module imports `official.modeling.hyperparams`, and with it `tf_keras`, which is
never used: 0.3 s on top of TensorFlow. Outside `training`, nothing of the package does.
"""

import dataclasses
import typing
from pathlib import Path
from typing import Any

import yaml
from official.modeling import hyperparams

from mvit_tf.data.sampling import RULES, ClipSampling
from mvit_tf.data.transforms import Augmentation, Preprocessing
from mvit_tf.errors import UserError
from mvit_tf.files import write_text_atomically
from mvit_tf.models import MViTConfig, get_config
from mvit_tf.training.typed_values import (
    OVERRIDE_SOURCE,
    check_fields,
    check_sections,
    did_you_mean,
    option,
    parse_overrides,
    read_yaml,
)

# Fields of MViTConfig that follow from other keys of the experiment.
_DERIVED_MODEL_FIELDS = {
    "num_classes": "the classes of data.train",
    "input_shape": "model.input_shape",
}


@dataclasses.dataclass
class ModelSection(hyperparams.Config):
    """Which model.

    Attributes:
        name: a name of `mvit_tf.list_models()`.
        input_shape: `[T, H, W]` of a clip; `None` takes the named model's own.
        overrides: other `MViTConfig` fields, by name.
        initial_weights: a published set ("kinetics400"; `mvit weights` lists them), a PyTorch
            checkpoint, a `.weights.h5` file, or a model directory whose best checkpoint is
            taken; `None` starts from random weights.
        reset_head: keep the new random head and load only the rest of `initial_weights`, as
            fine-tuning on other classes needs.
    """

    name: str = "mvit_b_16x4"
    input_shape: list[int] | None = option(None, minimum=1, length=3)
    overrides: hyperparams.Config = dataclasses.field(default_factory=hyperparams.Config)
    initial_weights: str | None = None
    reset_head: bool = False


@dataclasses.dataclass
class DataSection(hyperparams.Config):
    """Which videos, how clips are taken from them, and how frames become model input.

    Attributes:
        train: training videos: a folder with one folder per class, or a `path label` list.
        validation: validation videos, in either form.
        validation_fraction: share of each class of `train` held out when there is no `validation`.
        root: folder that relative paths of lists start from; `None` is the list's own folder.
        separator: what stands between path and label in a list; `None` is white space.
        sampling_rate: step between the frames of a clip, in frames at `target_fps`.
        target_fps: frame rate that `sampling_rate` counts in.
        sampling_rule: "linspace" (SlowFast's: the frames span the whole clip), "stride" or
            "segments" (Something-Something's: the whole video); see `ClipSampling`.
        short_side: pixels of a frame's short side before an evaluation crop.
        mean, std: per channel, of pixels scaled to [0, 1].
        channel_order: "rgb" or "bgr".
        scale, ratio: area share and aspect ratio ranges of the training crop.
        flip: mirror half of the training clips.
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
    validation_fraction: float = option(0.0, minimum=0.0, below=1.0)
    root: str | None = None
    separator: str | None = None
    sampling_rate: float = option(4.0, above=0.0)
    target_fps: float = option(30.0, above=0.0)
    sampling_rule: str = option("linspace", choices=RULES)
    short_side: int = option(256, minimum=1)
    mean: list[float] = option([0.45, 0.45, 0.45], length=3)
    std: list[float] = option([0.225, 0.225, 0.225], above=0.0, length=3)
    channel_order: str = option("rgb", choices=("rgb", "bgr"))
    scale: list[float] = option([0.08, 1.0], above=0.0, maximum=1.0, length=2)
    ratio: list[float] = option([0.75, 4 / 3], above=0.0, length=2)
    flip: bool = True
    evaluation_clips: int = option(5, minimum=1)
    evaluation_crops: int = option(1, choices=(1, 3))
    evaluation_batch_size: int | None = option(None, minimum=1)
    shuffle_frames: bool = False
    max_failure_share: float = option(0.05, minimum=0.0, maximum=1.0)
    decode_threads: int | None = option(None, minimum=1)
    seed: int = option(0, minimum=0)


@dataclasses.dataclass
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

    epochs: int = option(200, minimum=1)
    batch_size: int = option(8, minimum=1)
    learning_rate: float = option(1e-4, above=0.0)
    warmup_epochs: float = option(0.0, minimum=0.0)
    warmup_start_learning_rate: float = option(1e-6, minimum=0.0)
    end_learning_rate: float = option(1e-6, minimum=0.0)
    weight_decay: float = option(0.05, minimum=0.0)
    label_smoothing: float = option(0.1, minimum=0.0, below=1.0)
    clip_norm: float | None = option(1.0, above=0.0)
    dtype: str = option("float32", choices=("float32", "mixed_bfloat16"))
    validate_every: int = option(1, minimum=1)
    devices: int | None = option(None, minimum=1)
    remat: bool = False
    jit_compile: bool = False
    steps_per_execution: int = option(1, minimum=1)
    seed: int = option(0, minimum=0)


@dataclasses.dataclass
class Experiment(hyperparams.Config):
    """A whole experiment; `load_experiment` makes it, checks it and locks it against change."""

    model: ModelSection = dataclasses.field(default_factory=ModelSection)
    data: DataSection = dataclasses.field(default_factory=DataSection)
    train: TrainSection = dataclasses.field(default_factory=TrainSection)

    def model_config(self, num_classes: int) -> MViTConfig:
        """The config of the model for so many classes."""
        config = get_config(self.model.name)
        fields = self.model.overrides.as_dict()
        if self.model.input_shape is not None:
            fields["input_shape"] = (*self.model.input_shape, 3)
        return config.replace(num_classes=num_classes, **fields)

    @property
    def clip_shape(self) -> tuple[int, int, int]:
        """(T, H, W) of the model's input."""
        return tuple(self.model.input_shape or get_config(self.model.name).input_size)

    def clip_sampling(self) -> ClipSampling:
        """Which frames of a video make a clip."""
        return ClipSampling(
            num_frames=self.clip_shape[0],
            sampling_rate=self.data.sampling_rate,
            target_fps=self.data.target_fps,
            rule=self.data.sampling_rule,
        )

    def preprocessing(self) -> Preprocessing:
        """How frames become model input."""
        return Preprocessing(
            size=self.clip_shape[1:],
            short_side=self.data.short_side,
            mean=tuple(self.data.mean),
            std=tuple(self.data.std),
            channel_order=self.data.channel_order,
        )

    def augmentation(self) -> Augmentation:
        """What training changes at random."""
        return Augmentation(
            scale=tuple(self.data.scale), ratio=tuple(self.data.ratio), flip=self.data.flip
        )


def load_experiment(config_file: str | Path | None = None, overrides: str = "") -> Experiment:
    """Reads a YAML file, then the overrides, over the defaults.

    Args:
        config_file: YAML with the sections `model`, `data`, `train`; `None` for defaults only.
        overrides: `"train.epochs=3,data.train=/videos"`, or YAML of the file's form.

    Raises:
        UserError: the file is missing or not YAML, or a key or value is refused.
    """
    hints = typing.get_type_hints(Experiment)
    sections = {field.name: hints[field.name] for field in dataclasses.fields(Experiment)}
    values = {}
    if config_file is not None:
        values = check_sections(read_yaml(config_file), sections, str(config_file))
    overriding = check_sections(parse_overrides(overrides), sections, OVERRIDE_SOURCE)
    for section, keys in overriding.items():
        values[section] = _merged(values.get(section, {}), keys)
    source = " with ".join(
        [str(config_file)] * (config_file is not None) + [OVERRIDE_SOURCE] * bool(overriding)
    )
    if "model" in values and "overrides" in values["model"]:
        values["model"]["overrides"] = _checked_model_fields(values["model"]["overrides"], source)
    experiment = Experiment()
    experiment.override(values, is_strict=False)  # `check_sections` was strict already
    _check_combinations(experiment, source)
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


def _checked_model_fields(fields: dict[str, Any], source: str) -> dict[str, Any]:
    known = [
        field.name
        for field in dataclasses.fields(MViTConfig)
        if field.name not in _DERIVED_MODEL_FIELDS
    ]
    for key in fields:
        name = f"model.overrides.{key}"
        if key in _DERIVED_MODEL_FIELDS:
            raise UserError(
                f"{source}: {name} cannot be set; it follows from {_DERIVED_MODEL_FIELDS[key]}"
            )
        if key not in known:
            hint = did_you_mean(str(key), known, "model.overrides.")
            raise UserError(f"{source}: unknown key '{name}'; {hint}")
    return check_fields(fields, MViTConfig, "model.overrides", source)


def _check_combinations(experiment: Experiment, source: str):
    """Refuses values that are each legal and together are not."""
    data, train = experiment.data, experiment.train
    try:
        config = experiment.model_config(num_classes=1)
        experiment.clip_sampling()
        experiment.preprocessing()
        experiment.augmentation()
    except UserError as error:
        # Under the name that the reader of the message can set.
        message = str(error).replace("input_shape", "model.input_shape")
        raise UserError(f"{source}: {message}") from error
    if config.image:
        raise UserError(
            f"{source}: model.name={experiment.model.name} is an image model; train.py trains "
            "on videos"
        )
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
