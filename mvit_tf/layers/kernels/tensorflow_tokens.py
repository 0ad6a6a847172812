"""Work on each token, with gradients that keep little and recompute the rest.

TensorFlow derives the gradient of every operation alone and keeps each one's inputs: for a
layer normalisation several tensors of the tokens' size, for a GELU four of the hidden layer's.
"""

import math

import numpy as np
import tensorflow as tf

from mvit_tf.layers.kernels.compiled import compiled
from mvit_tf.layers.kernels.dtypes import narrow, wide


@compiled
def _normalize_gradient(normed, scale, upstream):
    slope, result = wide(upstream), wide(normed)
    along = tf.reduce_mean(slope * result, -1, keepdims=True)
    slope = slope - tf.reduce_mean(slope, -1, keepdims=True) - result * along
    return narrow(slope * scale, normed.dtype)


def normalize(x, epsilon):
    """See `generic_kernels.normalize`. Keeps the result and one number a token."""

    @tf.custom_gradient
    def kernel(x):
        values = wide(x)
        centred = values - tf.reduce_mean(values, -1, keepdims=True)
        # EuclideanNorm would save the pass that writes the squares, but XLA has no such operation.
        variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)
        scale = tf.math.rsqrt(variance + epsilon)
        normed = narrow(centred * scale, x.dtype)

        def gradient(upstream):
            return _normalize_gradient(normed, scale, upstream)

        return normed, gradient

    return kernel(x)


def split(x, sizes, axis):
    """See `generic_kernels.split`; that of `keras.ops` computes the sizes in the graph."""
    return tf.split(x, sizes, axis)


def project(x, kernel, bias):
    """See `generic_kernels.project`."""
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


def _sum_rows(x):
    # Twice to five times as fast as BiasAddGrad, and exact to float32 in bfloat16 too.
    if x.shape[0] is None:
        ones = tf.ones([1, tf.shape(x)[0]], x.dtype)
    else:
        ones = tf.constant(1, x.dtype, [1, x.shape[0]])
    return tf.reshape(tf.matmul(ones, x), [-1])


@compiled
def _bell_integral(hidden, bias):
    """1 + erf(h / sqrt(2)) of h = hidden + bias, at least float32."""
    return 1 + tf.math.erf((wide(hidden) + wide(bias)) * math.sqrt(0.5))


@compiled
def _gelu(hidden, bias):
    """2 gelu(hidden + bias)."""
    h = wide(hidden) + wide(bias)
    return narrow(h * (1 + tf.math.erf(h * math.sqrt(0.5))), hidden.dtype)


@compiled
def _gelu_and_gradient(hidden, bias, integral, upstream):
    """2 gelu(h), h = hidden + bias, and its gradient in h."""
    h = wide(hidden) + wide(bias)
    slope = integral + h * tf.exp(-0.5 * tf.square(h)) * math.sqrt(2 / math.pi)
    return narrow(h * integral, hidden.dtype), narrow(wide(upstream) * slope, hidden.dtype)


def mlp(x, kernel_1, bias_1, kernel_2, bias_2):
    """See `generic_kernels.mlp`. Keeps x and the hidden layer before bias and GELU; for training.

    In inference, where nothing is kept, TensorFlow fuses the generic form.
    """

    @tf.custom_gradient
    def kernel(x, kernel_1, bias_1, kernel_2, bias_2):
        half = tf.cast(0.5, x.dtype)
        kernel_2 = kernel_2 * half
        hidden = tf.matmul(x, kernel_1)
        outputs = tf.nn.bias_add(tf.matmul(_gelu(hidden, bias_1), kernel_2), bias_2)

        def gradient(upstream):
            slope = tf.matmul(upstream, kernel_2, transpose_b=True)
            # In a kernel of its own, and not before the upstream gradient is there: within the
            # other one XLA computes it twice, and the executor would run it at once and keep it.
            with tf.control_dependencies([upstream]):
                again = tf.identity(hidden)
            integral = _bell_integral(again, bias_1)
            activated, slope = _gelu_and_gradient(hidden, bias_1, integral, slope)
            return (
                tf.matmul(slope, kernel_1, transpose_b=True),
                tf.matmul(x, slope, transpose_a=True),
                _sum_rows(slope),
                tf.matmul(activated, upstream, transpose_a=True) * half,
                _sum_rows(upstream),
            )

        return outputs, gradient

    return kernel(x, kernel_1, bias_1, kernel_2, bias_2)


def take_tokens(tokens, places):
    """See `generic_kernels.take_tokens`.

    As no place is taken twice, the gradient is a selection too; TensorFlow would add up.
    """
    places = np.asarray(places, np.int32)
    length = tokens.shape[1]
    back = np.full(length, len(places), np.int32)
    back[places] = np.arange(len(places))

    @tf.custom_gradient
    def kernel(tokens):
        def gradient(upstream):
            return tf.gather(tf.pad(upstream, [[0, 0], [0, 1], [0, 0]]), back, axis=1)

        return tf.gather(tokens, places, axis=1), gradient

    return kernel(tokens)
