"""Where the experiments of `configs/` lie."""

from pathlib import Path

import mvit_tf


def find_config(name: str) -> Path:
    """The file of a configuration, as installed in the package or as it lies in a checkout.

    Args:
        name: file name, for example "demo.yaml".

    Raises:
        FileNotFoundError: neither place has it.
    """
    package = Path(mvit_tf.__file__).parent
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{name} is neither in {package / 'configs'} nor in the checkout")
