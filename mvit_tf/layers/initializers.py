"""The initial values of SlowFast's MViT, which every published video model started from.

Linear and position weights: normal, standard deviation 0.02 (SlowFast cuts the tails at an
absolute 2, a hundred standard deviations, so nothing is cut). Linear and LayerNorm biases:
0.02, not zero.
"""

import math

import keras


def kernel_initializer(scale=1.0):
    return keras.initializers.RandomNormal(stddev=0.02 * scale)


def bias_initializer(scale=1.0):
    return keras.initializers.Constant(0.02 * scale)


def convolution_bias_initializer(kernel_size, channels):
    """PyTorch's default for a convolution's bias: uniform within 1 / sqrt(fan in)."""
    limit = 1 / math.sqrt(math.prod(kernel_size) * channels)
    return keras.initializers.RandomUniform(-limit, limit)
