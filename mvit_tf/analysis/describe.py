"""A config as the tables of the papers."""

from mvit_tf.analysis.complexity import complexity
from mvit_tf.console import format_table
from mvit_tf.models.registry import get_config


def describe(name, **fields):
    """The stage table (MViT, Tables 2 and 3) and the block table of a named model, as text.

    Args:
        name: one of `mvit_tf.list_models()`.
        **fields: other fields of `MViTConfig`.

    Raises:
        UserError: an unknown name or field.
    """
    config = get_config(name).replace(**fields)
    cost = complexity(config)
    head = (
        f"{name}: {cost.params:,} parameters, {cost.macs / 1e9:.2f} GMACs for one "
        f"{'image' if config.image else 'clip'} of {_by(config.input_size)}, "
        f"{config.num_classes} classes"
    )
    return "\n\n".join([head, _stage_table(config), _block_table(config, cost)])


def _by(sizes):
    return "×".join(str(size) for size in sizes)


def _pooling(kernel, stride, mode):
    return "-" if max(kernel + stride) == 1 else f"{mode} {_by(kernel)} / {_by(stride)}"


def _stage_table(config):
    specs = config.blocks()
    patch_grid = config.patch_grid
    rows = [
        ["input", "-", f"{_by(config.input_size)}×3", "-"],
        [
            "patch embedding",
            f"{_by(config.patch_kernel)}, {config.embed_dim}, stride {_by(config.patch_stride)}",
            f"{_by(patch_grid)}×{config.embed_dim}",
            str(config.sequence_length(patch_grid)),
        ],
    ]
    for stage in range(len(config.depths)):
        blocks = [spec for spec in specs if spec.stage == stage]
        width = blocks[0].attention_dim
        rows.append(
            [
                f"stage {stage + 1}",
                f"[MHPA({width}), MLP({int(width * config.mlp_ratio)})] × {len(blocks)}",
                f"{_by(blocks[-1].query_grid)}×{width}",
                str(config.sequence_length(blocks[-1].query_grid)),
            ]
        )
    return format_table(["stage", "operators", "output T×H×W×C", "tokens"], rows)


def _block_table(config, cost):
    rows = []
    for spec, block in zip(config.blocks(), cost.blocks, strict=True):
        cells = _block_cells(config, spec, block)
        if rows and rows[-1][1:] == cells:  # equal blocks share a line
            rows[-1][0] = f"{rows[-1][0].split('-')[0]}-{spec.index}"
        else:
            rows.append([str(spec.index), *cells])
    blank = [""] * 8
    params = cost.params - sum(block.params for block in cost.blocks)
    macs = cost.macs - sum(block.macs for block in cost.blocks)
    elements = sum(block.attention_elements for block in cost.blocks)
    rows.append(["other", *blank, f"{params:,}", f"{macs / 1e9:.2f}", ""])
    rows.append(
        ["total", *blank, f"{cost.params:,}", f"{cost.macs / 1e9:.2f}", f"{elements / 1e6:.2f}"]
    )
    return format_table(
        [
            "block",
            "dim→attn→out",
            "heads×dim",
            "q kernel / stride",
            "k, v kernel / stride",
            "grid T×H×W → q",
            "k, v grid",
            "rel. tables",
            "tokens",
            "parameters",
            "GMACs",
            "M attn",
        ],
        rows,
    )


def _block_cells(config, spec, block):
    tables = [str(length) for length in spec.relative_table_lengths if length is not None]
    return [
        f"{spec.input_dim}→{spec.attention_dim}→{spec.output_dim}",
        f"{spec.num_heads}×{spec.head_dim}",
        _pooling(spec.query_kernel, spec.query_stride, config.pool_mode),
        _pooling(spec.key_kernel, spec.key_stride, config.pool_mode),
        f"{_by(spec.grid)} → {_by(spec.query_grid)}",
        _by(spec.key_grid),
        "/".join(tables) or "-",
        f"{block.tokens:,}",
        f"{block.params:,}",
        f"{block.macs / 1e9:.2f}",
        f"{block.attention_elements / 1e6:.2f}",
    ]
