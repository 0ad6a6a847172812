"""Convolutions for TensorFlow graphs on CPU and GPU, with and without XLA.

`tf.nn.conv3d` has no grouped CPU kernel, and Keras' way round wraps the convolution in an
XLA-only function that TF Serving refuses. A depthwise 3-D convolution is exactly the sum
over its temporal taps of depthwise 2-D convolutions, which TensorFlow has everywhere.
"""

import math

import tensorflow as tf


def conv3d(inputs, kernel, strides, padding):
    """See `generic_kernels.conv3d`."""
    if any(padding):
        # PadV2, not Pad: grappler's remapper tries to fuse Pad into Conv3D, fails when a
        # gradient reads the padded tensor, and prints an error at every first step.
        inputs = tf.raw_ops.PadV2(
            input=inputs,
            paddings=[(0, 0), *((p, p) for p in padding), (0, 0)],
            constant_values=tf.zeros((), inputs.dtype),
        )
    return tf.nn.conv3d(inputs, kernel, [1, *strides, 1], "VALID")


def depthwise_conv3d(inputs, kernel, strides, padding):
    """See `generic_kernels.depthwise_conv3d`; T must be known when the graph is built.

    The gradients are written out because the automatic ones cost more than all matrix
    products of a training step together: every sliced tap leaves a zero-filled tensor of
    the input's size, and the strided input gradient of TensorFlow's depthwise convolution
    is 10 to 20 times slower than PyTorch's.
    """
    strides, padding = tuple(strides), tuple(padding)

    @tf.custom_gradient
    def convolve(inputs, kernel):
        def gradient(upstream):
            return (
                _input_gradient(upstream, kernel, inputs, strides, padding),
                _kernel_gradient(upstream, inputs, kernel.shape, strides, padding),
            )

        return _correlate(inputs, kernel, strides, padding), gradient

    # As a tensor: a variable inside a custom gradient would have to be listed apart.
    return convolve(inputs, tf.convert_to_tensor(kernel))


def _temporal_taps(input_frames, output_frames, kernel_frames, stride, padding):
    """Yields (tap, first output frame, count): where a tap meets real frames, not padding."""
    for tap in range(kernel_frames):
        first = max(0, math.ceil((padding - tap) / stride))
        last = min(output_frames - 1, (input_frames - 1 + padding - tap) // stride)
        if last >= first:
            yield tap, first, last - first + 1


def _tap_frames(inputs, tap, first, count, stride, padding):
    """The input frames (B * count, H, W, C) that a tap meets at `count` output frames."""
    start = first * stride + tap - padding
    if count != inputs.shape[1]:
        inputs = inputs[:, start : start + (count - 1) * stride + 1 : stride]
    return _merge_frames(inputs)


def _sizes(x):
    """The shape as Python integers where known: constants keep the graph small."""
    dynamic = tf.shape(x) if None in x.shape else None
    return [dynamic[i] if size is None else size for i, size in enumerate(x.shape)]


def _merge_frames(x):
    return tf.reshape(x, [-1, *_sizes(x)[2:]])


def _split_frames(x, frames):
    return tf.reshape(x, [-1, frames, *_sizes(x)[1:]])


def _spatial_stride(strides):
    """(stride of the native kernel, (step_h, step_w) still to take).

    The native kernel takes equal strides only; unequal ones run at their greatest common
    divisor and keep every step-th row and column.
    """
    native = math.gcd(strides[1], strides[2])
    return native, (strides[1] // native, strides[2] // native)


def _explicit(padding):
    return [[0, 0], [padding[1]] * 2, [padding[2]] * 2, [0, 0]]


def _output_frames(inputs, kernel, strides, padding):
    if inputs.shape[1] is None:
        raise ValueError(
            "depthwise_conv3d needs a known number of frames (axis 1) when the graph is built, "
            f"but the input has shape {tuple(inputs.shape)}. Fix T in the input's shape."
        )
    return (inputs.shape[1] + 2 * padding[0] - kernel.shape[0]) // strides[0] + 1


def _correlate(inputs, kernel, strides, padding):
    output_frames = _output_frames(inputs, kernel, strides, padding)
    native, (step_h, step_w) = _spatial_stride(strides)
    terms = []
    for tap, first, count in _temporal_taps(
        inputs.shape[1], output_frames, kernel.shape[0], strides[0], padding[0]
    ):
        outputs = tf.nn.depthwise_conv2d(
            _tap_frames(inputs, tap, first, count, strides[0], padding[0]),
            tf.transpose(kernel[tap], (0, 1, 3, 2)),
            strides=[1, native, native, 1],
            padding=_explicit(padding),
        )
        outputs = _split_frames(outputs[:, ::step_h, ::step_w], count)
        terms.append(_pad_frames(outputs, first, output_frames - first - count))
    outputs = tf.add_n(terms)
    channels = inputs.shape[-1]
    outputs.set_shape((inputs.shape[0], output_frames, None, None, channels))
    return outputs


def _pad_frames(x, before, after):
    if before == after == 0:
        return x
    return tf.pad(x, [[0, 0], [before, after], [0, 0], [0, 0], [0, 0]])


def _dilate(x, axis, stride):
    """Puts `stride - 1` zeros after every element of an axis."""
    if stride == 1:
        return x
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


def _input_gradient(upstream, kernel, inputs, strides, padding):
    # The transpose of a strided correlation: spread the upstream gradient over the strides,
    # then correlate with the flipped kernel at stride 1, which TensorFlow does fast.
    sizes = [kernel.shape[axis] for axis in range(3)]
    flipped = tf.reverse(kernel, axis=[0, 1, 2])
    full = tuple(size - 1 - pad for size, pad in zip(sizes, padding, strict=True))
    for axis, (stride, size, pad) in enumerate(zip(strides, sizes, padding, strict=True), 1):
        if stride > 1:
            upstream = _dilate(upstream, axis, stride)
            # With `full` zeros on both sides the correlation must yield the input's size.
            upstream = _fit(upstream, axis, _sizes(inputs)[axis] + 2 * pad - size + 1)
    gradient = _correlate(upstream, flipped, (1, 1, 1), full)
    gradient.set_shape(inputs.shape)
    return gradient


def _kernel_gradient(upstream, inputs, kernel_shape, strides, padding):
    kernel_frames, height, width, _, channels = kernel_shape
    native, (step_h, step_w) = _spatial_stride(strides)
    output_frames = upstream.shape[1]
    dtype = inputs.dtype
    # TensorFlow sums this gradient, over every position of every frame, in the dtype of its
    # operands: in bfloat16 small terms vanish and 1 to 7 % of the result with them.
    inputs, upstream = tf.cast(inputs, tf.float32), tf.cast(upstream, tf.float32)
    taps = {
        tap: tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
            input=_tap_frames(inputs, tap, first, count, strides[0], padding[0]),
            filter_sizes=[height, width, channels, 1],
            out_backprop=_native_upstream(
                _merge_frames(upstream[:, first : first + count]),
                inputs,
                (height, width),
                native,
                (step_h, step_w),
                padding,
            ),
            strides=[1, native, native, 1],
            padding="EXPLICIT",
            explicit_paddings=[p for pair in _explicit(padding) for p in pair],
        )
        for tap, first, count in _temporal_taps(
            inputs.shape[1], output_frames, kernel_frames, strides[0], padding[0]
        )
    }
    never = tf.zeros((height, width, channels, 1))
    gradient = tf.stack([taps.get(tap, never) for tap in range(kernel_frames)])
    return tf.cast(tf.transpose(gradient, (0, 1, 2, 4, 3)), dtype)


def _native_upstream(upstream, inputs, kernel_size, native, steps, padding):
    """Upstream gradient (N, H', W', C) as the native kernel at stride `native` yields it."""
    for axis, (size, step, pad) in enumerate(
        zip(kernel_size, steps, padding[1:], strict=True), start=1
    ):
        if step > 1:
            rows = (_sizes(inputs)[axis + 1] + 2 * pad - size) // native + 1
            upstream = _fit(_dilate(upstream, axis, step), axis, rows)
    return upstream
