"""From the last tokens to one vector a clip, or to those of the grid."""

import keras
from keras import ops

from mvit_tf.layers.tokens import split_class_token

READOUTS = ("class_token", "mean")


@keras.saving.register_keras_serializable(package="mvit_tf")
class GridTokens(keras.layers.Layer):
    """The tokens of the grid alone: (B, [1 +] N, C) becomes (B, N, C).

    Args:
        class_token: bool, whether the first token is a class token.
    """

    def __init__(self, *, class_token=True, **kwargs):
        super().__init__(**kwargs)
        self.class_token = class_token
        self.built = True

    def call(self, tokens):
        return split_class_token(tokens, self.class_token)[1]

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[1] - int(self.class_token), input_shape[2])

    def get_config(self):
        return {**super().get_config(), "class_token": self.class_token}


@keras.saving.register_keras_serializable(package="mvit_tf")
class Readout(keras.layers.Layer):
    """Takes the class token, or the mean of the grid tokens.

    Args:
        mode: `"class_token"` or `"mean"` (over the grid tokens only).
        class_token: bool, whether the first token is a class token.

    Input shape: (B, [1 +] N, C). Output shape: (B, C).

    Raises:
        ValueError: an unknown mode, or `"class_token"` without a class token.
    """

    def __init__(self, *, mode, class_token=True, **kwargs):
        super().__init__(**kwargs)
        if mode not in READOUTS:
            raise ValueError(f"mode must be one of {READOUTS}, got {mode!r}")
        if mode == "class_token" and not class_token:
            raise ValueError("mode='class_token' needs a model with a class token")
        self.mode = mode
        self.class_token = class_token
        self.built = True

    def call(self, tokens):
        first, rest = split_class_token(tokens, self.class_token)
        return first[:, 0] if self.mode == "class_token" else ops.mean(rest, axis=1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1])

    def get_config(self):
        return {**super().get_config(), "mode": self.mode, "class_token": self.class_token}
