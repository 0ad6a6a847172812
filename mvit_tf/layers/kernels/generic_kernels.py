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
    return ops.conv(
        inputs, kernel, strides=list(strides), padding="valid", data_format="channels_last"
    )


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


def layer_normalization(x, gamma, beta, epsilon, training=False):
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta over the last axis, in float32.

    Args:
        x: (..., C).
        gamma, beta: (C,).
        epsilon: float.
        training: bool, whether gradients will be asked for; the result is the same.
    """
    values = ops.cast(x, "float32")
    centred = values - ops.mean(values, axis=-1, keepdims=True)
    variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
    normed = centred * ops.rsqrt(variance + epsilon)
    return ops.cast(normed * ops.cast(gamma, "float32") + ops.cast(beta, "float32"), x.dtype)


def dense(x, kernel, bias):
    """x kernel + bias of x (N, C); bias may be None."""
    outputs = ops.matmul(x, kernel)
    return outputs if bias is None else ops.add(outputs, bias)


def gelu_dense(x, kernel, bias):
    """gelu(x) kernel + bias of x (N, C), with the exact GELU; bias may be None."""
    return dense(ops.gelu(x, approximate=False), kernel, bias)


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
        (B, Nq, heads, D').
    """
    weights = ops.cast(attention_weights(queries, keys), queries.dtype)
    return ops.transpose(ops.matmul(weights, values), (0, 2, 1, 3))


def take_tokens(tokens, positions):
    """The tokens (B, len(positions), C) at some positions of (B, N, C).

    Args:
        tokens: (B, N, C).
        positions: increasing numbers below N, known when the graph is built.
    """
    return ops.take(tokens, np.asarray(positions, np.int32), axis=1)


def enable_compiled_kernels(enabled):
    """Nothing to switch: these backends have no kernels compiled apart."""
