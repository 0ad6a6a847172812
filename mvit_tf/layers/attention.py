"""Multi-head pooling attention (MViT, section 3.1; MViTv2, section 4.1)."""

import keras
import numpy as np
from keras import ops

from mvit_tf.geometry import RESIDUAL_POOLING_MODES, sequence_length
from mvit_tf.layers import kernels
from mvit_tf.layers.dense import Dense, QKVDense
from mvit_tf.layers.relative_position import RelativePositions
from mvit_tf.layers.token_pooling import TokenPooling
from mvit_tf.layers.tokens import check_length


@keras.saving.register_keras_serializable(package="mvit_tf")
class MultiHeadPoolingAttention(keras.layers.Layer):
    """Self-attention whose queries, keys and values are pooled over space and time.

    Queries, keys and values are projected, pooled each by an operator of its own, then
    attended: softmax(q k^T / sqrt(head_dim) + relative positions) v, the softmax computed in
    float32 under every dtype policy. The output lies on the pooled queries' grid.

    Args:
        dim: int, width of the attention and its output.
        num_heads: int.
        grid: three ints, (T, H, W) of the input tokens.
        pool_kernels: three triples of ints, the pooling kernels of q, k and v.
        pool_strides: three triples of ints, their strides. Keys and values are pooled together,
            with one kernel size and one stride.
        pool_mode: `"conv"`, `"max"` or `"avg"`.
        qkv_bias: bool.
        class_token: bool, whether the first token is a class token.
        residual_pooling: `"none"`, `"patches"` (MViTv2: pooled, unscaled queries are added
            to the result, except at the class token) or `"all"` (at the class token too, as
            timm and PyTorchVideo do).
        relative_table_lengths: three ints or None, see `RelativePositions`; all None for
            no relative positions.

    Input shape: (B, [1 +] T*H*W, C). Output shape: (B, [1 +] T'*H'*W', dim), `output_grid`
    holding (T', H', W').

    Raises:
        ValueError: `dim` is no multiple of `num_heads`, k and v differ in kernel size or
            stride, an unknown mode, or tokens that do not fill the grid.
    """

    def __init__(
        self,
        *,
        dim,
        num_heads,
        grid,
        pool_kernels=((1, 1, 1),) * 3,
        pool_strides=((1, 1, 1),) * 3,
        pool_mode="conv",
        qkv_bias=True,
        class_token=True,
        residual_pooling="none",
        relative_table_lengths=(None, None, None),
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.pool_kernels = tuple(tuple(kernel) for kernel in pool_kernels)
        self.pool_strides = tuple(tuple(stride) for stride in pool_strides)
        if dim % num_heads:
            raise ValueError(f"dim={dim} is no multiple of num_heads={num_heads}")
        for what, (_, keys, values) in (
            ("kernel size", self.pool_kernels),
            ("stride", self.pool_strides),
        ):
            if keys != values:
                raise ValueError(
                    f"keys and values must be pooled with one {what}, got {keys} for the keys and "
                    f"{values} for the values"
                )
        if residual_pooling not in RESIDUAL_POOLING_MODES:
            raise ValueError(
                f"residual_pooling must be one of {RESIDUAL_POOLING_MODES}, "
                f"got {residual_pooling!r}"
            )
        self.dim = dim
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.grid = tuple(grid)
        self.pool_mode = pool_mode
        self.qkv_bias = qkv_bias
        self.class_token = class_token
        self.residual_pooling = residual_pooling
        self.relative_table_lengths = tuple(relative_table_lengths)

        self.qkv = QKVDense(3 * dim, use_bias=qkv_bias, dtype=self.dtype_policy, name="qkv")
        self.pool_q, self.pool_k, self.pool_v = (
            TokenPooling(
                grid=self.grid,
                kernel_size=kernel,
                strides=stride,
                mode=pool_mode,
                num_heads=num_heads,
                class_token=class_token,
                dtype=self.dtype_policy,
                name=f"pool_{name}",
            )
            for name, kernel, stride in zip(
                "qkv", self.pool_kernels, self.pool_strides, strict=True
            )
        )
        self.output_grid = self.pool_q.output_grid
        self.output_length = sequence_length(self.output_grid, class_token)
        if any(length is not None for length in self.relative_table_lengths):
            self.relative_positions = RelativePositions(
                query_grid=self.output_grid,
                key_grid=self.pool_k.output_grid,
                table_lengths=self.relative_table_lengths,
                class_token=class_token,
                dtype=self.dtype_policy,
                name="relative_positions",
            )
        else:
            self.relative_positions = None
        self.proj = Dense(dim, dtype=self.dtype_policy, name="proj")

    def build(self, input_shape):
        check_length(self.name, input_shape, self.grid, self.class_token)
        self.qkv.build((None, input_shape[-1]))
        for pool in (self.pool_q, self.pool_k, self.pool_v):
            pool.build((*input_shape[:-1], self.dim))
        if self.relative_positions is not None:
            self.relative_positions.build((None, self.num_heads, self.output_length, self.head_dim))
        self.proj.build((None, self.dim))

    def call(self, tokens):
        queries, keys, values = self._pooled(tokens)
        outputs = kernels.attend(*self._scored(queries, keys), self._split_heads(values))
        return self._projected(outputs, queries)

    def attention_weights(self, tokens):
        """The softmax (B, heads, Nq, Nk), float32, of the tokens given to `call`."""
        queries, keys, _ = self._pooled(tokens)
        return kernels.attention_weights(*self._scored(queries, keys))

    def call_with_weights(self, tokens):
        """What `call` returns, and the softmax that it comes from.

        The softmax is a tensor of its own here, larger than all others of a block, so that the
        gradient in it can be asked for.

        Returns:
            (outputs (B, Nq, dim), softmax (B, heads, Nq, Nk), float32).
        """
        queries, keys, values = self._pooled(tokens)
        weights = kernels.attention_weights(*self._scored(queries, keys))
        values = self._split_heads(values)
        outputs = ops.matmul(ops.cast(weights, values.dtype), values)
        return self._projected(ops.transpose(outputs, (0, 2, 1, 3)), queries), weights

    def _projected(self, outputs, queries):
        """The layer's result from what is attended (B, Nq, heads, head_dim)."""
        outputs = self._join_heads(outputs)
        if self.residual_pooling == "all":
            outputs = outputs + queries
        elif self.residual_pooling == "patches":
            outputs = outputs + queries * self._patch_mask(queries.dtype)
        return self.proj(outputs)

    def _pooled(self, tokens):
        """Queries (B, Nq, dim), keys and values (B, Nk, dim), projected and pooled."""
        windows = self.pool_k.windows
        in_windows = isinstance(self.qkv, QKVDense) and not windows.cover_grid
        if isinstance(self.qkv, QKVDense):
            # Of keys and values, those that their pooling looks at.
            queries, keys, values = self.qkv(tokens, key_windows=windows)
        else:
            queries, keys, values = ops.split(self.qkv(tokens), 3, axis=-1)
        return (
            self.pool_q(queries),
            self.pool_k(keys, in_windows=in_windows),
            self.pool_v(values, in_windows=in_windows),
        )

    def _scored(self, queries, keys):
        """Queries and keys, head by head, whose product gives the logits of the softmax."""
        queries, keys = self._split_heads(queries), self._split_heads(keys)
        # The keys, not the queries: they are fewer, and the reference's relative positions see
        # the queries before scaling.
        keys = keys * ops.cast(self.head_dim**-0.5, keys.dtype)
        if self.relative_positions is None:
            return queries, keys
        scores = self.relative_positions(queries)
        one_hot = ops.cast(self.relative_positions.one_hot_keys(), keys.dtype)
        one_hot = ops.broadcast_to(one_hot, (*ops.shape(keys)[:2], *one_hot.shape))
        return (
            ops.concatenate([queries, scores], axis=-1),
            ops.concatenate([keys, one_hot], axis=-1),
        )

    def _split_heads(self, tokens):
        """(B, N, dim) to (B, heads, N, head_dim)."""
        if self.num_heads == 1:
            return ops.expand_dims(tokens, 1)
        split = (-1, tokens.shape[1], self.num_heads, self.head_dim)
        return ops.transpose(ops.reshape(tokens, split), (0, 2, 1, 3))

    def _join_heads(self, outputs):
        """(B, N, heads, head_dim), as `kernels.attend` returns it, to (B, N, dim)."""
        return ops.reshape(outputs, (-1, self.output_length, self.dim))

    def _patch_mask(self, dtype):
        mask = np.ones((self.output_length, 1), np.float32)
        mask[: int(self.class_token)] = 0
        return ops.cast(mask, dtype)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.output_length, self.dim)

    def get_config(self):
        return {
            **super().get_config(),
            "dim": self.dim,
            "num_heads": self.num_heads,
            "grid": self.grid,
            "pool_kernels": self.pool_kernels,
            "pool_strides": self.pool_strides,
            "pool_mode": self.pool_mode,
            "qkv_bias": self.qkv_bias,
            "class_token": self.class_token,
            "residual_pooling": self.residual_pooling,
            "relative_table_lengths": self.relative_table_lengths,
        }
