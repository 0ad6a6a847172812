"""Who can be measured: ours in several forms, of this checkout or another, and PyTorch's."""

import dataclasses
import importlib.util
import os

from mvit_tf.errors import UserError


@dataclasses.dataclass(frozen=True)
class Implementation:
    """An implementation, and a way to run it.

    Attributes:
        name: as on the command line and in tables.
        framework: "tensorflow", "jax" or "torch"; `<framework>_workload` runs it.
        style: what the framework's module makes of it.
        peer: name of the implementation for those in PyTorch, also that of their weights' names.
        package: for ours, another checkout to take it from.
    """

    name: str
    framework: str
    style: str
    peer: str | None = None
    package: str | None = None

    def obstacle(self, case):
        """Why it cannot take part in a case, or None."""
        if self.style == "saved_model" and (case.mode != "forward" or case.config().image):
            return "a SavedModel serves the forward pass of video models"
        if self.style == "frozen" and case.mode != "forward":
            return "weights that are constants are not trained"
        if self.style == "remat" and case.mode != "train":
            return "rematerialisation changes training only"
        if self.framework == "tensorflow" and case.device != "cpu":
            return "on a GPU, ours runs on JAX"
        wanted = [self.framework] + [self.peer] * bool(self.peer)
        missing = [name for name in wanted if importlib.util.find_spec(name) is None]
        return f"not installed: {', '.join(missing)}" if missing else None


_OURS = {
    "ours": ("tensorflow", "graph"),
    "ours-frozen": ("tensorflow", "frozen"),
    "ours-remat": ("tensorflow", "remat"),
    "ours-xla": ("tensorflow", "xla"),
    "ours-saved-model": ("tensorflow", "saved_model"),
    "ours-jax": ("jax", "jit"),
}
_PEERS = ("torchvision", "pytorchvideo", "timm")
NAMES = [*_OURS, *_PEERS, *(f"{peer}-compile" for peer in _PEERS)]


def find_implementation(name):
    """The implementation of a name; `ours...@FOLDER` is that of another checkout.

    Raises:
        UserError: an unknown name, or a folder without the package.
    """
    base, _, checkout = name.partition("@")
    if base not in NAMES or (checkout and base not in _OURS):
        raise UserError(f"no implementation {name!r}; there are {', '.join(NAMES)}, ours@FOLDER")
    if checkout and not os.path.isdir(os.path.join(checkout, "mvit_tf")):
        raise UserError(f"{name}: {checkout} holds no mvit_tf")
    if base in _OURS:
        return Implementation(name, *_OURS[base], package=checkout and os.path.abspath(checkout))
    peer, _, compiled = base.partition("-")
    return Implementation(name, "torch", compiled or "eager", peer)
