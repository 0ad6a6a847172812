"""Decomposed relative positions (MViTv2, section 4.1, eq. 4 and 5)."""

import keras
import numpy as np
from keras import ops

from mvit_tf.layers import kernels
from mvit_tf.layers.initializers import kernel_initializer

_AXES = ("temporal", "height", "width")


def relative_index(query_size, key_size):
    """Rows of a table of `2 * max(query_size, key_size) - 1` for every (query, key) pair.

    Positions of the shorter axis are spread over the longer one; the result is truncated to
    an integer as the reference does. Returns int32 (query_size, key_size).
    """
    query_step = max(key_size / query_size, 1.0)
    key_step = max(query_size / key_size, 1.0)
    distance = (
        np.arange(query_size)[:, None] * query_step
        - np.arange(key_size)[None, :] * key_step
        + (key_size - 1) * key_step
    )
    return distance.astype(np.int32)


def linear_interpolation(source, target):
    """The matrix (target, source) that resizes a table linearly, float32.

    Half-pixel centres, edges clamped (PyTorch's `interpolate` with `align_corners=False`).
    """
    positions = (np.arange(target) + 0.5) * source / target - 0.5
    positions = np.clip(positions, 0, source - 1)
    low = np.floor(positions).astype(int)
    high = np.minimum(low + 1, source - 1)
    matrix = np.zeros((target, source), np.float32)
    rows = np.arange(target)
    matrix[rows, low] += 1 - (positions - low)
    matrix[rows, high] += positions - low
    return matrix


@keras.saving.register_keras_serializable(package="mvit_tf")
class RelativePositions(keras.layers.Layer):
    """Relative position scores of queries against the positions of keys, one axis at a time.

    The score of query i and key j is q_i . R_t[i, j] + q_i . R_h[i, j] + q_i . R_w[i, j],
    which depends on j only through its position on each axis. The layer returns the scores per
    position, and `one_hot_keys` the positions of each key, so that one matrix product of the
    concatenations [q, scores] and [k, one-hot] gives q.k + bias: no tensor of the attention's
    size is gathered or added.

    Args:
        query_grid: three ints, (T, H, W) of the queries.
        key_grid: three ints, (T, H, W) of the keys.
        table_lengths: three ints or None, rows of the temporal, height and width tables;
            None leaves an axis out. A length other than `2 * max(query, key) - 1` is
            interpolated linearly when the layer runs (a released model needs it at 312x312).
        class_token: bool. The class token takes part in no relative position.

    Input shape: (B, heads, Nq, head_dim), before scaling. Output shape: (B, heads, Nq, K),
    K the number of key positions on the axes in use.
    """

    def __init__(self, *, query_grid, key_grid, table_lengths, class_token=True, **kwargs):
        super().__init__(**kwargs)
        self.query_grid = tuple(query_grid)
        self.key_grid = tuple(key_grid)
        self.table_lengths = tuple(table_lengths)
        self.class_token = class_token
        self.axes = [axis for axis in range(3) if self.table_lengths[axis] is not None]
        self.num_positions = sum(self.key_grid[axis] for axis in self.axes)

    def build(self, input_shape):
        head_dim = input_shape[-1]
        self.tables = [
            self.add_weight(
                shape=(self.table_lengths[axis], head_dim),
                initializer=kernel_initializer(),
                name=_AXES[axis],
            )
            for axis in self.axes
        ]

    def call(self, queries):
        heads, head_dim = queries.shape[1], queries.shape[3]
        frames, height, width = self.query_grid
        if self.class_token:
            first, queries = kernels.split(queries, [1, queries.shape[2] - 1], axis=2)
        scores = []
        for axis, table in zip(self.axes, self.tables, strict=True):
            rows = self._rows(axis, table, queries.dtype)
            if axis == 0:
                x = ops.reshape(queries, (-1, frames, height * width, head_dim))
                x = ops.matmul(x, rows)
            elif axis == 1:
                x = ops.reshape(queries, (-1, height, width, head_dim))
                x = ops.matmul(x, rows)
            else:
                x = ops.reshape(queries, (-1, height, width, head_dim))
                x = ops.transpose(ops.matmul(ops.transpose(x, (0, 2, 1, 3)), rows), (0, 2, 1, 3))
            scores.append(ops.reshape(x, (-1, heads, frames * height * width, self.key_grid[axis])))
        scores = ops.concatenate(scores, axis=-1)
        if self.class_token:
            none = ops.zeros_like(first[..., :1])
            none = ops.tile(none, (1, 1, 1, self.num_positions))
            scores = ops.concatenate([none, scores], axis=2)
        return scores

    def _rows(self, axis, table, dtype):
        """Table rows of every (query, key) pair of an axis: (query, head_dim, key)."""
        query_size, key_size = self.query_grid[axis], self.key_grid[axis]
        needed = 2 * max(query_size, key_size) - 1
        table = ops.convert_to_tensor(table)
        if needed != table.shape[0]:
            resize = linear_interpolation(table.shape[0], needed)
            table = ops.matmul(ops.cast(resize, table.dtype), table)
        rows = ops.take(table, relative_index(query_size, key_size), axis=0)
        return ops.cast(ops.transpose(rows, (0, 2, 1)), dtype)

    def one_hot_keys(self):
        """The position of each key on each axis as zeros and a one, float32 (Nk, K)."""
        positions = np.indices(self.key_grid).reshape(3, -1)
        one_hot = np.concatenate(
            [np.eye(self.key_grid[axis])[positions[axis]] for axis in self.axes], axis=1
        )
        first = np.zeros((int(self.class_token), one_hot.shape[1]))
        return np.concatenate([first, one_hot]).astype(np.float32)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.num_positions)

    def get_config(self):
        return {
            **super().get_config(),
            "query_grid": self.query_grid,
            "key_grid": self.key_grid,
            "table_lengths": self.table_lengths,
            "class_token": self.class_token,
        }
