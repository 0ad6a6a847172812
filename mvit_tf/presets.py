"""Presets: a model as a folder in KerasHub's layout, written and read.

    config.json            the model without its head     model.weights.h5   its weights
    task.json              the model with its head        task.weights.h5    those of the head
    video_converter.json   what is done to frames         metadata.json      versions; written last

`task.json` and `task.weights.h5` are those of a model with classes; of an image model,
`image_converter.json` stands for `video_converter.json`.
"""

import datetime
import json
import os
from pathlib import Path

import keras

import mvit_tf
from mvit_tf.analysis.complexity import complexity
from mvit_tf.errors import UserError, did_you_mean
from mvit_tf.files import write_text_atomically
from mvit_tf.layers.dense import Dense
from mvit_tf.layers.video_converter import VideoConverter
from mvit_tf.models.config import MViTConfig
from mvit_tf.models.mvit import MViT
from mvit_tf.presets_hub import download_preset, is_hub_handle
from mvit_tf.remote_path import RemotePath, as_path
from mvit_tf.weights_file import SUFFIX, open_weights_file, save_weights_file

CONFIG_FILE = "config.json"
TASK_FILE = "task.json"
METADATA_FILE = "metadata.json"
WEIGHTS_FILE = f"model{SUFFIX}"
TASK_WEIGHTS_FILE = f"task{SUFFIX}"
VIDEO_CONVERTER_FILE = "video_converter.json"
IMAGE_CONVERTER_FILE = "image_converter.json"

_CLASS = "mvit_tf>MViT"
_LARGEST_JSON = 16 * 2**20
_MOST_BLOCKS = 1000
_FROM_TRAINING = ("compile_config", "build_config")


def save_to_preset(model: MViT, directory: str | os.PathLike):
    """Writes a model as a preset.

    Args:
        model: with or without a head. LoRA is merged; an optimizer's state is left out.
        directory: made if it is not there. A preset in it is replaced: its `metadata.json` goes
            first and the new one comes last, so that no half of each is ever read.

    Raises:
        UserError: another kind of model, a quantised one, or one with weights that are not finite.
    """
    if not isinstance(model, MViT):
        raise UserError(f"a preset holds an MViT, not a {type(model).__name__}")
    if any(getattr(layer, "quantization_mode", None) for layer in model._flatten_layers()):
        raise UserError(
            f"{model.name} is quantised, and a preset holds weights as trained: save it before "
            "`quantize`, or as a .keras file"
        )
    directory = as_path(directory)
    if isinstance(directory, Path):
        directory.mkdir(parents=True, exist_ok=True)
    # The converters of another kind of model would stay.
    for name in (METADATA_FILE, VIDEO_CONVERTER_FILE, IMAGE_CONVERTER_FILE):
        (directory / name).unlink(missing_ok=True)
    _save_weights(model, directory)
    config = _serialised(model)
    has_head = bool(model.config.num_classes)
    if has_head:
        _write(directory / TASK_FILE, config)
    else:
        (directory / TASK_FILE).unlink(missing_ok=True)
        (directory / TASK_WEIGHTS_FILE).unlink(missing_ok=True)
    fields = config["config"]
    fields = {**fields, "config": {**fields["config"], "num_classes": 0}, "class_names": None}
    _write(directory / CONFIG_FILE, {**config, "config": fields})
    image = model.config.image
    if model.preprocessing is not None:
        num_frames = None if image else model.config.input_size[0]
        converter = VideoConverter(model.preprocessing, num_frames=num_frames)
        name = IMAGE_CONVERTER_FILE if image else VIDEO_CONVERTER_FILE
        _write(directory / name, _serialised(converter))
    task = "ImageClassifier" if image else "VideoClassifier"
    metadata = {
        "keras_version": keras.version(),
        "mvit_tf_version": mvit_tf.__version__,
        "parameter_count": model.count_params(),
        "date_saved": datetime.datetime.now().strftime("%Y-%m-%d@%H:%M:%S"),
        "tasks": [task] if has_head else [],
    }
    _write(directory / METADATA_FILE, metadata)


def from_preset(
    preset: str | os.PathLike,
    *,
    num_classes: int | None = None,
    load_weights: bool = True,
    dtype=None,
) -> MViT:
    """Builds the model of a preset.

    Nothing in a preset is run as code, and its weights are loaded whole or not at all.

    Args:
        preset: folder of `save_to_preset`, or "hf://user/name" (also "hf://user/name@revision"),
            which needs the extra `hub`.
        num_classes: classes of a fresh head, 0 for none; the preset's own head when None.
        load_weights: False leaves all weights random.
        dtype: see `MViT`; the preset's own when None.

    Returns:
        An `MViT` with its preprocessing, sampling and class names.

    Raises:
        UserError: no preset there, one that is damaged or of another model, or a hub that refuses.
    """
    directory = download_preset(preset) if is_hub_handle(preset) else as_path(preset)
    if not directory.is_dir():
        raise UserError(
            f'no preset at {preset}: no such folder; give one of `save_to_preset`, or "hf://..."'
        )
    if not (directory / METADATA_FILE).is_file():
        missing = f"{METADATA_FILE} is missing, which is written last"
        raise UserError(f"no preset at {preset}, or half of one: {missing}")
    has_head = (directory / TASK_FILE).is_file()
    if not has_head and _tasks(directory / METADATA_FILE):
        raise UserError(f"half of a preset: {directory / TASK_FILE} is missing")
    path = directory / (TASK_FILE if has_head else CONFIG_FILE)
    fields = _model_fields(path)
    if has_head and not fields["config"].get("num_classes"):
        raise UserError(f"{path} is of a classifier, but has no classes")
    if num_classes is not None:
        if not isinstance(num_classes, int) or num_classes < 0:
            raise UserError(f"num_classes must be an integer, at least 0, got {num_classes!r}")
        fields["config"] = {**fields["config"], "num_classes": num_classes}
        fields["class_names"] = None
    if dtype is not None:
        fields["dtype"] = dtype
    try:
        config = MViTConfig(**fields.pop("config"))
        _refuse_inflated(config, directory / WEIGHTS_FILE)
        model = MViT(config, **fields)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path} does not describe an MViT: {error}") from error
    if load_weights:
        with open_weights_file(directory / WEIGHTS_FILE) as file:
            file.load(model, head="fresh")
        if has_head and num_classes is None:
            _load_head(model, directory / TASK_WEIGHTS_FILE)
    return model


def _save_weights(model: MViT, directory: Path | RemotePath):
    """Both weights files; the model's own layers get no further node."""
    config = model.config
    path = directory / WEIGHTS_FILE
    if not config.num_classes:
        save_weights_file(model, path, optimizer=False)
        return
    # By a file: what is saved of LoRA is the merged kernel.
    whole = directory / TASK_WEIGHTS_FILE
    save_weights_file(model, whole, optimizer=False)
    backbone = MViT(config.replace(num_classes=0), name=model.name, dtype=model._dtype)
    with open_weights_file(whole) as file:
        file.load(backbone, head="fresh")
    save_weights_file(backbone, path, optimizer=False)
    head = _head_of(config)
    trained = model.get_layer("head")
    head.set_weights([keras.ops.convert_to_numpy(w) for w in (trained.kernel, trained.bias)])
    save_weights_file(head, whole, optimizer=False)


def _load_head(model: MViT, path: Path | RemotePath):
    head = _head_of(model.config)
    with open_weights_file(path) as file:
        file.load(head)
    model.get_layer("head").set_weights(head.get_weights())


def _head_of(config: MViTConfig) -> keras.Model:
    """A head alone, whose weights have the names that they have in the whole model."""
    features = keras.Input([config.output_dim])
    head = Dense(config.num_classes, dtype="float32", name="head")
    return keras.Model(features, head(features))


def _serialised(layer: keras.Layer) -> dict:
    config = keras.saving.serialize_keras_object(layer)
    return {name: value for name, value in config.items() if name not in _FROM_TRAINING}


def _write(path: Path | RemotePath, values: dict):
    write_text_atomically(path, json.dumps(values, indent=4))


def _model_fields(path: Path | RemotePath) -> dict:
    """The arguments of `MViT` in a JSON file of a preset, with no object made of them.

    Raises:
        UserError: it is missing or damaged, or describes something else.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing")
    if isinstance(path, Path) and path.stat().st_size > _LARGEST_JSON:
        raise UserError(f"{path} is larger than {_LARGEST_JSON // 2**20} MiB: no config is")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        name, fields = values.get("registered_name"), dict(values["config"])
        fields["config"] = dict(fields["config"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is damaged, or none of a model: {error!r}") from None
    if name != _CLASS:
        raise UserError(f"{path} describes a {name or values.get('class_name')}, not an {_CLASS}")
    known = ("config", "remat", "dtype", "preprocessing", "sampling", "class_names", "multi_label",
             "name", "trainable")  # fmt: skip
    for key in fields:
        if key not in known:
            raise UserError(f"{path}: unknown key {key!r}, {did_you_mean(key, known)}")
    for key in ("preprocessing", "sampling"):
        if not isinstance(fields.get(key), dict | None):
            raise UserError(f"{path}: {key} is {fields[key]!r}, not a mapping")
    fields["dtype"] = _policy_name(path, fields.get("dtype"))
    return fields


def _tasks(path: Path | RemotePath) -> list:
    """The tasks that `METADATA_FILE` says a preset has."""
    try:
        return list(json.loads(path.read_text(encoding="utf-8")).get("tasks") or [])
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {error!r}") from None


def _policy_name(path, dtype):
    """The name of a serialised `DTypePolicy`."""
    if isinstance(dtype, dict):
        config = dtype.get("config")
        named = dtype.get("class_name") == "DTypePolicy" and isinstance(config, dict)
        dtype = named and config.get("name")
    if dtype is not None and not isinstance(dtype, str):
        raise UserError(f"{path}: the dtype must be one of Keras' policies by name")
    return dtype


def _refuse_inflated(config: MViTConfig, weights: Path | RemotePath):
    """Refuses a config of far more weights than come with it, before they take memory."""
    if sum(config.depths) > _MOST_BLOCKS:
        raise UserError(f"depths of {sum(config.depths)} blocks, at most {_MOST_BLOCKS} are read")
    if not isinstance(weights, Path) or not weights.is_file():
        return
    params = complexity(config.replace(num_classes=0)).params
    if params > weights.stat().st_size:
        raise UserError(
            f"its {params:,} parameters cannot be those of the {weights.stat().st_size:,} bytes "
            f"of {weights.name}"
        )
