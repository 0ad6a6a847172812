"""What layers do to token tensors (B, [1 +] T*H*W, C): class token first, then T-major."""

import math

from keras import ops


def apply_dense(layer, tokens):
    """Applies a layer of rank-2 input to tokens (B, N, C) and returns (B, N, C').

    TensorFlow fuses matrix product, bias and GELU of rank-2 tensors only; on (B, N, C) a
    Dense layer becomes four operations.
    """
    length, channels = tokens.shape[1:]
    outputs = layer(ops.reshape(tokens, (-1, channels)))
    return ops.reshape(outputs, (-1, length, outputs.shape[-1]))


def split_class_token(tokens, class_token):
    """(class tokens (B, 1, C) or None, grid tokens (B, T*H*W, C)).

    A split, not two slices: the gradient of a slice is a zero-filled tensor of the input's
    size, that of a split is one concatenation.
    """
    if not class_token:
        return None, tokens
    first, rest = ops.split(tokens, [1], axis=1)
    return first, rest


def join_class_token(first, rest):
    return rest if first is None else ops.concatenate([first, rest], axis=1)


def grid_length(grid, class_token):
    """Number of tokens of a (T, H, W) grid."""
    return math.prod(grid) + int(class_token)


def check_length(name, tokens_shape, grid, class_token):
    """Refuses tokens that do not fill the grid.

    Raises:
        ValueError: the number of tokens is not T*H*W (+ 1 with a class token).
    """
    expected = grid_length(grid, class_token)
    if len(tokens_shape) != 3 or tokens_shape[1] != expected:
        raise ValueError(
            f"{name} expects tokens (B, {expected}, C) for the grid T, H, W = {tuple(grid)} "
            f"{'with' if class_token else 'without'} a class token, got shape {tuple(tokens_shape)}"
        )
