"""The two-layer perceptron of a transformer block."""

import keras

from mvit_tf.layers.initializers import bias_initializer, kernel_initializer
from mvit_tf.layers.tokens import apply_dense


def dense(units, *, name, dtype, use_bias=True, activation=None):
    """A `keras.layers.Dense` with MViT's initial values."""
    return keras.layers.Dense(
        units,
        activation=activation,
        use_bias=use_bias,
        kernel_initializer=kernel_initializer(),
        bias_initializer=bias_initializer(),
        name=name,
        dtype=dtype,
    )


def _erf_gelu(x):
    return keras.activations.gelu(x, approximate=False)


@keras.saving.register_keras_serializable(package="mvit_tf")
class MLP(keras.layers.Layer):
    """Dense, GELU (exact, by erf), Dense, on every token.

    Args:
        hidden_dim: int, width of the hidden layer.
        output_dim: int.

    Input shape: (B, N, C). Output shape: (B, N, output_dim).
    """

    def __init__(self, *, hidden_dim, output_dim, **kwargs):
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.output_dim = output_dim
        self.fc1 = dense(hidden_dim, name="fc1", dtype=self.dtype_policy)
        self.fc2 = dense(output_dim, name="fc2", dtype=self.dtype_policy)

    def build(self, input_shape):
        self.fc1.build((None, input_shape[-1]))
        self.fc2.build((None, self.hidden_dim))

    def call(self, tokens):
        return apply_dense(lambda x: self.fc2(_erf_gelu(self.fc1(x))), tokens)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.output_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "output_dim": self.output_dim,
        }
