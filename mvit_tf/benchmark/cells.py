"""What is measured: cells, and who can take part in them."""

import dataclasses
import importlib.util

import numpy as np

from mvit_tf.errors import UserError

MODES = ("forward", "train")
DTYPES = ("float32", "bfloat16")
DEVICES = ("cpu", "gpu")
LEARNING_RATE, WEIGHT_DECAY, CLIP_NORM = 1e-4, 0.05, 1.0
MEAN, STD = 0.45, 0.225

# Wide enough for every kind of block, small enough for a smoke test.
QUICK_FIELDS = {
    "depths": (1, 2),
    "embed_dim": 32,
    "input_size": (4, 64, 64),
    "num_classes": 10,
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One comparison: the same work for all who take part.

    Attributes:
        model: name of the model.
        config: its MViTConfig. Without dropout and stochastic depth, so that all compute the
            same numbers in a training step too.
        mode: "forward", or "train": forward, backward, clipping of the gradient, AdamW.
        batch: clips in an iteration.
        dtype: "float32", or "bfloat16": mixed precision with float32 weights in training.
        device: "cpu" or "gpu".
    """

    model: str
    config: object
    mode: str
    batch: int
    dtype: str
    device: str = "cpu"

    @property
    def title(self):
        size = "x".join(map(str, self.config.input_size))
        where = "" if self.device == "cpu" else f", {self.device}"
        return f"{self.model} {size}, {self.mode}, batch {self.batch}, {self.dtype}{where}"

    def to_dict(self):
        return {**dataclasses.asdict(self), "config": self.config.to_dict()}

    @classmethod
    def from_dict(cls, fields):
        from mvit_tf.models import MViTConfig

        return cls(**{**fields, "config": MViTConfig().replace(**fields["config"])})


def benchmark_config(name, *, frames=None, size=None, quick=False):
    """The config of a named model as the benchmark runs it.

    Raises:
        UserError: an unknown name, or an input size that does not fit it.
    """
    from mvit_tf.models import get_config

    config = get_config(name).replace(drop_path_rate=0.0, head_dropout_rate=0.0)
    if quick:
        input_size = (1, 64, 64) if config.image else QUICK_FIELDS["input_size"]
        config = config.replace(**{**QUICK_FIELDS, "input_size": input_size})
    if frames is not None and not config.image:
        config = config.replace(input_size=(frames, *config.input_size[1:]))
    if size is not None:
        config = config.replace(input_size=(config.input_size[0], size, size))
    return config


@dataclasses.dataclass(frozen=True)
class Contestant:
    """An implementation, and a way to run it.

    Attributes:
        name: as on the command line and in tables.
        framework: "tensorflow", "jax" or "torch"; the module `<framework>_workload` runs it.
        style: what the framework's module makes of it.
        package: what has to be installed.
        peer: name of the implementation for those in PyTorch, also that of their weights' names.
        by_default: whether it takes part unasked.
    """

    name: str
    framework: str
    style: str
    package: str
    peer: str | None = None
    by_default: bool = True

    @property
    def factory(self):
        return f"mvit_tf.benchmark.{self.framework}_workload:build"

    def obstacle(self, cell):
        """Why it cannot take part in a cell, or None."""
        if self.style == "saved_model" and (cell.mode != "forward" or cell.config.image):
            return "a SavedModel serves the forward pass of video models"
        if self.style == "frozen" and cell.mode != "forward":
            return "weights that are constants are not trained"
        if self.style == "remat" and cell.mode != "train":
            return "rematerialisation changes training only"
        if self.framework == "tensorflow" and cell.device != "cpu":
            return "on a GPU, ours runs on JAX"
        missing = [
            package
            for package in dict.fromkeys((self.framework, self.package))
            if importlib.util.find_spec(package) is None
        ]
        return f"not installed: {', '.join(missing)}" if missing else None


CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        Contestant("ours", "tensorflow", "graph", "keras"),
        Contestant("ours-frozen", "tensorflow", "frozen", "keras"),
        Contestant("ours-remat", "tensorflow", "remat", "keras"),
        Contestant("ours-xla", "tensorflow", "xla", "keras", by_default=False),
        Contestant("ours-saved-model", "tensorflow", "saved_model", "keras"),
        Contestant("ours-jax", "jax", "jit", "keras", by_default=False),
        Contestant("torchvision", "torch", "eager", "torchvision", "torchvision"),
        Contestant("torchvision-compile", "torch", "compile", "torchvision", "torchvision"),
        Contestant("pytorchvideo", "torch", "eager", "pytorchvideo", "pytorchvideo"),
        Contestant("pytorchvideo-compile", "torch", "compile", "pytorchvideo", "pytorchvideo"),
        Contestant("timm", "torch", "eager", "timm", "timm"),
        Contestant("timm-compile", "torch", "compile", "timm", "timm"),
    )
}


def find_contestants(names, device):
    """The contestants of the given names; without names, the usual ones of a device.

    Raises:
        UserError: an unknown name.
    """
    if names:
        unknown = [name for name in names if name not in CONTESTANTS]
        if unknown:
            raise UserError(f"no contestant {unknown[0]!r}; there are {', '.join(CONTESTANTS)}")
        return [CONTESTANTS[name] for name in names]
    ours = "ours-jax" if device == "gpu" else None
    return [
        contestant
        for contestant in CONTESTANTS.values()
        if (contestant.by_default and (device == "cpu" or contestant.peer))
        or contestant.name == ours
    ]


def raw_frames(cell):
    """The cell's clips, uint8 (B, T, H, W, 3), or images (B, H, W, 3)."""
    config = cell.config
    size = config.input_size[1:] if config.image else config.input_size
    return np.random.default_rng(0).integers(0, 256, (cell.batch, *size, 3), np.uint8)


def normalised_frames(cell):
    """The same as the models take them, float32."""
    return ((raw_frames(cell) / 255 - MEAN) / STD).astype(np.float32)


def labels(cell):
    """A class for each clip, int64 (B,)."""
    return np.random.default_rng(1).integers(0, cell.config.num_classes, cell.batch)
