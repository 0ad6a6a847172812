"""Between the dtype of tokens and at least float32, without an operation where nothing changes."""

import tensorflow as tf


def wide(x):
    return tf.cast(x, tf.float32) if x.dtype.size < 4 else x


def narrow(x, dtype):
    return x if x.dtype == dtype else tf.cast(x, dtype)
