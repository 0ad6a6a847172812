"""The kernels' meaning, in `keras.ops`; what backends with good compilers run."""

import numpy as np
from keras import ops


def conv3d(inputs, kernel, strides, padding):
    """Dense 3-D convolution with zero padding.

    Args:
        inputs: (B, T, H, W, C).
        kernel: (kt, kh, kw, C, F).
        strides: three ints.
        padding: zeros added on T, H and W: of each an int for both sides (as PyTorch pads) or
            two ints, before and after.

    Returns:
        (B, T', H', W', F).
    """
    sides = padding_sides(padding)
    if any(map(any, sides)):
        inputs = ops.pad(inputs, [(0, 0), *sides, (0, 0)])
    return ops.conv(inputs, kernel, strides=list(strides), padding="valid")


def depthwise_conv3d(inputs, kernel, strides, padding):
    """Depthwise 3-D convolution with zero padding.

    Args:
        inputs: (B, T, H, W, C).
        kernel: (kt, kh, kw, 1, C), the weights of a `Conv3D(groups=C)`.
        strides: three ints.
        padding: as that of `conv3d`.

    Returns:
        (B, T', H', W', C).
    """
    # The backends infer groups = C from the kernel's input channel axis of 1.
    return conv3d(inputs, kernel, strides, padding)


def padding_sides(padding):
    """Three pairs (before, after) from ints or pairs."""
    return tuple((pad, pad) if isinstance(pad, int) else tuple(pad) for pad in padding)


def split(x, sizes, axis):
    """Parts of x of the given sizes along an axis."""
    return ops.split(x, np.cumsum(sizes)[:-1].tolist(), axis=axis)


def normalize(x, epsilon):
    """(x - mean) / sqrt(variance + epsilon) over the last axis, computed in float32.

    The gain and offset of layer normalisation are left to the caller, who can put them into the
    matrix that comes next.
    """
    values = ops.cast(x, "float32")
    centred = values - ops.mean(values, axis=-1, keepdims=True)
    variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
    return ops.cast(centred * ops.rsqrt(variance + epsilon), x.dtype)


def project(x, kernel, bias):
    """x kernel + bias of x (N, C); bias may be None."""
    outputs = ops.matmul(x, kernel)
    return outputs if bias is None else ops.add(outputs, bias)


def mlp(x, kernel_1, bias_1, kernel_2, bias_2):
    """gelu(x kernel_1 + bias_1) kernel_2 + bias_2 with the exact GELU.

    Args:
        x: (N, C).
        kernel_1, bias_1: (C, hidden), (hidden,).
        kernel_2, bias_2: (hidden, C'), (C',).

    Returns:
        (N, C').
    """
    # TensorFlow fuses this chain, of rank 2, into two operations where nothing else reads what
    # lies between, as in inference.
    hidden = ops.gelu(ops.add(ops.matmul(x, kernel_1), bias_1), approximate=False)
    return ops.add(ops.matmul(hidden, kernel_2), bias_2)


def attention_weights(queries, keys):
    """softmax(queries keys^T), (B, heads, Nq, Nk), float32; arguments as those of `attend`."""
    logits = ops.matmul(queries, ops.swapaxes(keys, -1, -2))
    return ops.softmax(ops.cast(logits, "float32"), axis=-1)


def attend(queries, keys, values):
    """softmax(queries keys^T) values, the softmax in float32.

    Args:
        queries: (B, heads, Nq, D).
        keys: (B, heads, Nk, D), scaled.
        values: (B, heads, Nk, D').

    Returns:
        (B, heads, Nq, D').
    """
    weights = ops.cast(attention_weights(queries, keys), queries.dtype)
    return ops.matmul(weights, values)


def take_tokens(tokens, places):
    """The tokens (B, len(places), C) at some places of (B, N, C).

    Args:
        tokens: (B, N, C).
        places: increasing numbers below N, known when the graph is built.
    """
    return ops.take(tokens, np.asarray(places, np.int32), axis=1)
