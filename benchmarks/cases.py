"""What is computed: one model, mode, batch and type, the same for all implementations.

Workers run it with the `mvit_tf` of other checkouts too: only public names here.
"""

import dataclasses
import zlib

import numpy as np

MODES = ("forward", "train")
DTYPES = ("float32", "bfloat16")
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
LEARNING_RATE, WEIGHT_DECAY, CLIP_NORM = 1e-4, 0.05, 1.0
MEAN, STD = 0.45, 0.225
_WEIGHT_SCALE = 0.02

# Wide enough for every kind of block, small enough for a smoke test.
_TINY_FIELDS = {"depths": (1, 2), "embed_dim": 32, "num_classes": 10}
_TINY_FRAMES, _TINY_SIZE = 4, 64


@dataclasses.dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        model: name of the model; without dropout and stochastic depth, so that all compute the
            same numbers in a training step too.
        mode: "forward", or "train": forward, backward, clipping of the gradient, AdamW.
        batch: clips in an iteration.
        dtype: "float32", or "bfloat16": mixed precision with float32 weights in training.
        device: "cpu" or "gpu".
        frames, size: of the input; the model's own when None.
        tiny: a model of few and narrow blocks.
    """

    model: str
    mode: str = "forward"
    batch: int = 1
    dtype: str = "float32"
    device: str = "cpu"
    frames: int | None = None
    size: int | None = None
    tiny: bool = False

    @property
    def title(self):
        size = "x".join(map(str, self.config().input_size))
        where = "" if self.device == "cpu" else f", {self.device}"
        return f"{self.model} {size}, {self.mode}, batch {self.batch}, {self.dtype}{where}"

    def config(self):
        """The MViTConfig.

        Raises:
            UserError: an unknown name, or an input size that does not fit it.
        """
        import mvit_tf

        fields = {"drop_path_rate": 0.0, "head_dropout_rate": 0.0}
        config = mvit_tf.get_config(self.model).replace(**fields)
        frames, height, width = config.input_size
        if self.tiny:
            config = config.replace(**_TINY_FIELDS)
            frames, height, width = _TINY_FRAMES, _TINY_SIZE, _TINY_SIZE
        frames = 1 if config.image else self.frames or frames
        height, width = self.size or height, self.size or width
        if not hasattr(config, "input_shape"):  # another checkout, of before that field
            return config.replace(input_size=(frames, height, width))
        shape = (height, width, 3) if config.image else (frames, height, width, 3)
        return config.replace(input_shape=shape)

    def build_model(self, **options):
        """Our model with the weights that all share."""
        import mvit_tf

        model = mvit_tf.build_mvit(self.config(), dtype=POLICIES[self.dtype], **options)
        for variable in model.weights:
            # Noise in all of them: what starts at zero would be compared with nothing.
            noise = np.random.default_rng(zlib.crc32(variable.path.encode()))
            values = _WEIGHT_SCALE * noise.standard_normal(variable.shape)
            variable.assign((values + variable.path.endswith("gamma")).astype("float32"))
        return model

    def raw_frames(self):
        """The clips, uint8 (B, T, H, W, 3), or images (B, H, W, 3)."""
        config = self.config()
        size = config.input_size[1:] if config.image else config.input_size
        return np.random.default_rng(0).integers(0, 256, (self.batch, *size, 3), np.uint8)

    def normalised_frames(self):
        """The same as the models take them, float32."""
        return ((self.raw_frames() / 255 - MEAN) / STD).astype(np.float32)

    def labels(self):
        """A class for each clip, int64 (B,)."""
        return np.random.default_rng(1).integers(0, self.config().num_classes, self.batch)

    def targets(self):
        """The labels one-hot, float32 (B, num_classes)."""
        return np.eye(self.config().num_classes, dtype=np.float32)[self.labels()]


def write_state_dict(*, case, layout, path):
    """The weights that all share in a PyTorch layout, as an `.npz` file."""
    import mvit_tf

    np.savez(path, **mvit_tf.to_pytorch_state_dict(Case(**case).build_model(), layout))
