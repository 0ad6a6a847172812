"""Which model a set of weights belongs to, told by the names and shapes of its variables."""

import dataclasses
import math

from mvit_tf.conversion.names import split_block
from mvit_tf.errors import UserError
from mvit_tf.models import get_config, list_models

_UNKNOWN = "unknown"
_POOLING = "pooling convolutions"
# Fields that vary among released files of one named model, and that the weights tell.
_TOLD_FIELDS = ("class_token", "expand_in", "qkv_bias")


@dataclasses.dataclass(frozen=True)
class Variant:
    """The facts that tell models apart; equal for weights and the model that they fit.

    Attributes:
        structure: what -> value, for people to read; `_UNKNOWN` where weights do not tell.
        tokens: (T, H*W) tokens that the position tables are for, None each where unknown.
        num_classes: of the head; None without one.
    """

    structure: dict
    tokens: tuple[int | None, int | None]
    num_classes: int | None

    def differences(self, other):
        """One phrase for everything in which `other` is different, `self` named first."""
        return [
            f"{what} {_show(value)} against {_show(other.structure[what])}"
            for what, value in self.structure.items()
            if _UNKNOWN not in (value, other.structure[what]) and value != other.structure[what]
        ]


def variant_of_shapes(shapes):
    """The variant of variable paths -> shapes, of a model or of a converted file."""
    blocks = {}
    for path, shape in shapes.items():
        index, rest = split_block(path)
        if index is not None:
            blocks.setdefault(index, {})[rest] = shape
    blocks = [blocks[index] for index in sorted(blocks)]
    widths = [block["attn/proj/kernel"][0] for block in blocks if "attn/proj/kernel" in block]
    tables = [f"attn/relative_positions/{axis}" for axis in ("temporal", "height", "width")]
    first = blocks[0] if blocks else {}
    relative = [table in first for table in tables]
    structure = {
        "patch kernel": shapes.get("patch_embed/kernel", (_UNKNOWN,) * 3)[:3],
        "depth": len(blocks),
        "width": widths[0] if widths else _UNKNOWN,
        "blocks per stage": _runs(widths),
        "query pooling in blocks": _pools(blocks, "q"),
        "key pooling in blocks": _pools(blocks, "k"),
        "value pooling in blocks": _pools(blocks, "v"),
        _POOLING: _kernels(blocks) != _UNKNOWN,
        "pooling kernels": _kernels(blocks),
        "channels per head": _head_channels(blocks),
        "channels expand in": _expansion(blocks),
        "absolute positions": _absolute(shapes),
        "relative positions": {(0, 1, 1): "space", (1, 1, 1): "space_time"}.get(
            tuple(map(int, relative)), "none"
        ),
        "class token": "class_token/token" in shapes,
        "q, k, v bias": "attn/qkv/bias" in first,
    }
    if not structure[_POOLING]:
        for what in ("query", "key", "value"):
            structure[f"{what} pooling in blocks"] = _UNKNOWN
    head = shapes.get("head/bias")
    return Variant(structure, _tokens(shapes, first, tables), head[0] if head else None)


def variant_of_config(config):
    """The variant that the variables of `build_mvit(config)` have."""
    specs = config.blocks()
    conv = config.pool_mode == "conv"
    pooled = {
        "query": [spec.index for spec in specs if spec.has_query_pooling],
        "key": [spec.index for spec in specs if spec.has_key_pooling],
    }
    pooled["value"] = pooled["key"]
    kernels = {spec.query_kernel for spec in specs if spec.has_query_pooling}
    kernels |= {spec.key_kernel for spec in specs if spec.has_key_pooling}
    heads = config.relative_positions != "none" or (conv and kernels)
    expands = len(config.depths) > 1
    structure = {
        "patch kernel": config.patch_kernel,
        "depth": len(specs),
        "width": specs[0].attention_dim,
        "blocks per stage": tuple(config.depths),
        **{
            f"{what} pooling in blocks": tuple(blocks) if conv and kernels else _UNKNOWN
            for what, blocks in pooled.items()
        },
        _POOLING: bool(conv and kernels),
        "pooling kernels": tuple(sorted(kernels)) if conv and kernels else _UNKNOWN,
        "channels per head": specs[0].head_dim if heads else _UNKNOWN,
        "channels expand in": config.expand_in if expands else _UNKNOWN,
        "absolute positions": config.positions,
        "relative positions": config.relative_positions,
        "class token": config.class_token,
        "q, k, v bias": config.qkv_bias,
    }
    frames, height, width = config.patch_grid
    if config.positions == "joint":
        tokens = (None, None) if frames > 1 else (1, height * width)
    elif config.positions == "separate" or config.relative_positions == "space_time":
        tokens = (frames, height * width)
    else:
        tokens = (None, height * width if config.relative_positions == "space" else None)
    return Variant(structure, tokens, config.num_classes)


def nearest_model(variant):
    """The named model that a variant is of, or comes closest to.

    Returns:
        (name, config, differences): the config is the named one with the fields that the
        weights tell set to theirs; `differences` are phrases, file first, and empty where the
        weights fit.
    """
    ranked = []
    for name in list_models():
        config = get_config(name)
        told = {
            field: value
            for field, value in _told_fields(variant).items()
            if value != getattr(config, field)
        }
        if "class_token" in told:
            told["readout"] = "class_token" if told["class_token"] else "mean"
        adapted = config.replace(**told)
        expected = variant_of_config(adapted)
        differences = variant.differences(expected)
        other_size = sum(
            None not in pair and pair[0] != pair[1]
            for pair in zip(variant.tokens, expected.tokens, strict=True)
        )
        other_classes = variant.num_classes != expected.num_classes
        rank = (len(differences), len(told), other_size, other_classes)
        ranked.append((rank, name, adapted, differences))
    _, name, config, differences = min(ranked, key=lambda entry: entry[0])
    return name, config, differences


def config_of_weights(name, variant):
    """The config of a model for weights, with their classes and input size.

    Args:
        name: a named model, or None to tell it from the weights.
        variant: of the weights.

    Returns:
        (name, config).

    Raises:
        UserError: the weights are of no named model, or do not tell which.
    """
    nearest, config, differences = nearest_model(variant)
    if name is None:
        if [what for what in differences if what.startswith(_POOLING)] == differences != []:
            raise UserError(
                f"the weights have the widths of {nearest} and no pooling convolutions; whether "
                'they pool by "max" or "avg" they do not tell: build the model with '
                "create_model(..., pool_mode=...) and give it to load_pytorch_weights"
            )
        if differences:
            raise UserError(
                f"the weights are of no named model; the nearest is {nearest}, from which they "
                f"differ: {'; '.join(differences)}. Build the model with create_model and its "
                "fields, and give it to load_pytorch_weights"
            )
        name = nearest
    elif name != nearest:
        config = get_config(name)
    fields = {"input_shape": _input_shape(config, variant.tokens)}
    if variant.num_classes is not None:
        fields["num_classes"] = variant.num_classes
    return name, config.replace(**fields)


def likely_cause(source, target):
    """Why weights of the variant `source` do not fit a model of the variant `target`.

    Returns:
        a sentence, or "" where both have the same structure.
    """
    differences = source.differences(target)
    if not differences:
        return ""
    cause = f"the file and the model differ: {'; '.join(differences)}"
    name, config, others = nearest_model(source)
    named = get_config(name)
    changed = {
        field: getattr(config, field)
        for field in (*_TOLD_FIELDS, "readout")
        if getattr(config, field) != getattr(named, field)
    }
    fields = "".join(f", {field}={value!r}" for field, value in changed.items())
    if not others:
        return f'{cause}. The file fits create_model("{name}"{fields})'
    if len(others) < len(differences):
        return f"{cause}. The nearest named model is {name}: {'; '.join(others)}"
    return cause


def _told_fields(variant):
    structure = variant.structure
    told = {
        "class_token": structure["class token"],
        "expand_in": structure["channels expand in"],
        "qkv_bias": structure["q, k, v bias"],
    }
    return {field: value for field, value in told.items() if value != _UNKNOWN}


def _input_shape(config, tokens):
    """Input shape of the token counts, for square frames; the config's own where unknown."""
    frames, positions = tokens
    shape = list(config.input_shape)
    if frames is not None and not config.image:
        shape[0] = frames * config.patch_stride[0]
    side = math.isqrt(positions) if positions is not None else 0
    if side and side * side == positions:
        shape[-3:-1] = (side * stride for stride in config.patch_stride[1:])
    return tuple(shape)


def _runs(widths):
    runs = []
    for index, width in enumerate(widths):
        if index and width == widths[index - 1]:
            runs[-1] += 1
        else:
            runs.append(1)
    return tuple(runs)


def _pools(blocks, letter):
    return tuple(i for i, block in enumerate(blocks) if f"attn/pool_{letter}/conv/kernel" in block)


def _kernels(blocks):
    kernels = {
        shape[:3]
        for block in blocks
        for rest, shape in block.items()
        if rest.startswith("attn/pool_") and rest.endswith("/conv/kernel")
    }
    return tuple(sorted(kernels)) or _UNKNOWN


def _head_channels(blocks):
    for block in blocks:
        for rest, shape in block.items():
            if rest.startswith(("attn/pool_", "attn/relative_positions/")):
                return shape[-1]
    return _UNKNOWN


def _expansion(blocks):
    for block in blocks:
        for branch in ("mlp", "attention"):
            if f"proj_{branch}/kernel" in block:
                return branch
    return _UNKNOWN


def _absolute(shapes):
    if "positions/joint" in shapes:
        return "joint"
    return "separate" if "positions/spatial" in shapes else "none"


def _tokens(shapes, first, tables):
    """(T, H*W) from the position tables, None where they do not tell."""
    frames = positions = None
    if "positions/spatial" in shapes:
        positions = shapes["positions/spatial"][0]
        frames = shapes.get("positions/temporal", (None,))[0]
    elif "positions/joint" in shapes and shapes.get("patch_embed/kernel", (0,))[0] == 1:
        rows = shapes["positions/joint"][0] - int("class_token/token" in shapes)
        # One frame or several: a square number of positions is taken for one.
        frames, positions = (1, rows) if math.isqrt(rows) ** 2 == rows else (None, None)
    else:
        temporal, height, width = (first.get(table) for table in tables)
        if height and width:
            positions = (height[0] + 1) // 2 * ((width[0] + 1) // 2)
        if temporal:
            frames = (temporal[0] + 1) // 2
    return frames, positions


def _show(value):
    if isinstance(value, tuple) and len(value) > 8 and isinstance(value[0], int):
        return f"{value[0]}, {value[1]}, ..., {value[-1]} ({len(value)} of them)"
    if isinstance(value, tuple):
        return "none" if not value else ", ".join(str(part) for part in value)
    return {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value
