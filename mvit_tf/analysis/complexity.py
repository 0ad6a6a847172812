"""What a model costs, from its config alone."""

import dataclasses
import math

from mvit_tf.geometry import CHANNELS


@dataclasses.dataclass(frozen=True)
class BlockComplexity:
    """Cost of a transformer block for one clip.

    Attributes:
        name: layer name.
        tokens: tokens that enter.
        params: trainable parameters.
        macs: multiply-adds of convolutions and matrix products.
        attention_elements: entries of the attention matrices of all heads.
    """

    name: str
    tokens: int
    params: int
    macs: int
    attention_elements: int


@dataclasses.dataclass(frozen=True)
class Complexity:
    """Cost of a model for one clip; `macs` are what the papers call FLOPs."""

    params: int
    macs: int
    blocks: tuple[BlockComplexity, ...]


def complexity(config):
    """Parameters and multiply-adds of a config.

    Counted are convolutions, dense layers, the two products of attention and the products
    of relative positions, as in the papers' tables; not norms, softmax, max pooling, biases.

    Args:
        config: MViTConfig.

    Returns:
        Complexity.
    """
    blocks = tuple(_block(config, spec) for spec in config.blocks())
    embed = config.embed_dim
    grid = config.patch_grid
    cube = math.prod(config.patch_kernel) * CHANNELS
    params = embed * (cube + 1) + embed * config.class_token
    if config.positions == "joint":
        params += embed * config.sequence_length(grid)
    elif config.positions == "separate":
        params += embed * (grid[0] + grid[1] * grid[2] + config.class_token)
    params += 2 * config.output_dim  # the last norm
    params += config.num_classes * (config.output_dim + 1)
    macs = math.prod(grid) * embed * cube + config.output_dim * config.num_classes
    return Complexity(
        params=params + sum(block.params for block in blocks),
        macs=macs + sum(block.macs for block in blocks),
        blocks=blocks,
    )


def _block(config, spec):
    tokens, queries, keys = (
        config.sequence_length(grid) for grid in (spec.grid, spec.query_grid, spec.key_grid)
    )
    width, hidden = spec.attention_dim, int(spec.attention_dim * config.mlp_ratio)
    params = 2 * spec.input_dim + 2 * width  # the two norms
    macs = 2 * queries * keys * width  # q k^T and attention v

    dense = [
        (tokens, spec.input_dim, 3 * width, config.qkv_bias),
        (queries, width, width, True),
        (queries, width, hidden, True),
        (queries, hidden, spec.output_dim, True),
    ]
    if spec.input_dim != width:
        dense.append((tokens, spec.input_dim, width, True))
    if spec.output_dim != width:
        dense.append((queries, width, spec.output_dim, True))
    for rows, inputs, outputs, bias in dense:
        params += outputs * (inputs + bias)
        macs += rows * inputs * outputs

    if config.pool_mode == "conv":
        pools = [(spec.query_kernel, spec.query_grid)] * spec.has_query_pooling
        pools += [(spec.key_kernel, spec.key_grid)] * 2 * spec.has_key_pooling
        for kernel, grid in pools:
            params += spec.head_dim * (math.prod(kernel) + 2)  # kernel and norm
            macs += math.prod(grid) * width * math.prod(kernel)

    for length, positions in zip(spec.relative_table_lengths, spec.key_grid, strict=True):
        if length is not None:
            params += length * spec.head_dim
            macs += math.prod(spec.query_grid) * width * positions

    return BlockComplexity(spec.name, tokens, params, macs, spec.num_heads * queries * keys)
