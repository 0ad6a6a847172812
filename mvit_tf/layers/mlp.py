"""The two-layer perceptron of a transformer block."""

import keras

from mvit_tf.layers import kernels
from mvit_tf.layers.initializers import bias_initializer, kernel_initializer
from mvit_tf.layers.tokens import dense_weights, in_rank_2


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

    def call(self, tokens, norm=None, residual=None, training=False):
        """Applies the perceptron.

        Args:
            tokens: (B, N, C).
            norm: a LayerNormalization whose gain and offset the tokens still lack.
            residual: (B, N, output_dim) to add to the result, or None.
            training: bool, whether gradients will be asked for; the result is the same.
        """
        kernel = kernels.mlp if training else kernels.mlp_inference
        weights = (*dense_weights(self.fc1, norm), *dense_weights(self.fc2))
        return in_rank_2(lambda x: kernel(x, *weights), tokens, residual)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.output_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "output_dim": self.output_dim,
        }
