"""Depthwise 3-D convolution, the pooling operator of MViT's `conv` mode."""

import keras
import numpy as np
from keras import ops

from mvit_tf.layers import kernels
from mvit_tf.layers.tokens import as_tensor

_PADDINGS = ("valid", "same")


@keras.saving.register_keras_serializable(package="mvit_tf")
class DepthwiseConv3D(keras.layers.Conv3D):
    """3-D convolution of every channel with a filter of its own.

    The numbers and the weights are those of `Conv3D(groups=C, filters=C)`; the kernel path
    is one that runs in plain TensorFlow graphs on CPU and GPU, under XLA, in SavedModels
    without XLA-only operations, and on Keras' JAX and PyTorch backends. On TensorFlow its
    gradients are its own too.

    Args:
        kernel_size: three ints, (T, H, W).
        strides: three ints, (T, H, W).
        padding: zeros added on T, H and W: three of an int for both sides (as PyTorch pads) or
            a pair of ints, before and after; or `"valid"` (none) or `"same"` (an output of
            ceil(size / stride), as TensorFlow pads).
        num_heads: int. The channels are `num_heads` groups of `C // num_heads`, and every
            group is convolved with the same filters: pooling attention shares one kernel of
            `head_dim` channels between its heads (MViT, section 3.1).
        use_bias: bool.
        **kwargs: initializers, regularizers, constraints and `Layer` arguments of Conv3D.

    Input shape: (B, T, H, W, C). Output shape: (B, T', H', W', C).

    Raises:
        ValueError: a padding that is none of the above or not below the kernel size, a dilation,
            or channels that are no multiple of `num_heads`.
    """

    def __init__(
        self,
        *,
        kernel_size,
        strides=(1, 1, 1),
        padding="valid",
        num_heads=1,
        use_bias=False,
        **kwargs,
    ):
        if any(size != 1 for size in np.ravel(kwargs.pop("dilation_rate", 1))):
            raise ValueError("dilation_rate must be 1: DepthwiseConv3D has no dilated kernel")
        super().__init__(
            filters=None,
            kernel_size=kernel_size,
            strides=strides,
            data_format="channels_last",
            use_bias=use_bias,
            **kwargs,
        )
        self.padding = _checked_padding(padding, self.kernel_size)
        self.num_heads = num_heads

    def build(self, input_shape):
        channels = input_shape[-1]
        if channels % self.num_heads:
            raise ValueError(
                f"{channels} channels cannot be split into num_heads={self.num_heads} groups"
            )
        # Conv3D creates the weights: C / heads filters over one input channel each.
        self.filters = self.groups = channels // self.num_heads
        super().build((*input_shape[:-1], self.filters))
        self.input_spec = keras.layers.InputSpec(ndim=5, axes={-1: channels})

    @property
    def _sides(self):
        """Zeros before and after T, H and W, those of "same" apart."""
        return ((0, 0),) * 3 if isinstance(self.padding, str) else self.padding

    def tiled_kernel(self):
        """The kernel of every channel, (kt, kh, kw, 1, C)."""
        kernel = as_tensor(self.kernel)
        return ops.tile(kernel, (1, 1, 1, 1, self.num_heads)) if self.num_heads > 1 else kernel

    def convolution_op(self, inputs, kernel):
        if self.padding == "same":
            sides = [
                _same_sides(size, kernel, stride)
                for size, kernel, stride in zip(
                    ops.shape(inputs)[1:4], self.kernel_size, self.strides, strict=True
                )
            ]
            inputs = ops.pad(inputs, [(0, 0), *sides, (0, 0)])
        return kernels.depthwise_conv3d(inputs, kernel, self.strides, self._sides)

    def call(self, inputs):
        outputs = self.convolution_op(inputs, self.tiled_kernel())
        if self.use_bias:
            outputs = ops.add(outputs, ops.tile(as_tensor(self.bias), (self.num_heads,)))
        return outputs if self.activation is None else self.activation(outputs)

    def compute_output_shape(self, input_shape):
        return (
            input_shape[0],
            *(self._output_size(axis, size) for axis, size in enumerate(input_shape[1:4])),
            input_shape[-1],
        )

    def _output_size(self, axis, size):
        kernel, stride = self.kernel_size[axis], self.strides[axis]
        if size is None:
            return None
        if self.padding == "same":
            return -(-size // stride)
        outputs = (size + sum(self._sides[axis]) - kernel) // stride + 1
        if outputs < 1:
            raise ValueError(
                f"{'THW'[axis]} = {size} is too small for kernel_size={self.kernel_size}, "
                f"padding={self.padding}"
            )
        return outputs

    def get_config(self):
        config = super().get_config()
        for derived in ("filters", "groups", "data_format", "dilation_rate"):
            del config[derived]
        return {**config, "num_heads": self.num_heads}


def _checked_padding(padding, kernel_size):
    """Three pairs (before, after), or the name of a rule."""
    if isinstance(padding, str):
        if padding not in _PADDINGS:
            raise ValueError(f"padding must be one of {_PADDINGS} or three ints: {padding!r}")
        return padding
    sides = kernels.padding_sides(padding)
    if len(sides) != 3 or not all(
        len(pair) == 2 and all(0 <= pad < size for pad in pair)
        for pair, size in zip(sides, kernel_size, strict=False)
    ):
        raise ValueError(
            f"padding must be three ints, or three pairs of them, in [0, kernel size), got "
            f"{padding} for kernel_size={kernel_size}"
        )
    return sides


def _same_sides(size, kernel, stride):
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
