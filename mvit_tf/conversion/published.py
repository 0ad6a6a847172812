"""The weights that others have published, and how to get them into a model."""

import copy
import dataclasses
import functools
import importlib.resources
import os
from pathlib import Path

import yaml
from absl import logging

from mvit_tf.conversion.checkpoint_files import read_checkpoint
from mvit_tf.conversion.download import download, sha256_of
from mvit_tf.conversion.loading import load_pytorch_weights
from mvit_tf.errors import UserError, did_you_mean
from mvit_tf.files import write_text_atomically
from mvit_tf.models import get_config, list_models

_PACKAGE = importlib.resources.files("mvit_tf.conversion")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """One published file.

    Attributes:
        model: name of the model it is for.
        set: name of the weights among those of the model, as `create_model(weights=...)` takes.
        url: where the file is.
        classes: name of the list of its classes; None where they have no published names.
        sha256: of the file, or the digits known of it; None where none were published.
        mebibytes: size of the file, None where unknown.
        fields: values of MViTConfig in which the model of the file differs from the named one.
        preprocessing: `size`, `short_side`, `mean`, `std`, `channel_order` and, of images,
            `interpolation`: fields of `mvit_tf.data.transforms.Preprocessing`.
        sampling: `num_frames`, `sampling_rate`, `target_fps`, `rule`: how the frames of a clip
            are picked; empty for images.
        views: `temporal` and `spatial` views over which the score was averaged.
        top1, top5: the reported score in per cent; None where none was reported.
        licence: under which it is published.
        source: whose table reports it.
        note: what else to know.
    """

    model: str
    set: str
    url: str
    classes: str | None = None
    sha256: str | None = None
    mebibytes: float | None = None
    fields: dict = dataclasses.field(default_factory=dict)
    preprocessing: dict
    sampling: dict = dataclasses.field(default_factory=dict)
    views: dict
    top1: float | None = None
    top5: float | None = None
    licence: str
    source: str
    note: str = ""

    @property
    def config(self):
        """The MViTConfig of the file."""
        return get_config(self.model).replace(**self.fields)

    @property
    def class_names(self):
        """Names of the classes in the order of the head, a tuple; None where there are none."""
        return self.classes and load_class_list(self.classes)

    @property
    def file_name(self):
        """Name of the file in the cache, apart from those of other entries."""
        return f"{self.model}-{self.set}-{Path(self.url).name}"


def published_weights():
    """All published weights: tuple of PublishedWeights, the caller's own."""
    # Copied one by one: what YAML's anchors repeat is one object in all the places.
    return tuple(PublishedWeights(**copy.deepcopy(entry)) for entry in _table())


@functools.cache
def _table():
    return yaml.safe_load(_PACKAGE.joinpath("published_weights.yaml").read_text("utf-8"))["weights"]


@functools.cache
def load_class_list(name):
    """The class names of a data set, in the order of the released heads.

    Args:
        name: "kinetics400", "kinetics600", "ssv2" or "imagenet1k".

    Returns:
        tuple of str.
    """
    text = _PACKAGE.joinpath("class_names", f"{name}.txt").read_text("utf-8")
    return tuple(text.splitlines())


def find_published_weights(model, name):
    """The published weights of a model by the name of their set.

    Raises:
        UserError: the model has no such set; with the sets it has, or the models that have it.
    """
    entries = published_weights()
    for entry in entries:
        if (entry.model, entry.set) == (model, name):
            return entry
    sets = [entry.set for entry in entries if entry.model == model]
    models = [entry.model for entry in entries if entry.set == name]
    if model not in list_models():
        raise UserError(f"unknown model {model!r}; {did_you_mean(model, list_models())}")
    hints = [f"it has {', '.join(sets)}" if sets else "nobody has published any for it"]
    if models:
        hints.append(f"{name} is there for {', '.join(models)}")
    raise UserError(
        f"no published weights {name!r} for {model}: {'; '.join(hints)}; or give the path of a file"
    )


def find_published_file(model, path):
    """The published weights of a model that a file is by its name; None for any other file."""
    name = Path(path).name
    for entry in published_weights():
        if entry.model == model and name in (Path(entry.url).name, entry.file_name):
            return entry
    return None


def cache_folder():
    """Where downloads are kept: `mvit_tf` under $KERAS_HOME or ~/.keras."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "mvit_tf"


def fetch_published_weights(entry):
    """The path of an entry's file, from the cache or downloaded, and checked each time.

    Beside the file lies its SHA-256 as of the download, as `sha256sum -c` reads it: what the
    table does not know is trusted at its first arrival.

    Raises:
        UserError: it cannot be had; see `download`.
    """
    path = cache_folder() / entry.file_name
    record = path.with_name(f"{path.name}.sha256")
    if path.is_file():
        known = [entry.sha256 or "", record.read_text("utf-8") if record.is_file() else ""]
        digest = sha256_of(path)
        if all(digest.startswith(text.split(" ")[0]) for text in known) and _is_readable(path):
            if not record.is_file():
                _write_record(record, digest)
            return path
        logging.warning(f"{path} is damaged; it is downloaded again")
    digest = download(entry.url, path, sha256=entry.sha256, check=read_checkpoint)
    _write_record(record, digest)
    return path


def _write_record(record, digest):
    write_text_atomically(record, f"{digest}  {record.stem}\n")


def _is_readable(path):
    try:
        read_checkpoint(path)
    except UserError:
        return False
    return True


def load_published_weights(model, entry, **options):
    """Downloads published weights and loads them into a model.

    Args:
        model: a `keras.Model` of `build_mvit(entry.config)`, of another input size or number of
            classes if need be.
        entry: PublishedWeights.
        **options: of `load_pytorch_weights`.

    Returns:
        ConversionReport.

    Raises:
        UserError: the file cannot be had, or does not fit the model.
    """
    return load_pytorch_weights(model, fetch_published_weights(entry), **options)
