"""Starting a model from trained weights, whatever kind of thing holds them."""

import os
from pathlib import Path

import keras
from absl import logging

from mvit_tf.conversion import load_pytorch_weights
from mvit_tf.conversion.published import PublishedWeights, load_published_weights
from mvit_tf.data.preprocessing import Preprocessing
from mvit_tf.errors import UserError
from mvit_tf.factory import published_set
from mvit_tf.files import local_copy
from mvit_tf.remote_path import as_path
from mvit_tf.training.experiments.experiment import Experiment
from mvit_tf.training.experiments.files import package_weights
from mvit_tf.training.storage.checkpoints import CheckpointStore
from mvit_tf.urls import is_url
from mvit_tf.weights_file import SUFFIX, load_weights_file


def initial_weights(experiment: Experiment) -> str | PublishedWeights:
    """What `model.initial_weights` means; a published set must see the frames it was made for.

    Raises:
        UserError: no such set, or `data` gives pixels other values than the set's. Another
            interpolation is warned of.
    """
    source = experiment.model.initial_weights
    if is_url(source):
        return source
    # By name, so that a training is gone on with by another installation of the package.
    if source in package_weights():
        return os.fspath(package_weights()[source])
    try:
        published = published_set(experiment.model.name, source)
    except UserError as error:
        raise UserError(f"model.initial_weights: {error}") from error
    if published is None:
        return source
    prepared = experiment.preprocessing().to_dict()
    wrong = [
        f"data.{name}={published.preprocessing[name]}"
        for name in ("mean", "std", "channel_order")
        if list(published.preprocessing[name]) != list(prepared[name])
    ]
    if wrong:
        raise UserError(
            f"{published.model}'s weights {published.set!r} were trained on other pixel values; "
            f"set {', '.join(wrong)}"
        )
    resized = Preprocessing.from_dict(published.preprocessing).interpolation
    if resized != prepared["interpolation"]:
        logging.warning(
            f"{published.model}'s weights {published.set!r} were trained on frames resized by "
            f"data.interpolation={resized}; here it is {prepared['interpolation']}"
        )
    return published


def load_initial_weights(
    model: keras.Model, source: str | Path | PublishedWeights, *, reset_head: bool
):
    """Starts a model from trained weights.

    Args:
        model: built, not compiled: an optimizer's state that the source holds is of another
            training. Unchanged if this raises.
        source: a `.weights.h5` file; a model directory, whose best checkpoint is taken; a
            PyTorch checkpoint; or `PublishedWeights`. Of a pre-training (MaskFeat) an MViT takes
            the encoder, and what it leaves out is told.
        reset_head: leave the model's `head` as it is and load the rest.

    Raises:
        UserError: no such file, or it does not fit the model.
    """
    report = _load(model, source, "fresh" if reset_head else "load")
    if report is not None and "norm/gamma" in report.fresh:
        for line in str(report).splitlines():
            logging.info(f"initial     {line}")


def _load(model, source, head):
    """The ConversionReport of PyTorch weights or of an encoder; otherwise None."""
    if isinstance(source, PublishedWeights):
        return load_published_weights(model, source, head=head)
    source = as_path(source)
    if source.is_dir():
        inner = source / "checkpoints"
        with CheckpointStore(inner if inner.is_dir() else source).best() as checkpoint:
            return checkpoint.file.load(model, head=head)
    if not source.is_file():
        raise UserError(f"model.initial_weights: {source} does not exist")
    if source in package_weights().values():
        try:
            return load_weights_file(model, source, head=head)
        except UserError as error:
            random = "model.initial_weights=null,model.reset_head=false"
            raise UserError(f"{error}, or start it from random weights: {random}") from None
    if source.name.endswith(SUFFIX):
        return load_weights_file(model, source, head=head)
    with local_copy(source) as file:
        return load_pytorch_weights(model, file, head=head)
