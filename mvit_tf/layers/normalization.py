"""Layer normalisation as MViT uses it everywhere."""

import keras
from keras import ops

from mvit_tf.layers import kernels
from mvit_tf.layers.initializers import bias_initializer
from mvit_tf.layers.tokens import as_tensor

NORM_EPSILON = 1e-6


@keras.saving.register_keras_serializable(package="mvit_tf")
class LayerNormalization(keras.layers.LayerNormalization):
    """`keras.layers.LayerNormalization` over the last axis, with a gradient that keeps little.

    Statistics are in float32 under every dtype policy.

    Args:
        epsilon: float, added to the variance.
        beta_initializer: initial values of beta; MViT's 0.02 where none are given.
        **kwargs: of `keras.layers.Layer`, and initializers, regularizers and constraints.

    Input and output shape: (..., C).
    """

    def __init__(self, *, epsilon=NORM_EPSILON, beta_initializer=None, **kwargs):
        super().__init__(
            epsilon=epsilon, beta_initializer=beta_initializer or bias_initializer(), **kwargs
        )

    def call(self, inputs, training=False):
        if not (self.scale and self.center and self._over_last_axis(inputs)):
            return super().call(inputs)
        outputs = kernels.layer_normalization(
            inputs, as_tensor(self.gamma), as_tensor(self.beta), self.epsilon, training=training
        )
        return ops.cast(outputs, self.compute_dtype)

    def _over_last_axis(self, inputs):
        axes = self.axis if isinstance(self.axis, list | tuple) else [self.axis]
        return [axis % len(inputs.shape) for axis in axes] == [len(inputs.shape) - 1]
