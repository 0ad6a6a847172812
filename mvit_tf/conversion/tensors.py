"""Arrays that are read when they are needed, and how the two frameworks order their axes."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from mvit_tf.errors import UserError


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An array known by its shape; `read` fetches the values.

    Converting a state dict makes new tensors from old ones without reading any, so that a large
    file passes through memory one variable at a time.

    Attributes:
        names: names in the source of all that the values are made of.
        shape: tuple of ints.
        read: returns the values, a numpy array of `shape`.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]

    def transpose(self, *axes):
        shape = tuple(self.shape[axis] for axis in axes)
        return self.map(shape, lambda values: values.transpose(axes))

    def reshape(self, *shape):
        """`numpy.reshape`; one size may be -1."""
        shape = np.empty(self.shape, np.bool_).reshape(shape).shape
        return self.map(shape, lambda values: values.reshape(shape))

    def map(self, shape, function):
        """The tensor of `function(values)`, which has `shape`."""
        return Tensor(self.names, tuple(shape), lambda: function(self.read()))


def as_tensor(name, values):
    """Wraps a numpy array or a PyTorch tensor, on any device and of any floating type."""
    if hasattr(values, "detach"):

        def read():
            plain = values.detach().cpu()
            return (plain.float() if plain.is_floating_point() else plain).numpy()

        return Tensor((name,), tuple(values.shape), read)
    return Tensor((name,), tuple(np.shape(values)), lambda: np.asarray(values))


def concatenate(tensors: Sequence[Tensor], axis):
    """The tensors one after the other along `axis`."""
    shape = list(tensors[0].shape)
    shape[axis] = sum(tensor.shape[axis] for tensor in tensors)
    names = tuple(name for tensor in tensors for name in tensor.names)
    return Tensor(
        names, tuple(shape), lambda: np.concatenate([tensor.read() for tensor in tensors], axis)
    )


def stored_twice(first, second):
    """A tensor that its source holds under two names.

    Raises (on reading):
        UserError: the two differ.
    """

    def read():
        values = first.read()
        if not np.array_equal(values, second.read()):
            raise UserError(
                f"{first.names[0]} and {second.names[0]} should hold the same values and do not: "
                "the file is damaged or was edited; save it again from the PyTorch model"
            )
        return values

    return Tensor(first.names + second.names, first.shape, read)


def to_keras_axes(path, tensor):
    """Reorders the axes of a PyTorch tensor for the variable at `path`.

    Linear (out, in) becomes (in, out); convolution (out, in, [T,] H, W) becomes
    (T, H, W, in, out), a depthwise one likewise; tokens and position tables lose their leading
    axis of 1 or gain it. Other tensors are the same in both frameworks.
    """
    rank = len(tensor.shape)
    if path.endswith("/kernel") and rank == 2:
        return tensor.transpose(1, 0)
    if path.endswith("/kernel") and rank == 4:
        outputs, inputs, height, width = tensor.shape
        tensor, rank = tensor.reshape(outputs, inputs, 1, height, width), 5
    if path.endswith("/kernel") and rank == 5:
        return tensor.transpose(2, 3, 4, 1, 0)
    if path == "class_token/token":
        return tensor.reshape(1, 1, -1)
    if path.startswith("positions/"):
        return tensor.reshape(-1, tensor.shape[-1])
    return tensor


def to_pytorch_axes(path, values):
    """The inverse of `to_keras_axes` for numpy arrays; convolutions come out with five axes."""
    if path.endswith("/kernel") and values.ndim == 2:
        values = values.transpose(1, 0)
    elif path.endswith("/kernel") and values.ndim == 5:
        values = values.transpose(4, 3, 0, 1, 2)
    elif path.startswith("positions/"):
        values = values[None]
    return np.ascontiguousarray(values)


def without_time(name, values):
    """A convolution (out, in, 1, H, W) as (out, in, H, W).

    Raises:
        UserError: the kernel covers more than one frame.
    """
    if values.shape[2] != 1:
        raise UserError(
            f"{name} covers {values.shape[2]} frames; an image layout holds kernels of one"
        )
    return values[:, :, 0]
