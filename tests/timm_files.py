"""timm's modules of augmentation, each from its own file: `import timm` needs torchvision too."""

import importlib.util
from pathlib import Path


def timm_data(name):
    """The module `timm.data.<name>`."""
    root = Path(importlib.util.find_spec("timm").origin).parent
    spec = importlib.util.spec_from_file_location(f"timm_data_{name}", root / f"data/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
