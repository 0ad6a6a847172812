"""Chains of elementwise operations as one: XLA makes a single pass over memory of each.

TensorFlow's own runtime takes a pass for every operation, in bfloat16 with conversions around
each, and the passes of a training step take as long as its matrix products.
"""

import contextlib
import contextvars
import functools

import tensorflow as tf

_process_wide = True
# A context variable: an export in one thread leaves a training in another as it is.
_here = contextvars.ContextVar("compiled_kernels", default=True)


def compiled(function):
    """Decorator: the function of tensors, compiled for every new combination of shapes.

    The attribute `uncompiled` is the function as it was.
    """
    with_xla = tf.function(function, autograph=False, jit_compile=True)

    @functools.wraps(function)
    def call(*arguments):
        return (with_xla if _process_wide and _here.get() else function)(*arguments)

    call.uncompiled = function
    return call


def enable_compiled_kernels(enabled: bool):
    """Whether what is traced from now on, by any thread, has parts compiled by XLA.

    They are the default in training, and twice as fast. Turn them off on a TensorFlow without
    what XLA needs, such as CUDA's libdevice.
    """
    global _process_wide
    _process_wide = bool(enabled)


@contextlib.contextmanager
def without_xla():
    """What this thread traces in here has no part compiled by XLA.

    For export: gradients are saved too, and TF Serving refuses a graph with such a part.
    """
    token = _here.set(False)
    try:
        yield
    finally:
        _here.reset(token)
