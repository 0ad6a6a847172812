"""The weights that others have published, and how to get them into a model."""

import dataclasses
import difflib
import functools
import importlib.resources
import os
from pathlib import Path

import yaml

from mvit_tf.conversion.checkpoint_files import read_checkpoint
from mvit_tf.conversion.download import download
from mvit_tf.conversion.loading import load_pytorch_weights
from mvit_tf.errors import UserError
from mvit_tf.models import get_config, list_models

_TABLE = "published_weights.yaml"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """One published file.

    Attributes:
        model: name of the model it is for.
        set: name of the weights among those of the model, as `create_model(weights=...)` takes.
        address: where the file is.
        sha256: of the file, or the digits known of it; None where none were published.
        mebibytes: size of the file, None where unknown.
        fields: values of MViTConfig in which the model of the file differs from the named one.
        preprocessing: `size`, `short_side`, `mean`, `std`, `channel_order`: fields of
            `mvit_tf.data.transforms.Preprocessing`.
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
    address: str
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
    def file_name(self):
        """Name of the file in the cache, apart from those of other entries."""
        return f"{self.model}-{self.set}-{Path(self.address).name}"


@functools.cache
def published_weights():
    """All published weights: tuple of PublishedWeights."""
    text = importlib.resources.files("mvit_tf.conversion").joinpath(_TABLE).read_text("utf-8")
    return tuple(PublishedWeights(**entry) for entry in yaml.safe_load(text)["weights"])


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
        nearest = difflib.get_close_matches(str(model), list_models(), n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else "`mvit describe` lists them"
        raise UserError(f"unknown model {model!r}; {hint}")
    hints = [f"it has {', '.join(sets)}" if sets else "nobody has published any for it"]
    if models:
        hints.append(f"{name} is there for {', '.join(models)}")
    raise UserError(
        f"no published weights {name!r} for {model}: {'; '.join(hints)}; or give the path of a file"
    )


def cache_folder():
    """Where downloads are kept: `mvit_tf` under $KERAS_HOME or ~/.keras."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "mvit_tf"


def fetch_published_weights(entry):
    """The path of an entry's file, downloaded and checked if it is not in the cache yet.

    Raises:
        UserError: it cannot be had; see `download`.
    """
    path = cache_folder() / entry.file_name
    if not path.is_file():
        download(entry.address, path, sha256=entry.sha256, check=read_checkpoint)
    return path


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
