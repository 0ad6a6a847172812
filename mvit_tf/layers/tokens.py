"""What layers do to token tensors (B, [1 +] T*H*W, C): class token first, then T-major."""

import math

import keras
from keras import ops

from mvit_tf.layers import kernels


def apply_dense(layer, tokens, norm=None, residual=None):
    """Applies a Dense layer to tokens (B, N, C) and returns (B, N, C').

    Args:
        layer: Dense.
        tokens: (B, N, C).
        norm: a LayerNormalization whose gain and offset the tokens still lack.
        residual: (B, N, C') to add to the result, or None.
    """
    return project_tokens(tokens, *dense_weights(layer, norm), residual)


def project_tokens(tokens, kernel, bias, residual=None):
    """tokens kernel + bias + residual of tokens (B, N, C); bias and residual may be None."""
    return in_rank_2(lambda x: kernels.project(x, kernel, bias), tokens, residual)


def in_rank_2(function, tokens, residual=None):
    """Tokens (B, N, C'): a function from (B * N, C) to (B * N, C'), plus what is not None.

    TensorFlow fuses matrix product, bias, GELU and sum of rank-2 tensors only, and only where
    no reshape stands between them.
    """
    length, channels = tokens.shape[1:]
    outputs = function(ops.reshape(tokens, (-1, channels)))
    if residual is not None:
        outputs = outputs + ops.reshape(residual, (-1, outputs.shape[-1]))
    return ops.reshape(outputs, (-1, length, outputs.shape[-1]))


def dense_weights(layer, norm=None):
    """A Dense layer's kernel and bias (or None), with the gain and offset of a norm before it.

    (x * gain + offset) kernel + bias = x (gain * kernel) + (offset kernel + bias), and weights
    are smaller than tokens.
    """
    # Outside of the layer's call, as when the gradient computes again, nothing casts by itself.
    dtype = layer.compute_dtype
    bias = None if layer.bias is None else as_tensor(layer.bias, dtype)
    if layer.quantization_mode is None:
        kernel = as_tensor(layer.kernel, dtype)
    else:
        # Each way to quantise packs its numbers in its own form, but answers to unit vectors
        # with the rows of its kernel.
        kernel = layer(ops.eye(layer.input_spec.axes[-1], dtype=dtype))
        kernel = kernel if bias is None else kernel - bias
    if norm is not None:
        gain, offset = as_tensor(norm.gamma, kernel.dtype), as_tensor(norm.beta, kernel.dtype)
        offset = ops.reshape(ops.matmul(ops.expand_dims(offset, 0), kernel), (-1,))
        bias = offset if bias is None else bias + offset
        kernel = ops.expand_dims(gain, 1) * kernel
    return kernel, bias


def as_tensor(weight, dtype=None):
    """A variable's value, in the dtype that the layer computes in or the one given.

    `ops.convert_to_tensor` leaves a Keras variable as it is, and some operations refuse it.
    """
    value = weight.value if isinstance(weight, keras.Variable) else weight
    return ops.convert_to_tensor(value, dtype)


def split_class_token(tokens, class_token):
    """(class tokens (B, 1, C) or None, grid tokens (B, T*H*W, C)).

    A split, not two slices: the gradient of a slice is a zero-filled tensor of the input's
    size, that of a split is one concatenation.
    """
    if not class_token:
        return None, tokens
    first, rest = kernels.split(tokens, [1, tokens.shape[1] - 1], axis=1)
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
