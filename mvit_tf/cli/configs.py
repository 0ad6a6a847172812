"""The experiments that come with the package, by name."""

from pathlib import Path

from mvit_tf.errors import UserError, did_you_mean
from mvit_tf.remote_path import RemotePath, as_path
from mvit_tf.training.experiments.files import package_configs
from mvit_tf.urls import is_url


def find_config(name: str) -> Path | RemotePath:
    """The file of an experiment.

    Args:
        name: path of a file, or the name of an experiment of the package: "finetune" or
            "finetune.yaml".

    Raises:
        UserError: there is neither.
    """
    if is_url(name):
        return as_path(name)
    if Path(name).is_file():
        return Path(name)
    configs = package_configs()
    if name.removesuffix(".yaml") in configs:
        return configs[name.removesuffix(".yaml")]
    if Path(name).is_dir():
        raise UserError(f"config file {name} is a folder; give a YAML file in it")
    if Path(name).name != name:
        raise UserError(f"config file {name} does not exist")
    raise UserError(
        f"there is no config {name!r}, neither a file nor one of the package; "
        f"{did_you_mean(name.removesuffix('.yaml'), sorted(configs))}"
    )
