"""`keras.layers.Dense` on tokens: TensorFlow fuses and differentiates it better in rank 2."""

import contextlib

import keras
from keras import ops

from mvit_tf.layers import kernels
from mvit_tf.layers.initializers import bias_initializer, kernel_initializer
from mvit_tf.layers.tokens import as_tensor


@keras.saving.register_keras_serializable(package="mvit_tf")
class Dense(keras.layers.Dense):
    """A `keras.layers.Dense` with MViT's initial values and a kernel made for tokens.

    The same numbers, weights, quantisation and LoRA as its parent's. With LoRA (arXiv 2106.09685)
    a training step multiplies by the two factors one after the other, so that no gradient of the
    kernel's size is computed; elsewhere their product is added to the kernel.

    Args:
        units: int, size of the output.
        **kwargs: of `keras.layers.Dense`; the initial values are those of
            `mvit_tf.layers.initializers` where none are given.

    Input shape: (B, ..., C). Output shape: (B, ..., units).
    """

    def __init__(self, units, **kwargs):
        # Not by `setdefault`: an initializer that is made takes a seed from those that come later.
        if "kernel_initializer" not in kwargs:
            kwargs["kernel_initializer"] = kernel_initializer()
        if "bias_initializer" not in kwargs:
            kwargs["bias_initializer"] = bias_initializer()
        super().__init__(units, **kwargs)

    def call(self, inputs, gelu_first=False, training=None):
        """Projects the last axis.

        Args:
            inputs: (B, ..., C).
            gelu_first: bool. Apply the exact GELU to the inputs first, as a part of this layer:
                its gradient computes the GELU again instead of keeping it, which for an MLP is
                half of all that a training step keeps.
        """
        kernel, factors = self._kernel_and_factors(training)
        outputs = self._project(inputs, kernel, self.bias, gelu_first, factors)
        return outputs if self.activation is None else self.activation(outputs)

    def quantize(self, mode=None, type_check=True, config=None):
        # Keras' check refuses every subclass; these two compute what their parent does.
        check = type_check and type(self) not in (Dense, QKVDense)
        super().quantize(mode, type_check=check, config=config)

    def quantized_call(self, inputs, gelu_first=False, training=None):
        inputs = ops.gelu(inputs, approximate=False) if gelu_first else inputs
        return super().quantized_call(inputs, training=training)

    def enable_lora(self, rank, **options):
        """As Keras'; the paths of both factors begin as that of the kernel, which tells layers."""
        owners = self._kernel.path.split("/")[:-2]
        with contextlib.ExitStack() as stack:
            for owner in owners:
                stack.enter_context(keras.name_scope(owner))
            super().enable_lora(rank, **options)

    @property
    def lora_weights(self):
        """The frozen kernel and the two factors of LoRA, by name; empty without LoRA."""
        if not self.lora_enabled:
            return {}
        return {
            "kernel": self._kernel,
            "lora_kernel_a": self.lora_kernel_a,
            "lora_kernel_b": self.lora_kernel_b,
        }

    def save_own_variables(self, store):
        if not self.lora_enabled or self.quantization_mode is not None:
            super().save_own_variables(store)
            return
        # Keras would add the factors in the dtype of computing.
        scale = self.lora_alpha / self.lora_rank
        product = ops.matmul(self.lora_kernel_a, self.lora_kernel_b)
        store["0"] = ops.add(self._kernel, scale * product)
        if self.bias is not None:
            store["1"] = self.bias

    def load_own_variables(self, store):
        # Keras sets both factors to zero, from where neither has a gradient.
        factor = ops.copy(self.lora_kernel_a) if self.lora_enabled else None
        super().load_own_variables(store)
        if factor is not None:
            self.lora_kernel_a.assign(factor)

    def _kernel_and_factors(self, training):
        """The kernel to multiply by, and what LoRA adds to it if that is to be kept apart."""
        if not (training and self.lora_enabled):
            return as_tensor(self.kernel), None
        scale = self.lora_alpha / self.lora_rank
        down, up = as_tensor(self.lora_kernel_a), as_tensor(self.lora_kernel_b)
        return as_tensor(self._kernel), (down, scale * up)

    def _project(self, inputs, kernel, bias, gelu_first=False, factors=None):
        shape = (*ops.shape(inputs)[:-1], kernel.shape[-1])
        rows = inputs if len(shape) == 2 else ops.reshape(inputs, (-1, inputs.shape[-1]))
        project = kernels.gelu_dense if gelu_first else kernels.dense
        outputs = project(rows, kernel, None if bias is None else as_tensor(bias))
        if factors is not None:
            down, up = factors
            outputs = ops.add(outputs, ops.matmul(project(rows, down, None), up))
        if len(shape) == 2:
            return outputs
        # One unknown size, of the batch, can be left open; it keeps the others known.
        known = inputs.shape[1:-1]
        return ops.reshape(outputs, shape if None in known else (-1, *known, shape[-1]))


@keras.saving.register_keras_serializable(package="mvit_tf")
class QKVDense(Dense):
    """The projection to queries, keys and values, side by side in one kernel (C, 3 * dim).

    Called with tokens alone it is a `Dense`. Given the windows of the keys' pooling it splits the
    result, and leaves out the work and the memory of the keys and values between the windows.

    Args:
        units: int, 3 * dim.
        **kwargs: of `Dense`.

    Input shape: (B, N, C). Output shape: (B, N, 3 * dim), or (B, N, dim), (B, M, dim) and
    (B, M, dim) for the M tokens in the windows.
    """

    def call(self, inputs, key_windows=None, training=None):
        """Projects tokens.

        Args:
            inputs: (B, N, C).
            key_windows: PoolingWindows of keys and values, or None.
        """
        if key_windows is None:
            return super().call(inputs, training=training)
        sizes = [self.units // 3] * 3
        kernel, factors = self._kernel_and_factors(training)
        weights = kernels.split(kernel, sizes, axis=1)
        biases = (None,) * 3
        if self.bias is not None:
            biases = kernels.split(as_tensor(self.bias), sizes, axis=0)
        parts = (None,) * 3
        if factors is not None:
            down, up = factors
            parts = [(down, part) for part in kernels.split(up, sizes, axis=1)]
        seen = _in_windows(inputs, key_windows)
        return [
            self._project(tokens, kernel, bias, factors=factors)
            for tokens, kernel, bias, factors in zip(
                (inputs, seen, seen), weights, biases, parts, strict=True
            )
        ]

    def quantized_call(self, inputs, key_windows=None, training=None):
        outputs = super().quantized_call(inputs, training=training)
        if key_windows is None:
            return outputs
        queries, keys, values = ops.split(outputs, 3, axis=-1)
        return [queries, _in_windows(keys, key_windows), _in_windows(values, key_windows)]


def _in_windows(tokens, windows):
    return tokens if windows.cover_grid else kernels.take_tokens(tokens, windows.tokens)
