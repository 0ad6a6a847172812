"""DepthwiseConv3D against a direct sum, forward and both gradients."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from mvit_tf.layers import DepthwiseConv3D
from mvit_tf.layers.kernels.generic_kernels import depthwise_conv3d as generic
from mvit_tf.layers.kernels.tensorflow_convolutions import depthwise_conv3d

STRIDES = [(1, 1, 1), (1, 2, 2), (2, 2, 2), (1, 4, 4), (1, 8, 8), (2, 8, 8), (1, 2, 4), (2, 6, 4)]
KERNELS = [(1, 1, 1), (3, 3, 3), (1, 3, 3), (1, 5, 5), (1, 9, 9), (9, 9, 9), (2, 4, 6), (5, 7, 3)]
SIZES = [(4, 14, 14), (5, 13, 17)]


def direct(inputs, kernel, upstream, strides, padding):
    """Output and both gradients of the definition, float64, one tap at a time."""
    inputs, kernel = inputs.astype(np.float64), kernel.astype(np.float64)
    sides = [(0, 0), *((pad, pad) for pad in padding), (0, 0)]
    padded = np.pad(inputs, sides)
    sizes = [
        (size - taps) // stride + 1
        for size, taps, stride in zip(padded.shape[1:4], kernel.shape, strides, strict=False)
    ]
    outputs = np.zeros((inputs.shape[0], *sizes, inputs.shape[-1]))
    input_gradient, kernel_gradient = np.zeros_like(padded), np.zeros_like(kernel)
    upstream = None if upstream is None else upstream.astype(np.float64)
    for tap in itertools.product(*map(range, kernel.shape[:3])):
        window = (
            slice(None),
            *(
                slice(first, first + (size - 1) * stride + 1, stride)
                for first, size, stride in zip(tap, sizes, strides, strict=True)
            ),
        )
        outputs += padded[window] * kernel[tap][0]
        if upstream is not None:
            input_gradient[window] += upstream * kernel[tap][0]
            kernel_gradient[tap][0] = (padded[window] * upstream).sum((0, 1, 2, 3))
    inside = (
        slice(None),
        *(slice(pad, pad + size) for pad, size in zip(padding, inputs.shape[1:4], strict=True)),
    )
    return outputs, input_gradient[inside], kernel_gradient


def relative_error(value, expected):
    value = tf.cast(value, tf.float64).numpy()
    return np.abs(value - expected).max() / max(np.abs(expected).max(), 1e-9)


@pytest.mark.parametrize("strides", STRIDES, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_forward_and_gradients_equal_the_definition(strides, size):
    rng = np.random.default_rng(0)
    for kernel_size in KERNELS:
        padding = tuple(taps // 2 for taps in kernel_size)
        inputs = rng.standard_normal((2, *size, 6)).astype(np.float32)
        kernel = rng.standard_normal((*kernel_size, 1, 6)).astype(np.float32)
        for dtype, tolerance in ((tf.float32, 2e-6), (tf.bfloat16, 2e-2)):
            x, w = tf.cast(inputs, dtype), tf.cast(kernel, dtype)
            with tf.GradientTape() as tape:
                tape.watch((x, w))
                y = depthwise_conv3d(x, w, strides, padding)
            upstream = tf.cast(rng.standard_normal(y.shape), dtype)
            gradients = tape.gradient(y, (x, w), upstream)
            exact = direct(
                *(tf.cast(v, tf.float32).numpy() for v in (x, w, upstream)), strides, padding
            )
            for got, expected in zip((y, *gradients), exact, strict=True):
                assert got.dtype == dtype
                assert got.shape == expected.shape
                assert relative_error(got, expected) < tolerance, (kernel_size, dtype)


def test_same_numbers_as_grouped_conv3d_with_its_weights():
    inputs = keras.random.normal((2, 4, 9, 10, 8), seed=1)
    grouped = keras.layers.Conv3D(8, (3, 3, 3), (1, 2, 2), groups=8, data_format="channels_last")
    expected = grouped(inputs)
    layer = DepthwiseConv3D(kernel_size=(3, 3, 3), strides=(1, 2, 2), use_bias=True)
    layer.build(inputs.shape)
    layer.set_weights(grouped.get_weights())
    np.testing.assert_allclose(layer(inputs), expected, rtol=1e-5, atol=1e-5)


def test_same_padding_is_tensorflows():
    inputs = keras.random.normal((1, 5, 8, 8, 4), seed=1)
    grouped = keras.layers.Conv3D(
        4, (3, 3, 3), (2, 2, 2), "same", "channels_last", groups=4, use_bias=False
    )
    expected = grouped(inputs)
    layer = DepthwiseConv3D(kernel_size=(3, 3, 3), strides=(2, 2, 2), padding="same")
    layer.build(inputs.shape)
    layer.set_weights(grouped.get_weights())
    np.testing.assert_allclose(layer(inputs), expected, rtol=1e-5, atol=1e-5)
    assert layer.compute_output_shape(inputs.shape) == expected.shape


def test_heads_share_the_kernel():
    inputs = keras.random.normal((2, 4, 8, 8, 12), seed=2)
    layer = DepthwiseConv3D(kernel_size=(3, 3, 3), padding=(1, 1, 1), num_heads=3)
    outputs = layer(inputs)
    single = DepthwiseConv3D(kernel_size=(3, 3, 3), padding=(1, 1, 1))
    single.build((2, 4, 8, 8, 4))
    single.set_weights(layer.get_weights())
    for head in range(3):
        channels = slice(4 * head, 4 * head + 4)
        np.testing.assert_allclose(outputs[..., channels], single(inputs[..., channels]), atol=1e-6)


def test_runs_under_xla_and_with_unknown_batch_height_and_width():
    kernel = tf.random.stateless_normal((3, 3, 3, 1, 4), (0, 1))

    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = depthwise_conv3d(x, kernel, (1, 2, 2), (1, 1, 1))
        return y, tape.gradient(y, x, tf.ones_like(y))

    x = tf.random.stateless_normal((2, 4, 9, 8, 4), (0, 2))
    expected = gradients(x)
    spec = tf.TensorSpec((None, 4, None, None, 4))
    for compiled in (
        tf.function(gradients, jit_compile=True),
        tf.function(gradients, input_signature=[spec]),
    ):
        for got, exact in zip(compiled(x), expected, strict=True):
            np.testing.assert_allclose(got, exact, atol=1e-5)


@pytest.mark.parametrize("image_data_format", ["channels_first", "channels_last"])
def test_generic_kernel_agrees(image_data_format):
    """Whatever Keras is set to: tokens have their channels last."""
    x = tf.random.stateless_normal((1, 4, 8, 8, 4), (0, 1))
    w = tf.random.stateless_normal((3, 3, 3, 1, 4), (0, 2))
    for strides in ((1, 1, 1), (1, 4, 4)):
        ours = depthwise_conv3d(x, w, strides, (1, 1, 1))
        before = keras.config.image_data_format()
        keras.config.set_image_data_format(image_data_format)
        try:
            same = generic(x, w, strides, (1, 1, 1))
        finally:
            keras.config.set_image_data_format(before)
        np.testing.assert_allclose(ours, same, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "shape", "message"),
    [
        ({"padding": "causal"}, None, "causal"),
        ({"padding": (3, 1, 1)}, None, r"\(3, 1, 1\)"),
        ({"num_heads": 3}, (1, 4, 8, 8, 4), "num_heads=3"),
        ({}, (1, 2, 8, 8, 4), "T = 2"),
    ],
)
def test_mistakes_are_named(arguments, shape, message):
    with pytest.raises(ValueError, match=message):
        layer = DepthwiseConv3D(kernel_size=(3, 3, 3), **arguments)
        layer.build(shape)


def test_unknown_number_of_frames_is_refused():
    layer = DepthwiseConv3D(kernel_size=(3, 3, 3))
    layer.build((None, None, 8, 8, 4))
    compiled = tf.function(layer, input_signature=[tf.TensorSpec((None, None, 8, 8, 4))])
    with pytest.raises(ValueError, match="number of frames"):
        compiled.get_concrete_function()
