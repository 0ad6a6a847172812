"""Convolutions through `keras.ops`, for backends whose grouped convolution is native."""

from keras import ops


def _symmetric_pad(inputs, padding):
    if not any(padding):
        return inputs
    return ops.pad(inputs, [(0, 0), *((p, p) for p in padding), (0, 0)])


def conv3d(inputs, kernel, strides, padding):
    """Dense 3-D convolution with symmetric zero padding.

    Args:
        inputs: (B, T, H, W, C).
        kernel: (kt, kh, kw, C, F).
        strides: three ints.
        padding: three ints, zeros added on both sides of T, H, W (as PyTorch pads).

    Returns:
        (B, T', H', W', F).
    """
    return ops.conv(_symmetric_pad(inputs, padding), kernel, strides=list(strides), padding="valid")


def depthwise_conv3d(inputs, kernel, strides, padding):
    """Depthwise 3-D convolution with symmetric zero padding.

    Args:
        inputs: (B, T, H, W, C).
        kernel: (kt, kh, kw, 1, C), the weights of a `Conv3D(groups=C)`.
        strides: three ints.
        padding: three ints, zeros added on both sides of T, H, W.

    Returns:
        (B, T', H', W', C).
    """
    # The backends infer groups = C from the kernel's input channel axis of 1.
    return conv3d(inputs, kernel, strides, padding)
