"""How much memory a training step takes, from a config alone.

Counted is what a step of this project keeps until the gradient of a block needs it, given its own
gradients (`mvit_tf.layers.kernels`): of a normalisation its input and two numbers a token, of the
MLP the hidden layer but not its GELU, of the attention its operands and its result but not the
softmax. Then what the gradient of one block works with at a time, and what a parameter costs.
How that compares with measured peaks is in docs/plan.md.
"""

import dataclasses
import math

from mvit_tf.geometry import CHANNELS, skip_kernel

_BYTES = {"float32": 4, "mixed_bfloat16": 2}
_WIDE = 4  # float32, in which sums are taken
# Of what a clip takes: tensors that are freed later than they could be, gaps between others, and
# float32 copies in mixed precision. Fitted to measured peaks, see docs/plan.md.
_FREED_LATE = {"float32": 1.15, "mixed_bfloat16": 1.3}


@dataclasses.dataclass(frozen=True)
class TrainingMemory:
    """Memory of a training step.

    Attributes:
        model_bytes: weights, gradients and the optimizer's state, whatever the batch.
        clip_bytes: what each clip that is computed at a time adds at the peak.
        parts: of a batch, computed one after the other.
        waiting_bytes: what each clip of the other parts takes: its frames.
    """

    model_bytes: int
    clip_bytes: int
    parts: int = 1
    waiting_bytes: int = 0

    def of_batch(self, batch):
        """Bytes of a step of so many clips on one device."""
        computed = math.ceil(batch / self.parts)
        waiting = (batch - computed) * self.waiting_bytes
        return self.model_bytes + computed * self.clip_bytes + waiting

    def largest_batch(self, available):
        """The most clips whose step fits into so many bytes; 0 where none does."""
        of_each = self.clip_bytes + (self.parts - 1) * self.waiting_bytes
        return self.parts * max(0, int((available - self.model_bytes) // of_each))


def training_memory(
    config, params, *, dtype="float32", remat=False, moments=2, parts=1, average=False
):
    """Memory of a training step of a config.

    Args:
        config: MViTConfig.
        params: int, its parameters (`complexity`).
        dtype: "float32" or "mixed_bfloat16".
        remat: bool. Only each block's input is kept, and the rest computed again.
        moments: int, numbers that the optimizer keeps a parameter: 2 of AdamW, 1 of SGD.
        parts: int, of a batch, whose gradients are added up before the one update.
        average: bool. A moving average of the weights is kept.

    Returns:
        TrainingMemory.
    """
    size = _BYTES[dtype]
    kept = _embedding(config, size)
    peak = 0
    for spec in config.blocks():
        block = _kept(config, spec, size)
        work = _worked_with(config, spec, size)
        if remat:
            work += block
            block = config.sequence_length(spec.grid) * spec.input_dim * size
        kept += block
        peak = max(peak, kept + work)
    a_parameter = _WIDE * (2 + moments) + (size if dtype != "float32" else 0)
    a_parameter += _WIDE * ((parts > 1) + average)
    frames = math.prod(config.input_size) * CHANNELS * _WIDE
    return TrainingMemory(a_parameter * params, round(_FREED_LATE[dtype] * peak), parts, frames)


def _embedding(config, size):
    """The clip, and its padded copy that the patch embedding keeps."""
    frames = math.prod(config.input_size) * CHANNELS
    padded = math.prod(
        length + 2 * side
        for length, side in zip(config.input_size, config.patch_padding, strict=True)
    )
    return frames * _WIDE + padded * CHANNELS * size


def _kept(config, spec, size):
    """Bytes that a block keeps for its gradient."""
    tokens, queries, keys = (
        config.sequence_length(grid) for grid in (spec.grid, spec.query_grid, spec.key_grid)
    )
    width, heads = spec.attention_dim, spec.num_heads
    positions = heads * sum(
        length
        for length, table in zip(spec.key_grid, spec.relative_table_lengths, strict=True)
        if table is not None
    )
    pooled = config.pool_mode != "avg"
    seen = _seen_by_keys(config, spec)

    kept = 2 * tokens * spec.input_dim  # the input, and normed
    statistics = 2 * (tokens + queries)
    # Queries as the attention takes them.
    kept += queries * (width + positions)
    if positions:  # and as two of the relative positions' products do
        kept += 2 * queries * width
    if spec.has_query_pooling and pooled:
        kept += tokens * width + queries * width
        statistics += 2 * queries * heads
    kept += keys * (2 * width + positions)
    if spec.has_key_pooling and pooled:
        kept += 2 * (seen * width + keys * width)
        statistics += 4 * keys * heads
        if seen < tokens:
            kept += seen * spec.input_dim
    kept += queries * width  # what the attention gives
    if config.residual_pooling != "none":
        kept += queries * width
    if max(spec.query_stride) > 1:  # the skip path's max pooling: its input, padded, and output
        kernel = skip_kernel(spec.query_stride)
        area = math.prod(
            length + 2 * (side // 2) for length, side in zip(spec.grid, kernel, strict=True)
        )
        kept += area * width + queries * width
    kept += 2 * queries * width  # after the attention, and normed
    kept += queries * int(width * config.mlp_ratio)
    return kept * size + statistics * _WIDE


def _seen_by_keys(config, spec):
    """Tokens that the pooling of keys and values looks at."""
    sizes = [
        min(length, pooled * kernel)
        for length, pooled, kernel in zip(spec.grid, spec.key_grid, spec.key_kernel, strict=True)
    ]
    return config.sequence_length(sizes)


def _worked_with(config, spec, size):
    """Bytes that the gradient of a block takes beside what is kept."""
    tokens, queries, keys = (
        config.sequence_length(grid) for grid in (spec.grid, spec.query_grid, spec.key_grid)
    )
    hidden = queries * int(spec.attention_dim * config.mlp_ratio)
    mlp = hidden * (3 * size + _WIDE)
    attention = 3 * spec.num_heads * queries * keys * size
    return max(mlp, attention) + 2 * tokens * spec.input_dim * size
