"""A model with its weights as constants, for inference."""

from collections.abc import Callable

import keras
import tensorflow as tf

# A graph with its constants is one protocol buffer, which must stay below 2 GiB.
MAX_BYTES = 2**31 - 2**26


def is_freezable(model: keras.Model) -> bool:
    """Whether the weights of a model fit into one graph as constants."""
    return sum(weight.numpy().nbytes for weight in model.weights) <= MAX_BYTES


def frozen_call(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """The inference pass of a model as a function to be traced, weights as constants.

    Of a constant, TensorFlow computes once what depends on it alone, and keeps it as the matrix
    product of the machine wants it. In bfloat16 on a CPU with AMX that makes the forward pass
    1.6 times as fast; products with variables are not even given to AMX when a bias follows.

    The constants are the weights of now: training on changes nothing in what was traced before.
    Models that are not freezable stay as they are.

    Args:
        model: a built model.

    Returns:
        A function from inputs to outputs, for use inside a `tf.function`.
    """
    if not is_freezable(model):
        return lambda inputs: model(inputs, training=False)
    trainable, fixed = (
        [weight.numpy() for weight in weights]
        for weights in (model.trainable_variables, model.non_trainable_variables)
    )

    def call(inputs):
        outputs, _ = model.stateless_call(
            [tf.constant(value) for value in trainable],
            [tf.constant(value) for value in fixed],
            inputs,
            training=False,
        )
        return outputs

    return call
