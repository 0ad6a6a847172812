"""Convolutions for TensorFlow graphs on CPU and GPU, with and without XLA.

`tf.nn.conv3d` has no grouped CPU kernel, and Keras' way round wraps the convolution in an
XLA-only function that TF Serving refuses. A depthwise 3-D convolution is exactly the sum
over its temporal taps of depthwise 2-D convolutions, which TensorFlow has everywhere.
"""

import math

import tensorflow as tf

from mvit_tf.layers.kernels.dtypes import narrow, wide
from mvit_tf.layers.kernels.generic_kernels import padding_sides


def conv3d(inputs, kernel, strides, padding):
    """See `generic_kernels.conv3d`."""
    sides = padding_sides(padding)
    if any(map(any, sides)):
        # PadV2, not Pad: grappler's remapper tries to fuse Pad into Conv3D, fails when a
        # gradient reads the padded tensor, and prints an error at every first step.
        inputs = tf.raw_ops.PadV2(
            input=inputs,
            paddings=[(0, 0), *sides, (0, 0)],
            constant_values=tf.zeros((), inputs.dtype),
        )
    return tf.nn.conv3d(inputs, kernel, [1, *strides, 1], "VALID")


def depthwise_conv3d(inputs, kernel, strides, padding):
    """See `generic_kernels.depthwise_conv3d`; T must be known when the graph is built.

    The gradients are written out because the automatic ones cost more than all matrix
    products of a training step together: every sliced tap leaves a zero-filled tensor of
    the input's size. Here whole clips meet each tap, and the sums are shifted.
    """
    shape = _Geometry(inputs.shape[1], kernel.shape, tuple(strides), padding_sides(padding))

    @tf.custom_gradient
    def convolve(inputs, kernel):
        def gradient(upstream):
            taps = shape.upstream_of_taps(wide(upstream), inputs)
            return shape.input_gradient(taps, kernel, inputs), shape.kernel_gradient(taps, inputs)

        return shape.correlate(inputs, kernel), gradient

    # As a tensor: a variable inside a custom gradient would have to be listed apart.
    return convolve(inputs, tf.convert_to_tensor(kernel))


class _Geometry:
    """Sizes of one depthwise convolution, and its three sums over the temporal taps.

    TensorFlow's depthwise 2-D kernel takes equal strides only. Unequal ones run at their
    greatest common divisor and keep every `steps`-th row and column.
    """

    def __init__(self, frames, kernel_shape, strides, sides):
        if frames is None:
            raise ValueError(
                "depthwise_conv3d needs a known number of frames (axis 1) when the graph is "
                "built, but the input has none. Fix T in the input's shape."
            )
        self.frames = frames
        self.kernel_size, self.channels = tuple(kernel_shape[:3]), kernel_shape[-1]
        self.stride, self.before = strides[0], sides[0][0]
        # Of a temporal stride 1; others keep every stride-th.
        self.dense_frames = frames + sum(sides[0]) - self.kernel_size[0] + 1
        native = math.gcd(strides[1], strides[2])
        self.steps = strides[1] // native, strides[2] // native
        self.sides = sides[1:]
        explicit = [[0, 0], *map(list, self.sides), [0, 0]]
        self.native = {"strides": [1, native, native, 1], "padding": explicit}
        self.raw = {
            "strides": self.native["strides"],
            "padding": "EXPLICIT",
            "explicit_paddings": [pad for pair in explicit for pad in pair],
        }

    def correlate(self, inputs, kernel):
        frames = _merge_frames(inputs)
        terms = []
        for tap, weights in enumerate(_taps(kernel)):
            outputs = tf.nn.depthwise_conv2d(frames, weights, **self.native)
            if self.steps != (1, 1):
                outputs = outputs[:, :: self.steps[0], :: self.steps[1]]
            # Output frame o sums over the taps of frames o + tap - before.
            terms.append(
                _frames(
                    _split_frames(outputs, self.frames), tap - self.before, self.dense_frames
                )
            )
        outputs = tf.add_n(terms)
        if self.stride > 1:
            outputs = outputs[:, :: self.stride]
        frames = -(-self.dense_frames // self.stride)
        outputs.set_shape((inputs.shape[0], frames, None, None, self.channels))
        return outputs

    def upstream_of_taps(self, upstream, inputs):
        """The upstream gradient (B * T, H', W', C) that each frame meets, for each tap."""
        if self.stride > 1:
            upstream = _fit(_dilate(upstream, 1, self.stride), 1, self.dense_frames)
        for axis, (size, step, pair) in enumerate(
            zip(self.kernel_size[1:], self.steps, self.sides, strict=True), start=2
        ):
            if step > 1:
                # As the native kernel at its stride would have it.
                native = self.native["strides"][1]
                rows = (_sizes(inputs)[axis] + sum(pair) - size) // native + 1
                upstream = _fit(_dilate(upstream, axis, step), axis, rows)
        return [
            _merge_frames(_frames(upstream, self.before - tap, self.frames))
            for tap in range(self.kernel_size[0])
        ]

    def input_gradient(self, taps, kernel, inputs):
        sizes, kernel = _sizes(_merge_frames(inputs)), wide(kernel)
        # In bfloat16 this operation is seven times slower.
        gradients = [
            tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=sizes, filter=weights, out_backprop=upstream, **self.raw
            )
            for weights, upstream in zip(_taps(kernel), taps, strict=True)
        ]
        return tf.reshape(narrow(tf.add_n(gradients), inputs.dtype), _sizes(inputs))

    def kernel_gradient(self, taps, inputs):
        # TensorFlow sums this gradient, over every position of every frame, in the dtype of its
        # operands: in bfloat16 small terms vanish and 1 to 7 % of the result with them.
        frames = wide(_merge_frames(inputs))
        gradients = [
            tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
                input=frames,
                filter_sizes=[*self.kernel_size[1:], self.channels, 1],
                out_backprop=upstream,
                **self.raw,
            )
            for upstream in taps
        ]
        shape = (*self.kernel_size, 1, self.channels)
        return narrow(tf.reshape(tf.stack(gradients), shape), inputs.dtype)


def _taps(kernel):
    """The filters (kh, kw, C, 1) of the temporal taps."""
    frames, height, width, _, channels = kernel.shape
    return tf.unstack(tf.reshape(kernel, (frames, height, width, channels, 1)))


def _frames(x, first, count):
    """Frames `first` to `first + count` of (B, T, H, W, C); what lies outside is zero."""
    before, after = max(0, -first), max(0, first + count - x.shape[1])
    if before or after:
        x = tf.pad(x, [[0, 0], [before, after], [0, 0], [0, 0], [0, 0]])
    start = max(0, first)
    return x if count == x.shape[1] else x[:, start : start + count]


def _sizes(x):
    """The shape as Python integers where known: constants keep the graph small."""
    dynamic = tf.shape(x) if None in x.shape else None
    return [dynamic[i] if size is None else size for i, size in enumerate(x.shape)]


def _merge_frames(x):
    return tf.reshape(x, [-1, *_sizes(x)[2:]])


def _split_frames(x, frames):
    return tf.reshape(x, [-1, frames, *_sizes(x)[1:]])


def _dilate(x, axis, stride):
    """Puts `stride - 1` zeros after every element of an axis."""
    x = tf.expand_dims(x, axis + 1)
    paddings = [[0, 0]] * len(x.shape)
    paddings[axis + 1] = [0, stride - 1]
    sizes = _sizes(x)
    sizes[axis : axis + 2] = [sizes[axis] * stride]
    if x.shape[0] is None:
        sizes[0] = -1
    return tf.reshape(tf.pad(x, paddings), sizes)


def _fit(x, axis, size):
    """Crops or zero-pads the end of an axis to `size`."""
    extra = size - _sizes(x)[axis]
    paddings = [[0, 0]] * len(x.shape)
    paddings[axis] = [0, max(extra, 0) if isinstance(extra, int) else tf.maximum(extra, 0)]
    slices = [slice(None)] * len(x.shape)
    slices[axis] = slice(0, size)
    return tf.pad(x, paddings)[tuple(slices)]
