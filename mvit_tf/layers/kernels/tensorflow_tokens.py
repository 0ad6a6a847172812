"""Work on each token, with gradients that keep little and recompute the rest.

TensorFlow derives the gradient of every operation alone and keeps each one's inputs: for a
layer normalisation several tensors of the tokens' size, for a GELU four of the hidden layer's.
"""

import math

import numpy as np
import tensorflow as tf

from mvit_tf.layers.kernels.compiled import compiled
from mvit_tf.layers.kernels.dtypes import narrow, wide


def layer_normalization(x, gamma, beta, epsilon, training=False):
    """See `generic_kernels.layer_normalization`. Keeps the input and two numbers a token."""

    @tf.custom_gradient
    def kernel(x, gamma, beta):
        # In one pass of XLA's where gradients will be asked for. Not in inference: graphs that
        # hold a compiled part are refused by TF Serving.
        normalize = _normalize if training else _normalize.uncompiled
        outputs, mean, scale = normalize(x, gamma, beta, epsilon)

        def gradient(upstream):
            slope, products = _normalize_gradient(x, mean, scale, gamma, upstream)
            sums = (tf.cast(_sum_rows(rows), gamma.dtype) for rows in (products, upstream))
            return slope, *sums

        return outputs, gradient

    return kernel(x, gamma, beta)


@compiled
def _normalize(x, gamma, beta, epsilon):
    values = wide(x)
    mean = tf.reduce_mean(values, -1, keepdims=True)
    centred = values - mean
    # EuclideanNorm would save the pass that writes the squares, but XLA has no such operation.
    scale = tf.math.rsqrt(tf.reduce_mean(tf.square(centred), -1, keepdims=True) + epsilon)
    return narrow(centred * scale * wide(gamma) + wide(beta), x.dtype), mean, scale


@compiled
def _normalize_gradient(x, mean, scale, gamma, upstream):
    """The gradient in x, and what is to be summed over the tokens for the one in gamma."""
    normed, slope = (wide(x) - mean) * scale, wide(upstream)
    products = narrow(slope * normed, x.dtype)
    slope = slope * wide(gamma)
    along = tf.reduce_mean(slope * normed, -1, keepdims=True)
    slope = slope - tf.reduce_mean(slope, -1, keepdims=True) - normed * along
    return narrow(slope * scale, x.dtype), products


def split(x, sizes, axis):
    """See `generic_kernels.split`; that of `keras.ops` computes the sizes in the graph."""
    return tf.split(x, sizes, axis)


def dense(x, kernel, bias):
    """See `generic_kernels.dense`."""
    if bias is None:
        return tf.matmul(x, kernel)

    @tf.custom_gradient
    def function(x, kernel, bias):
        def gradient(upstream):
            return (
                tf.matmul(upstream, kernel, transpose_b=True),
                tf.matmul(x, upstream, transpose_a=True),
                _sum_rows(upstream),
            )

        return tf.nn.bias_add(tf.matmul(x, kernel), bias), gradient

    return function(x, kernel, bias)


def gelu_dense(x, kernel, bias):
    """See `generic_kernels.gelu_dense`. Keeps x, not its GELU; for training.

    In inference, where nothing is kept, TensorFlow fuses a GELU with the product before it.
    """

    @tf.custom_gradient
    def function(x, kernel, bias):
        outputs = tf.nn.bias_add(tf.matmul(_gelu(x), kernel), bias)

        def gradient(upstream):
            slope = tf.matmul(upstream, kernel, transpose_b=True)
            # In a kernel of its own, and not before the upstream gradient is there: within the
            # other one XLA computes it twice, and the executor would run it at once and keep it.
            with tf.control_dependencies([upstream]):
                again = tf.identity(x)
            integral = _normal_integral(again)
            activated, slope = _gelu_and_gradient(x, integral, slope)
            return slope, tf.matmul(activated, upstream, transpose_a=True), _sum_rows(upstream)

        return outputs, gradient

    if bias is None:
        bias = tf.zeros(kernel.shape[1], kernel.dtype)
    return function(x, kernel, bias)


def _sum_rows(x):
    """The sum (C,) over all axes of x (..., C) but the last."""
    # Twice to five times as fast as BiasAddGrad, and summed in float32 in bfloat16 too.
    rows = tf.reshape(x, [-1, x.shape[-1]])
    if rows.shape[0] is None:
        ones = tf.ones([1, tf.shape(rows)[0]], x.dtype)
    else:
        ones = tf.constant(1, x.dtype, [1, rows.shape[0]])
    return tf.reshape(tf.matmul(ones, rows), [-1])


@compiled
def _normal_integral(x):
    """(1 + erf(x / sqrt(2))) / 2, at least float32."""
    return 0.5 + 0.5 * tf.math.erf(wide(x) * math.sqrt(0.5))


@compiled
def _gelu(x):
    h = wide(x)
    return narrow(h * (0.5 + 0.5 * tf.math.erf(h * math.sqrt(0.5))), x.dtype)


@compiled
def _gelu_and_gradient(x, integral, upstream):
    """gelu(x) and its gradient in x."""
    h = wide(x)
    slope = integral + h * tf.exp(-0.5 * tf.square(h)) / math.sqrt(2 * math.pi)
    return narrow(h * integral, x.dtype), narrow(wide(upstream) * slope, x.dtype)


def take_tokens(tokens, positions):
    """See `generic_kernels.take_tokens`.

    As no position is taken twice, the gradient is a selection too; TensorFlow would add up.
    """
    positions = np.asarray(positions, np.int32)
    length = tokens.shape[1]
    back = np.full(length, len(positions), np.int32)
    back[positions] = np.arange(len(positions))

    @tf.custom_gradient
    def kernel(tokens):
        def gradient(upstream):
            return tf.gather(tf.pad(upstream, [[0, 0], [0, 1], [0, 0]]), back, axis=1)

        return tf.gather(tokens, positions, axis=1), gradient

    return kernel(tokens)
