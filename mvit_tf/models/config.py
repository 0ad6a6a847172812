"""The numbers of an MViT: a few that a person chooses, and all that follow from them."""

import dataclasses
import functools
import math
import numbers
import warnings

from mvit_tf.errors import FormerNameWarning, UserError, did_you_mean
from mvit_tf.geometry import (
    CHANNELS,
    POOL_MODES,
    RESIDUAL_POOLING_MODES,
    convolved_size,
    pooled_grid,
    sequence_length,
    skip_kernel,
)


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
    """An MViT, MViTv2 or ViT for video or images.

    Attributes:
        input_shape: (T, H, W, 3) in frames and pixels, or (H, W, 3) for an image model.
        num_classes: classes of the head; 0 for no head, the model's output being the features.
        depths: blocks per stage; a stage has twice the channels and heads of the one before.
        embed_dim: channels of the first stage.
        num_heads: heads of the first stage.
        patch_kernel, patch_stride, patch_padding: the input cube, (T, H, W) each.
        query_stride: stride of the query pooling in a stage's first block (but stage 0).
        last_query_stride: the same of the last stage, `query_stride` where None; (1, 1, 1) keeps
            its grid, as MaskFeat does (arXiv 2112.09133).
        key_stride: stride of key and value pooling in stage 0; divided by `query_stride` at
            every later stage, at least 1, so that the key grid keeps its size.
        pool_kernel: kernel of the q, k, v pooling, or None for stride + 1 on strided axes.
        pool_mode: "conv" (depthwise convolution and norm), "max" or "avg".
        pool_every_query: whether queries are pooled at stride 1 in all other blocks too.
        expand_in: where the channels double, "mlp" (MViT: in a stage's last block) or
            "attention" (MViTv2: in the first).
        positions: absolute positions, "separate", "joint" or "none".
        relative_positions: "none", "space" or "space_time".
        residual_pooling: "none", "patches" or "all" (with the class token).
        class_token: whether there is one.
        readout: "class_token", "mean" (of normed tokens) or "mean_before_norm".
        qkv_bias: whether the q, k, v projection has a bias.
        normalized_skip: whether a skip path that changes the channels projects the normed tokens,
            as all released models do (MViT, Table A.1), or the tokens as they are.
        mlp_ratio: hidden width of the MLP over its input's.
        drop_path_rate: stochastic depth of the last block; grows linearly from 0.
        head_dropout_rate: dropout before the head.
        head_init_scale: what the initial weights of the head are multiplied by.

    Raises:
        UserError: a value out of its range, named with the legal one.
    """

    input_shape: tuple[int, ...] = (16, 224, 224, 3)
    num_classes: int = 400
    depths: tuple[int, ...] = (1, 2, 11, 2)
    embed_dim: int = 96
    num_heads: int = 1
    patch_kernel: tuple[int, int, int] = (3, 7, 7)
    patch_stride: tuple[int, int, int] = (2, 4, 4)
    patch_padding: tuple[int, int, int] = (1, 3, 3)
    query_stride: tuple[int, int, int] = (1, 2, 2)
    last_query_stride: tuple[int, int, int] | None = None
    key_stride: tuple[int, int, int] = (1, 8, 8)
    pool_kernel: tuple[int, int, int] | None = (3, 3, 3)
    pool_mode: str = "conv"
    pool_every_query: bool = False
    expand_in: str = "mlp"
    positions: str = "separate"
    relative_positions: str = "none"
    residual_pooling: str = "none"
    class_token: bool = True
    readout: str = "class_token"
    qkv_bias: bool = True
    normalized_skip: bool = True
    mlp_ratio: float = 4.0
    drop_path_rate: float = 0.2
    head_dropout_rate: float = 0.5
    head_init_scale: float = 1.0

    def __post_init__(self):
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _plain(getattr(self, field.name)))
        self._check_choices()
        self._check_sizes()
        self._check_numbers()
        self._check_input_shape()
        self._check_grids()

    def _check_choices(self):
        choices = {
            "pool_mode": POOL_MODES,
            "expand_in": ("mlp", "attention"),
            "positions": ("separate", "joint", "none"),
            "relative_positions": ("none", "space", "space_time"),
            "residual_pooling": RESIDUAL_POOLING_MODES,
            "readout": ("class_token", "mean", "mean_before_norm"),
            **dict.fromkeys(
                ("pool_every_query", "class_token", "qkv_bias", "normalized_skip"), (True, False)
            ),
        }
        for name, legal in choices.items():
            value = getattr(self, name)
            if type(value) is not type(legal[0]) or value not in legal:
                raise UserError(f"{name} must be one of {legal}, got {value!r}")
        if self.readout == "class_token" and not self.class_token:
            raise UserError(
                "readout='class_token' needs class_token=True; use readout='mean' without one"
            )

    def _check_sizes(self):
        names = ("patch_kernel", "patch_stride", "query_stride", "key_stride", "patch_padding")
        names += tuple(
            name for name in ("pool_kernel", "last_query_stride") if getattr(self, name) is not None
        )
        for name in names:
            lowest = 0 if name == "patch_padding" else 1
            if not _are_ints(getattr(self, name), lowest, length=3):
                raise UserError(
                    f"{name} must be three ints (T, H, W) >= {lowest}, got {getattr(self, name)!r}"
                )
        if not _are_ints(self.depths, 1) or not self.depths:
            raise UserError(f"depths must be ints >= 1, one a stage, got {self.depths!r}")

    def _check_numbers(self):
        for name, lowest in (("num_classes", 0), ("embed_dim", 1), ("num_heads", 1)):
            if not _are_ints((getattr(self, name),), lowest):
                raise UserError(f"{name} must be an int >= {lowest}, got {getattr(self, name)!r}")
        if self.embed_dim % self.num_heads:
            raise UserError(
                f"embed_dim={self.embed_dim} must be a multiple of num_heads={self.num_heads}"
            )
        for name in ("drop_path_rate", "head_dropout_rate", "mlp_ratio", "head_init_scale"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise UserError(f"{name} must be a number, got {value!r}")
            # Comparisons with NaN are false.
            if name.endswith("_rate") and not 0 <= value < 1:
                raise UserError(f"{name} must be in [0, 1), got {value!r}")
        if not (math.isfinite(self.head_init_scale) and self.head_init_scale >= 0):
            raise UserError(
                f"head_init_scale must be finite and at least 0, got {self.head_init_scale!r}"
            )
        if not (math.isfinite(self.mlp_ratio) and self.embed_dim * self.mlp_ratio >= 1):
            raise UserError(
                f"mlp_ratio must be finite and give at least one hidden unit for "
                f"embed_dim={self.embed_dim}, got {self.mlp_ratio!r}"
            )

    def _check_input_shape(self):
        shape = self.input_shape
        if not _are_ints(shape, 1) or len(shape) not in (3, 4) or shape[-1] != CHANNELS:
            raise UserError(
                f"input_shape must be (T, H, W, {CHANNELS}) for video or (H, W, {CHANNELS}) for "
                f"images, got {shape!r}"
            )
        for axis, size, stride, pad, kernel in zip(
            "THW",
            self.input_size,
            self.patch_stride,
            self.patch_padding,
            self.patch_kernel,
            strict=True,
        ):
            if size % stride:
                below = size // stride * stride
                fits = f"{below} or {below + stride}" if below else f"{stride}"
                raise UserError(
                    f"input_shape={shape}: {axis} = {size} must be a multiple of {stride} (the "
                    f"patch stride); the nearest that fit: {fits}"
                )
            if size + 2 * pad < kernel:
                raise UserError(
                    f"input_shape={shape} is smaller than patch_kernel={self.patch_kernel}"
                )

    def _check_grids(self):
        for spec in self.blocks():
            skip = pooled_grid(spec.grid, skip_kernel(spec.query_stride), spec.query_stride)
            if skip != spec.query_grid:
                raise UserError(
                    f"{spec.name}: queries pooled by kernel {spec.query_kernel} and stride "
                    f"{spec.query_stride} lie on the grid {spec.query_grid}, the skip path on "
                    f"{skip}; use an odd pool_kernel, or another query_stride or input_shape"
                )
            if any(length is not None and length < 1 for length in spec.relative_table_lengths):
                raise UserError(
                    f"input_shape={self.input_shape} leaves no grid in {spec.name} for relative "
                    "positions; use a larger one"
                )

    @property
    def image(self):
        """Whether the model takes images."""
        return len(self.input_shape) == 3

    @property
    def input_size(self):
        """(T, H, W) of the input; T is 1 for images."""
        return (1, *self.input_shape[:-1])[-3:]

    @property
    def patch_grid(self):
        """(T, H, W) of the tokens that enter the first block."""
        return tuple(
            convolved_size(*axis)
            for axis in zip(
                self.input_size,
                self.patch_kernel,
                self.patch_stride,
                self.patch_padding,
                strict=True,
            )
        )

    @property
    def output_dim(self):
        """Channels of the last block."""
        return self.embed_dim * 2 ** (len(self.depths) - 1)

    def sequence_length(self, grid):
        """Number of tokens on a grid, the class token included."""
        return sequence_length(grid, self.class_token)

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
                query_stride = self._query_stride(stage) if first else (1, 1, 1)
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
                        input_dim=width // 2 if first and self.expand_in == "attention" else width,
                        attention_dim=width,
                        output_dim=2 * width if last and self.expand_in == "mlp" else width,
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

    def _query_stride(self, stage):
        last = stage == len(self.depths) - 1
        return self.last_query_stride if last and self.last_query_stride else self.query_stride

    def _key_stride(self, stage):
        stride = self.key_stride
        for later in range(1, stage + 1):
            stride = tuple(
                max(size // query, 1)
                for size, query in zip(stride, self._query_stride(later), strict=True)
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
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return MViTConfig(**{**fields, **_current_names(changes, self.input_shape)})

    def to_dict(self):
        """Plain data for YAML and JSON; `MViTConfig(**data)` reads it back."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }


FIELDS = tuple(field.name for field in dataclasses.fields(MViTConfig))


def _accept_former_names(config_class):
    """Makes the constructor take the field names of version 0.1 too, with a warning."""
    construct = config_class.__init__

    @functools.wraps(construct)
    def __init__(self, **fields):
        construct(self, **_current_names(fields))

    config_class.__init__ = __init__
    return config_class


def _current_names(fields, shape=MViTConfig.input_shape):
    """Fields of `MViTConfig` from those of this version or of version 0.1.

    Args:
        fields: by name.
        shape: the input shape that former fields change a part of.

    Raises:
        UserError: an unknown name.
    """
    fields = dict(fields)
    if "widen_in" in fields:
        _warn_of_former_name("widen_in", "expand_in")
        fields["expand_in"] = fields.pop("widen_in")
    if "input_size" in fields or "image" in fields:
        _warn_of_former_name("input_size and image", "input_shape=(T, H, W, 3) or (H, W, 3)")
        image = fields.pop("image", len(shape) == 3)
        size = tuple(fields.pop("input_size", (1, *shape[:-1])[-3:]))
        fields["input_shape"] = (*(size[1:] if image else size), CHANNELS)
    for name in fields:
        if name not in FIELDS:
            raise UserError(f"unknown model field {name!r}; {did_you_mean(name, FIELDS)}")
    return fields


def _warn_of_former_name(former, current):
    warnings.warn(f"{former} of MViTConfig is now {current}", FormerNameWarning, stacklevel=4)


_accept_former_names(MViTConfig)


def _plain(value):
    """Lists as tuples and integers of other libraries as Python's."""
    if isinstance(value, list | tuple):
        return tuple(_plain(element) for element in value)
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return int(value) if is_integer else value


def _are_ints(values, lowest, length=None):
    return (
        isinstance(values, tuple)
        and length in (None, len(values))
        and all(type(value) is int and value >= lowest for value in values)
    )
