"""Stochastic depth: whole residual branches left out at random while training."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="mvit_tf")
class StochasticDepth(keras.layers.Layer):
    """Zeroes a sample's whole branch with probability `rate`, and scales the others up.

    Deep Networks with Stochastic Depth, arXiv 1603.09382; one draw per sample, kept values
    divided by `1 - rate`, so that the expectation is the input. Identity in inference and
    at rate 0.

    Args:
        rate: float in [0, 1).
        seed: int or None, of the layer's own random generator.

    Raises:
        ValueError: a rate outside [0, 1).
    """

    def __init__(self, rate, *, seed=None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be in [0, 1), got {rate}")
        self.rate = rate
        self.seed = seed
        if rate:
            self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, inputs, scale=None, training=False):
        """Scales each sample's branch.

        Args:
            inputs: (B, ...).
            scale: what `draw` returned, where the layer runs twice and must do the same.
        """
        if not training or not self.rate:
            return inputs
        return inputs * (self.draw(inputs) if scale is None else scale)

    def draw(self, inputs):
        """What to multiply the samples of a branch by, (B, 1, ...): 0 or `1 / (1 - rate)`."""
        keep = 1 - self.rate
        shape = (ops.shape(inputs)[0],) + (1,) * (len(inputs.shape) - 1)
        draw = keras.random.uniform(shape, seed=self.seed_generator, dtype="float32")
        return ops.cast(ops.where(draw < keep, 1 / keep, 0.0), inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
