"""Attention rollout, class-specific relevance and Grad-CAM, over pooled tokens.

Rollout and relevance work backwards with one row vector: the relevance of the tokens behind a
block becomes that of the tokens before it. At first it is the readout's, the class token's alone or
that of all grid tokens. Products of whole matrices are never made: a row is all that is read.

A block's queries (T', H', W') look at pooled keys, and its skip path is pooled to their grid. With
A the softmax (mean of the heads), P_k and P_s the pooling matrices of keys and skip path
(`footprints`), a row r goes back as

    r ((1 - a) P_s + a A P_k)

which for a = 1/2 and no pooling is the (I + A) / 2 of attention rollout (Abnar and Zuidema, arXiv
2005.00928). Residual pooling (MViTv2, section 4.1) adds the pooled queries to the attention's
result; where it does, A P_k becomes (A P_k + P_q) / 2.
"""

import numpy as np
from keras import ops

from mvit_tf.explain.footprints import spread_grid, spread_tokens, triangle_footprint
from mvit_tf.explain.passes import attention_weights, backward_pass, readout_gradient


def attention_rollout(forward):
    """Attention rollout: how much the readout looks at each token, whatever the class.

    Args:
        forward: ForwardPass.

    Returns:
        float (N,) over the tokens that enter the first block, of sum 1.
    """
    row = _readout_row(forward)
    for block, tokens in zip(forward.blocks[::-1], forward.inputs[::-1], strict=True):
        attended = _attended(row, attention_weights(block, tokens), block)
        row = (spread_tokens(row, block.pool_skip) + attended) / 2
    return row


def relevance(forward, class_index):
    """How much each token counts for a class, by gradient-weighted attention.

    The rule of Chefer et al. (arXiv 2103.15679), the mean of the heads of the positive part of
    attention times gradient, takes A's place, each row with sum 1. In a mean readout the positive
    part of token times gradient takes the place of equal shares, where there is any. What pooling
    makes of it:

    - a, the share of the attention in a token, is measured: |b g| / (|b g| + |s g|), with b the
      attention's and s the skip path's part of the token and g its gradient;
    - the tokens in the window of a pooling share in its relevance in proportion to
      |token times gradient| as well: a maximum has only some of them.

    Args:
        forward: ForwardPass.
        class_index: int.

    Returns:
        float (N,) over the tokens that enter the first block, of sum 1.
    """
    tokens, slope, upstream = readout_gradient(forward, class_index)
    row = _readout_row(forward)
    if forward.model.config.readout != "class_token":
        positive = np.maximum(_products(tokens, slope), 0) * row
        row = positive / positive.sum() if positive.any() else row
    for block, parts, slopes in backward_pass(forward, upstream):
        weights = ops.mean(ops.relu(parts["weights"] * slopes["weights"]), axis=1, keepdims=True)
        sums = ops.sum(weights, axis=-1, keepdims=True)
        weights = weights / ops.maximum(sums, 1e-30)
        # Of a sum, whose parts have one gradient.
        attention = np.abs(_products(parts["branch"], slopes["branch"]))
        skip = np.abs(_products(parts["skip"], slopes["branch"]))
        share = attention / np.maximum(attention + skip, 1e-30)
        # Of no evidence for the class in what a token looks at, the skip path has all.
        share = np.where(ops.convert_to_numpy(sums)[0, 0, :, 0] > 0, share, 0)
        inputs = np.abs(_products(parts["source"], slopes["source"]))
        attended = _attended(share * row, weights, block, inputs)
        row = spread_tokens((1 - share) * row, block.pool_skip, inputs) + attended
    return row


def grad_cam(forward, class_index):
    """Where token times gradient speaks for a class, before the queries are last pooled.

    Token by token (HiResCAM, arXiv 2011.08891), without a mean of the gradient over the grid. In a
    model that never pools its queries, before the last block. From there the map goes back along
    the skip paths.

    Args:
        forward: ForwardPass.
        class_index: int.

    Returns:
        float (N,) over the tokens that enter the first block.
    """
    *_, upstream = readout_gradient(forward, class_index)
    pooling = [block for block in forward.blocks if not block.pool_skip.is_identity]
    start = pooling[-1] if pooling else forward.blocks[-1]
    row = None
    for block, parts, slopes in backward_pass(forward, upstream):
        if row is not None:
            row = spread_tokens(row, block.pool_skip)
        elif block is start:
            row = np.maximum(_products(parts["source"], slopes["source"]), 0)
            row[: int(forward.class_token)] = 0
    return row


METHODS = {
    "relevance": relevance,
    "rollout": lambda forward, class_index: attention_rollout(forward),
    "grad_cam": grad_cam,
}


def pixel_heat(relevance, forward):
    """Relevance of the patch grid's tokens as relevance of the pixels.

    Cubes overlap: a pixel has the mean of the cubes that see it, the more of one the nearer to its
    middle it lies. At MViT's kernels and strides that is linear interpolation. What stayed at the
    class token is of no place and left out.

    Args:
        relevance: float (N,), of the tokens that enter the first block.
        forward: ForwardPass.

    Returns:
        float (T, h, w).
    """
    config = forward.model.config
    grid = relevance[int(config.class_token) :].reshape(config.patch_grid)
    window = (
        config.input_size,
        triangle_footprint(config.patch_kernel),
        config.patch_stride,
        config.patch_padding,
    )
    cover = spread_grid(np.ones(config.patch_grid), *window)
    return spread_grid(grid, *window) / np.where(cover > 0, cover, 1)


def _readout_row(forward):
    """What each of the last tokens has in the readout, (N,) of sum 1."""
    row = np.zeros(forward.outputs.shape[1])
    if forward.model.config.readout == "class_token":
        row[0] = 1
    else:
        first = int(forward.class_token)
        row[first:] = 1 / (len(row) - first)
    return row


def _attended(row, weights, block, inputs=None):
    """r A P_k, or r (A P_k + P_q) / 2 at tokens with residual pooling.

    Args:
        row: float (Nq,).
        weights: (1, heads, Nq, Nk), non-negative.
        block: MultiscaleBlock.
        inputs: float (N,) or None, see `spread_tokens`.
    """
    attention = block.attn
    share = np.zeros(len(row))  # of the pooled queries that are added
    if attention.residual_pooling != "none":
        share[:] = 1 / 2
        if attention.residual_pooling == "patches" and attention.class_token:
            share[0] = 0
    keys = _times((1 - share) * row, weights)
    # What is attended are the values, pooled as the keys are, by a kernel of their own.
    attended = spread_tokens(keys, attention.pool_v, inputs)
    if share.any():
        attended = attended + spread_tokens(share * row, attention.pool_q, inputs)
    return attended


def _times(row, weights):
    """r times the mean of the heads, (Nk,)."""
    row = ops.convert_to_tensor(row.astype(np.float32))[None, None, None]
    return ops.convert_to_numpy(ops.mean(ops.matmul(row, weights), axis=1))[0, 0].astype(float)


def _products(tokens, slopes):
    """Token times gradient, summed over the channels: (1, N, C) twice to float (N,)."""
    products = ops.sum(ops.cast(tokens, "float32") * ops.cast(slopes, "float32"), axis=-1)
    return ops.convert_to_numpy(products)[0].astype(float)
