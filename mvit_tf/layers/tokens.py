"""Token tensors (B, [1 +] T*H*W, C): class token first, then the grid, T-major."""

import keras
from keras import ops

from mvit_tf.geometry import sequence_length
from mvit_tf.layers import kernels


def split_class_token(tokens, class_token):
    """(class tokens (B, 1, C) or None, grid tokens (B, T*H*W, C)).

    A split, not two slices: the gradient of a slice is a zero-filled tensor of the input's
    size, that of a split is one concatenation.
    """
    if not class_token:
        return None, tokens
    first, rest = kernels.split(tokens, [1, tokens.shape[1] - 1], axis=1)
    return first, rest


def join_class_token(first, rest):
    """The inverse of `split_class_token`."""
    return rest if first is None else ops.concatenate([first, rest], axis=1)


def check_length(name, tokens_shape, grid, class_token):
    """Refuses tokens that do not fill the grid.

    Raises:
        ValueError: the number of tokens is not T*H*W (+ 1 with a class token).
    """
    expected = sequence_length(grid, class_token)
    if len(tokens_shape) != 3 or tokens_shape[1] != expected:
        raise ValueError(
            f"{name} expects tokens (B, {expected}, C) for the grid T, H, W = {tuple(grid)} "
            f"{'with' if class_token else 'without'} a class token, got shape {tuple(tokens_shape)}"
        )


def as_tensor(weight):
    """A variable's value, in the dtype that its layer computes in; tensors as they are.

    `ops.convert_to_tensor` leaves a Keras variable as it is, and some operations refuse it.
    """
    return weight.value if isinstance(weight, keras.Variable) else weight
