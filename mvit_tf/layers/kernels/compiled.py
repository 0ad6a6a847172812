"""Chains of elementwise operations as one: XLA makes a single pass over memory of each.

TensorFlow's own runtime takes a pass for every operation, in bfloat16 with conversions around
each, and the passes of a training step take as long as its matrix products.
"""

import contextlib
import functools
import os
import sys

import tensorflow as tf

_enabled = True


def compiled(function):
    """Decorator: the function of tensors, compiled for every new combination of shapes."""
    with_xla = tf.function(function, autograph=False, jit_compile=True)

    @functools.wraps(function)
    def call(*arguments):
        return (with_xla if _enabled else function)(*arguments)

    return call


@contextlib.contextmanager
def without_xla():
    """What is traced in here has nothing compiled: for export, gradients are saved too.

    TF Serving refuses to run a graph with such a part.
    """
    global _enabled
    before, _enabled = _enabled, False
    try:
        yield
    finally:
        _enabled = before


def start_xla_quietly():
    """Compiles next to nothing while what goes to standard error is dropped.

    When it first compiles, XLA says so there, whatever log level is set. For command lines that
    promise to print words of their own only; `TF_CPP_MIN_LOG_LEVEL=0` lets it speak.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "0") == "0":
        return
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        compiled(lambda: tf.ones(2) + 1)()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
