"""The two-layer perceptron of a transformer block."""

import keras
from keras import ops

from mvit_tf.layers.dense import Dense


@keras.saving.register_keras_serializable(package="mvit_tf")
class MLP(keras.layers.Layer):
    """fc2(gelu(fc1(tokens))) with the exact GELU, by erf.

    Args:
        hidden_dim: int, width of the hidden layer.
        output_dim: int.

    Input shape: (B, N, C). Output shape: (B, N, output_dim).
    """

    def __init__(self, *, hidden_dim, output_dim, **kwargs):
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.output_dim = output_dim
        self.fc1 = Dense(hidden_dim, name="fc1", dtype=self.dtype_policy)
        self.fc2 = Dense(output_dim, name="fc2", dtype=self.dtype_policy)

    def build(self, input_shape):
        self.fc1.build((None, input_shape[-1]))
        self.fc2.build((None, self.hidden_dim))

    def call(self, tokens, training=False):
        length, channels = tokens.shape[1:]
        # In rank 2 throughout: TensorFlow fuses a GELU only where no reshape stands before it.
        hidden = self.fc1(ops.reshape(tokens, (-1, channels)))
        if training and isinstance(self.fc2, Dense):
            outputs = self.fc2(hidden, gelu_first=True)
        else:
            outputs = self.fc2(ops.gelu(hidden, approximate=False))
        return ops.reshape(outputs, (-1, length, outputs.shape[-1]))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.output_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "output_dim": self.output_dim,
        }
