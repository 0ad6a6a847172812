"""Softmax attention whose gradient recomputes the softmax."""

import functools

import tensorflow as tf

from mvit_tf.layers.kernels.compiled import compiled
from mvit_tf.layers.kernels.dtypes import narrow, wide


def attend(queries, keys, values):
    """See `generic_kernels.attend`. Keeps its arguments and its result.

    The softmax, the largest tensor of a block, is computed again in the gradient, a tenth of the
    time that the attention takes in a training step.
    """

    @tf.custom_gradient
    def kernel(queries, keys, values):
        # Joined here, so that the gradient and the projection that follows keep one tensor.
        outputs = _swap_heads(tf.matmul(_softmax(queries, keys), values))

        def gradient(upstream):
            # Not before the upstream gradient is there: the executor would run what depends on
            # the forward pass alone at once, and keep it until now.
            with tf.control_dependencies([upstream]):
                again = tf.identity(queries)
            weights = _softmax(again, keys)
            # sum_j p_j dp_j = sum_d o_d do_d: a pass over the outputs, not over the softmax.
            along = _swap_heads(_row_products(outputs, upstream))
            upstream = _swap_heads(upstream)
            slope = tf.matmul(upstream, values, transpose_b=True)
            slope = _softmax_gradient(weights, slope, along)
            return (
                tf.matmul(slope, keys),
                tf.matmul(slope, queries, transpose_a=True),
                tf.matmul(weights, upstream, transpose_a=True),
            )

        return outputs, gradient

    return kernel(queries, keys, values)


def _swap_heads(x):
    """Between (B, heads, N, D) and (B, N, heads, D)."""
    return tf.transpose(x, [0, 2, 1, 3])


@compiled
def _row_products(outputs, upstream):
    return tf.reduce_sum(wide(outputs) * wide(upstream), -1, keepdims=True)


@compiled
def _softmax_gradient(weights, slope, along):
    """The gradient in the logits, of the gradient `slope` in the softmax."""
    return narrow((wide(slope) - along) * wide(weights), weights.dtype)


def _softmax(queries, keys):
    logits = tf.matmul(queries, keys, transpose_b=True)
    if _sums_in_float32(logits.dtype):
        return tf.nn.softmax(logits)
    return narrow(tf.nn.softmax(wide(logits)), queries.dtype)


@functools.cache
def _sums_in_float32(dtype):
    """Whether TensorFlow's softmax of a dtype is computed in float32, as oneDNN's is.

    Then the conversions before and after, two passes over the largest tensor, change nothing.
    """
    with tf.init_scope():
        # Summed in bfloat16, a thousand equal numbers stick at 256 of them.
        share = tf.nn.softmax(tf.zeros([1, 1000], dtype))[0, 0]
        return abs(float(share) - 0.001) < 1e-5
