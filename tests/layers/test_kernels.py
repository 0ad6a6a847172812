"""TensorFlow's kernels against the generic ones: results and gradients, in both dtypes."""

import numpy as np
import pytest
import tensorflow as tf

from mvit_tf.layers import kernels
from mvit_tf.layers.kernels import generic_kernels

RNG = np.random.default_rng(0)
POSITIONS = [0, 2, 3, 7]


def normal(*shape, scale=1.0, shift=0.0):
    return RNG.standard_normal(shape).astype(np.float32) * scale + shift


CASES = {
    "layer_normalization": (
        lambda k, *arguments: k.layer_normalization(*arguments, 1e-6),
        [normal(3, 5, 16, scale=3, shift=2), normal(16, shift=1), normal(16)],
    ),
    "layer_normalization_in_training": (
        lambda k, *arguments: k.layer_normalization(*arguments, 1e-6, training=True),
        [normal(3, 5, 16, scale=3, shift=2), normal(16, shift=1), normal(16)],
    ),
    "dense": (
        lambda k, *arguments: k.dense(*arguments),
        [normal(33, 16), normal(16, 24), normal(24)],
    ),
    "gelu_dense": (
        lambda k, *arguments: k.gelu_dense(*arguments),
        # Wide enough that both tails of the GELU are met.
        [normal(33, 64, scale=4), normal(64, 24), normal(24)],
    ),
    "attend": (
        lambda k, *arguments: k.attend(*arguments),
        [normal(2, 3, 17, 8), normal(2, 3, 11, 8), normal(2, 3, 11, 6)],
    ),
    "take_tokens": (lambda k, x: k.take_tokens(x, POSITIONS), [normal(2, 9, 4)]),
    "split": (lambda k, x: tf.concat(k.split(x, [1, 5], 1)[::-1], 1), [normal(2, 6, 4)]),
}


# Where the generic kernel computes in float32 whatever it gets.
DEFINITIONS = {
    "attend": lambda q, k, v: tf.transpose(
        tf.nn.softmax(q @ tf.linalg.matrix_transpose(k)) @ v, (0, 2, 1, 3)
    ),
    **dict.fromkeys(
        ["layer_normalization", "layer_normalization_in_training"],
        lambda x, gamma, beta: (
            (x - tf.reduce_mean(x, -1, keepdims=True))
            / tf.sqrt(tf.math.reduce_variance(x, -1, keepdims=True) + 1e-6)
            * gamma
            + beta
        ),
    ),
}
# Arguments that have a batch.
BATCHED = dict.fromkeys(
    ["layer_normalization", "layer_normalization_in_training", "dense", "gelu_dense"], 1
)


def value_and_gradients(function, arguments, upstream):
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        value = function(*arguments)
    return [value, *tape.gradient(value, arguments, tf.cast(upstream, value.dtype))]


@pytest.mark.parametrize("batch", ["known", "unknown"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 3e-6), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("name", CASES)
def test_results_and_gradients(name, dtype, tolerance, batch):
    function, arguments = CASES[name]
    arguments = [tf.cast(argument, dtype) for argument in arguments]
    # The definition, in float64, of the numbers that the kernel gets.
    wide = [tf.cast(argument, tf.float64) for argument in arguments]
    definition = DEFINITIONS.get(name, lambda *a: function(generic_kernels, *a))
    upstream = RNG.standard_normal(definition(*wide).shape)
    expected = value_and_gradients(definition, wide, upstream)

    signature = [tf.TensorSpec(a.shape, a.dtype) for a in arguments]
    if batch == "unknown":
        batched = BATCHED.get(name, len(arguments))
        signature[:batched] = [
            tf.TensorSpec([None, *spec.shape[1:]], spec.dtype) for spec in signature[:batched]
        ]
    step = tf.function(
        lambda *a: value_and_gradients(lambda *b: function(kernels, *b), list(a), upstream),
        input_signature=signature,
        autograph=False,
    )
    for got, exact in zip(step(*arguments), expected, strict=True):
        assert got.dtype == dtype
        error = np.abs(tf.cast(got, tf.float64) - exact).max() / np.abs(exact).max()
        assert error < tolerance
