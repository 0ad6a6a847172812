"""The files that say an experiment: one of the package by its name, and those it builds upon."""

import importlib.resources
from collections.abc import Collection
from pathlib import Path
from typing import Any

import mvit_tf
from mvit_tf.errors import UserError, did_you_mean
from mvit_tf.remote_path import RemotePath, as_path
from mvit_tf.training.experiments.text import read_yaml
from mvit_tf.urls import absolute, is_url, join, parent

BASE = "base"
WEIGHTS_SUFFIX = ".weights.h5"  # `mvit_tf.weights_file` is slow to import


def package_configs() -> dict[str, Path]:
    """The files of the experiments that come with the package, by name."""
    return {path.stem: path for path in sorted(_package_folder().glob("*.yaml"))}


def package_weights() -> dict[str, Path]:
    """The weights that come with some of these experiments, by the experiment's name."""
    files = sorted(_package_folder().glob(f"*{WEIGHTS_SUFFIX}"))
    return {path.name.removesuffix(WEIGHTS_SUFFIX): path for path in files}


def _package_folder() -> Path:
    """Installed in the package, or beside it in a checkout."""
    installed = Path(str(importlib.resources.files(mvit_tf) / "configs"))
    return installed if installed.is_dir() else installed.parents[1] / "configs"


def read_with_bases(
    path: str | Path, text_keys: Collection[str]
) -> list[tuple[str, dict[str, Any]]]:
    """What a file says, and before it what the files say that its key `base` leads to.

    Args:
        path: YAML file of an experiment.
        text_keys: see `read_yaml`.

    Returns:
        (file, mapping without `base`) of each, the one that builds upon no other first.

    Raises:
        UserError: one of the files is missing or no YAML, or they build upon each other.
    """
    found, seen = [], []
    while path is not None:
        file = absolute(str(path))
        if file in seen:
            chain = " -> ".join([*seen[seen.index(file) :], file])
            raise UserError(
                f"{seen[-1]}: base leads back to where it began: {chain}; take one of them out"
            )
        seen.append(file)
        values = read_yaml(path, (*text_keys, BASE))
        base = values.pop(BASE, None)
        found.append((str(path), values))
        path = None if base is None else _base_of(path, base)
    return found[::-1]


def _base_of(path: str | Path, base: Any) -> str | Path | RemotePath:
    """The file that `base` in the file `path` stands for."""
    if not isinstance(base, str) or not base:
        raise UserError(
            f"{path}: base={base!r} must be the name of an experiment of the package or a file"
        )
    beside = base if is_url(base) else join(parent(str(path)), base)
    configs = package_configs()
    if as_path(beside).is_file():
        return as_path(beside)
    if base.removesuffix(".yaml") in configs:
        return configs[base.removesuffix(".yaml")]
    raise UserError(
        f"{path}: base={base} is neither a file ({beside}) nor an experiment of the package; "
        f"{did_you_mean(base.removesuffix('.yaml'), sorted(configs))}"
    )
