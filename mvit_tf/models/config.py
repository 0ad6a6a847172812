"""The numbers of an MViT: a few that a person chooses, and all that follow from them."""

import dataclasses
import difflib

from mvit_tf.errors import UserError
from mvit_tf.layers.attention import RESIDUAL_POOLING_MODES
from mvit_tf.layers.multiscale_block import skip_kernel
from mvit_tf.layers.token_pooling import POOL_MODES, pooled_grid
from mvit_tf.layers.tokens import grid_length

CHANNELS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockSpec:
    """Everything about one transformer block, derived by `MViTConfig.blocks`.

    Grids are (T, H, W); `relative_table_lengths` are rows of the temporal, height and width
    tables, None where an axis has none.
    """

    index: int
    stage: int
    input_dim: int
    attention_dim: int
    output_dim: int
    num_heads: int
    grid: tuple[int, int, int]
    query_grid: tuple[int, int, int]
    key_grid: tuple[int, int, int]
    query_kernel: tuple[int, int, int]
    query_stride: tuple[int, int, int]
    key_kernel: tuple[int, int, int]
    key_stride: tuple[int, int, int]
    relative_table_lengths: tuple[int | None, int | None, int | None]
    drop_path_rate: float

    @property
    def name(self):
        return f"block_{self.index:02d}"

    @property
    def head_dim(self):
        return self.attention_dim // self.num_heads

    @property
    def has_query_pooling(self):
        return max(self.query_kernel + self.query_stride) > 1

    @property
    def has_key_pooling(self):
        return max(self.key_kernel + self.key_stride) > 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class MViTConfig:
    """An MViT, MViTv2 or ViT for video, or for images when `image` is set.

    Attributes:
        input_size: (T, H, W) in frames and pixels; T is 1 for images.
        image: whether the model takes (H, W, 3) instead of (T, H, W, 3).
        num_classes: classes of the head.
        depths: blocks per stage; a stage has twice the channels and heads of the one before.
        embed_dim: channels of the first stage.
        num_heads: heads of the first stage.
        patch_kernel, patch_stride, patch_padding: the input cube, (T, H, W) each.
        query_stride: stride of the query pooling in a stage's first block (but stage 0).
        key_stride: stride of key and value pooling in stage 0; divided by `query_stride` at
            every later stage, at least 1, so that the key grid keeps its size.
        pool_kernel: kernel of the q, k, v pooling, or None for stride + 1 on strided axes.
        pool_mode: "conv" (depthwise convolution and norm), "max" or "avg".
        pool_every_query: whether queries are pooled at stride 1 in all other blocks too.
        widen_in: "mlp" (MViT: in a stage's last block) or "attention" (MViTv2: in the first).
        positions: absolute positions, "separate", "joint" or "none".
        relative_positions: "none", "space" or "space_time".
        residual_pooling: "none", "patches" or "all" (with the class token).
        class_token: whether there is one.
        readout: "class_token", "mean" (of normed tokens) or "mean_before_norm".
        qkv_bias: whether the q, k, v projection has a bias.
        mlp_ratio: hidden width of the MLP over its input's.
        drop_path_rate: stochastic depth of the last block; grows linearly from 0.
        head_dropout_rate: dropout before the head.

    Raises:
        UserError: a value out of its range, named with the legal one.
    """

    input_size: tuple[int, int, int] = (16, 224, 224)
    image: bool = False
    num_classes: int = 400
    depths: tuple[int, ...] = (1, 2, 11, 2)
    embed_dim: int = 96
    num_heads: int = 1
    patch_kernel: tuple[int, int, int] = (3, 7, 7)
    patch_stride: tuple[int, int, int] = (2, 4, 4)
    patch_padding: tuple[int, int, int] = (1, 3, 3)
    query_stride: tuple[int, int, int] = (1, 2, 2)
    key_stride: tuple[int, int, int] = (1, 8, 8)
    pool_kernel: tuple[int, int, int] | None = (3, 3, 3)
    pool_mode: str = "conv"
    pool_every_query: bool = False
    widen_in: str = "mlp"
    positions: str = "separate"
    relative_positions: str = "none"
    residual_pooling: str = "none"
    class_token: bool = True
    readout: str = "class_token"
    qkv_bias: bool = True
    mlp_ratio: float = 4.0
    drop_path_rate: float = 0.2
    head_dropout_rate: float = 0.5

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
        self._check_choices()
        self._check_triples()
        self._check_numbers()
        self._check_input_size()

    def _check_choices(self):
        choices = {
            "pool_mode": POOL_MODES,
            "widen_in": ("mlp", "attention"),
            "positions": ("separate", "joint", "none"),
            "relative_positions": ("none", "space", "space_time"),
            "residual_pooling": RESIDUAL_POOLING_MODES,
            "readout": ("class_token", "mean", "mean_before_norm"),
        }
        for name, legal in choices.items():
            if getattr(self, name) not in legal:
                raise UserError(f"{name} must be one of {legal}, got {getattr(self, name)!r}")
        if self.readout == "class_token" and not self.class_token:
            raise UserError(
                "readout='class_token' needs class_token=True; use readout='mean' without one"
            )

    def _check_triples(self):
        names = ("input_size", "patch_kernel", "patch_stride", "query_stride", "key_stride")
        if self.pool_kernel is not None:
            names += ("pool_kernel",)
        for name in (*names, "patch_padding"):
            value = getattr(self, name)
            lowest = 0 if name == "patch_padding" else 1
            if not (
                isinstance(value, tuple)
                and len(value) == 3
                and all(type(size) is int and size >= lowest for size in value)
            ):
                raise UserError(f"{name} must be three ints (T, H, W) >= {lowest}, got {value!r}")

    def _check_numbers(self):
        for name in ("num_classes", "embed_dim", "num_heads"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise UserError(f"{name} must be an int >= 1, got {value!r}")
        if not self.depths or not all(type(d) is int and d >= 1 for d in self.depths):
            raise UserError(f"depths must be ints >= 1, one a stage, got {self.depths!r}")
        if self.embed_dim % self.num_heads:
            raise UserError(
                f"embed_dim={self.embed_dim} must be a multiple of num_heads={self.num_heads}"
            )
        for name in ("drop_path_rate", "head_dropout_rate"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name} must be in [0, 1), got {getattr(self, name)!r}")
        if self.mlp_ratio <= 0:
            raise UserError(f"mlp_ratio must be above 0, got {self.mlp_ratio!r}")

    def _check_input_size(self):
        if self.image and self.input_size[0] != 1:
            raise UserError(f"an image model has T = 1, got input_size={self.input_size}")
        for axis, size, stride in zip("THW", self.input_size, self.patch_stride, strict=True):
            if size % stride:
                below = size // stride * stride
                fits = f"{below} or {below + stride}" if below else f"{stride}"
                raise UserError(
                    f"input_size {axis} = {size} must be a multiple of {stride} (the patch "
                    f"stride); the nearest that fit: {fits}"
                )
        kernels_fit = all(
            size + 2 * pad >= kernel
            for size, pad, kernel in zip(
                self.input_size, self.patch_padding, self.patch_kernel, strict=True
            )
        )
        if not kernels_fit:
            raise UserError(
                f"input_size={self.input_size} is smaller than patch_kernel={self.patch_kernel}"
            )

    @property
    def patch_grid(self):
        """(T, H, W) of the tokens that enter the first block."""
        return tuple(
            (size + 2 * pad - kernel) // stride + 1
            for size, pad, kernel, stride in zip(
                self.input_size,
                self.patch_padding,
                self.patch_kernel,
                self.patch_stride,
                strict=True,
            )
        )

    @property
    def output_dim(self):
        """Channels of the last block."""
        return self.embed_dim * 2 ** (len(self.depths) - 1)

    def sequence_length(self, grid):
        """Number of tokens on a grid, the class token included."""
        return grid_length(grid, self.class_token)

    def blocks(self):
        """The blocks, in order.

        Returns:
            tuple of BlockSpec.
        """
        specs = []
        # Released models size their position tables by plain division, which differs from
        # what the convolutions yield on odd grids (at 312x312).
        grid, nominal = self.patch_grid, self.patch_grid
        depth = sum(self.depths)
        starts = [sum(self.depths[:stage]) for stage in range(len(self.depths))]
        for stage, stage_depth in enumerate(self.depths):
            key_stride = self._key_stride(stage)
            for position in range(stage_depth):
                first = stage > 0 and position == 0
                last = position == stage_depth - 1 and stage < len(self.depths) - 1
                query_stride = self.query_stride if first else (1, 1, 1)
                query_kernel = (
                    self._kernel(query_stride) if first or self.pool_every_query else (1, 1, 1)
                )
                key_kernel = self._kernel(key_stride)
                width = self.embed_dim * 2**stage
                index = starts[stage] + position
                specs.append(
                    BlockSpec(
                        index=index,
                        stage=stage,
                        input_dim=width // 2 if first and self.widen_in == "attention" else width,
                        attention_dim=width,
                        output_dim=2 * width if last and self.widen_in == "mlp" else width,
                        num_heads=self.num_heads * 2**stage,
                        grid=grid,
                        query_grid=pooled_grid(grid, query_kernel, query_stride),
                        key_grid=pooled_grid(grid, key_kernel, key_stride),
                        query_kernel=query_kernel,
                        query_stride=query_stride,
                        key_kernel=key_kernel,
                        key_stride=key_stride,
                        relative_table_lengths=self._table_lengths(
                            nominal, query_stride, key_stride
                        ),
                        drop_path_rate=self.drop_path_rate * index / max(depth - 1, 1),
                    )
                )
                grid = specs[-1].query_grid
                nominal = tuple(
                    size // stride for size, stride in zip(nominal, query_stride, strict=True)
                )
        return tuple(specs)

    def _key_stride(self, stage):
        stride = self.key_stride
        for _ in range(stage):
            stride = tuple(
                max(size // query, 1) for size, query in zip(stride, self.query_stride, strict=True)
            )
        return stride

    def _kernel(self, stride):
        return skip_kernel(stride) if self.pool_kernel is None else self.pool_kernel

    def _table_lengths(self, nominal, query_stride, key_stride):
        if self.relative_positions == "none":
            return (None, None, None)
        spatial = [
            2 * max(size // query, size // key) - 1
            for size, query, key in zip(nominal[1:], query_stride[1:], key_stride[1:], strict=True)
        ]
        temporal = 2 * nominal[0] - 1 if self.relative_positions == "space_time" else None
        return (temporal, *spatial)

    def replace(self, **changes):
        """A copy with some fields changed.

        Raises:
            UserError: an unknown field, with the nearest known one; a value out of range.
        """
        names = [field.name for field in dataclasses.fields(self)]
        for key in changes:
            if key not in names:
                nearest = difflib.get_close_matches(key, names, n=1)
                hint = f"; did you mean {nearest[0]!r}?" if nearest else f"; known: {names}"
                raise UserError(f"unknown model field {key!r}{hint}")
        return dataclasses.replace(self, **changes)

    def to_dict(self):
        """Plain data for YAML and JSON; `MViTConfig().replace(**data)` reads it back."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }
