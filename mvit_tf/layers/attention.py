"""Multi-head pooling attention (MViT, section 3.1; MViTv2, section 4.1)."""

import keras
import numpy as np
from keras import ops

from mvit_tf.layers import kernels
from mvit_tf.layers.mlp import dense
from mvit_tf.layers.relative_position import RelativePositions
from mvit_tf.layers.token_pooling import TokenPooling, pool_together
from mvit_tf.layers.tokens import (
    apply_dense,
    check_length,
    dense_weights,
    grid_length,
    project_tokens,
)

RESIDUAL_POOLING_MODES = ("none", "patches", "all")


@keras.saving.register_keras_serializable(package="mvit_tf")
class MultiHeadPoolingAttention(keras.layers.Layer):
    """Self-attention whose queries, keys and values are pooled over space and time.

    Queries, keys and values are projected, pooled each by an operator of its own, then
    attended: softmax(q k^T / sqrt(head_dim) + relative positions) v, the softmax in float32
    under every dtype policy. The output lies on the pooled queries' grid.

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

        self.qkv = dense(3 * dim, name="qkv", dtype=self.dtype_policy, use_bias=qkv_bias)
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
        self.output_length = grid_length(self.output_grid, class_token)
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
        self.proj = dense(dim, name="proj", dtype=self.dtype_policy)

    def build(self, input_shape):
        check_length(self.name, input_shape, self.grid, self.class_token)
        self.qkv.build((None, input_shape[-1]))
        for pool in (self.pool_q, self.pool_k, self.pool_v):
            pool.build((*input_shape[:-1], self.dim))
        if self.relative_positions is not None:
            self.relative_positions.build(
                (None, self.num_heads, self.output_length, self.head_dim)
            )
        self.proj.build((None, self.dim))

    def call(self, tokens, norm=None, residual=None):
        """Attends.

        Args:
            tokens: (B, [1 +] T*H*W, C).
            norm: a LayerNormalization whose gain and offset the tokens still lack.
            residual: (B, [1 +] T'*H'*W', dim) to add to the result, or None.
        """
        queries, keys, values = self._pooled(tokens, norm)
        outputs = kernels.attend(*self._scored(queries, keys), values)
        if self.residual_pooling == "all":
            outputs = outputs + queries
        elif self.residual_pooling == "patches":
            outputs = outputs + queries * self._patch_mask(queries.dtype)
        return apply_dense(self.proj, self._joined(outputs), residual=residual)

    def attention_weights(self, tokens, norm=None):
        """The softmax (B, heads, Nq, Nk), float32, of input tokens (B, N, C); see `call`."""
        queries, keys, _ = self._pooled(tokens, norm)
        return kernels.attention_weights(*self._scored(queries, keys))

    def _pooled(self, tokens, norm=None):
        """Queries (B, heads, Nq, head_dim), keys and values (B, heads, Nk, head_dim), pooled."""
        kernel, bias = dense_weights(self.qkv, norm)
        sizes = [self.dim, 2 * self.dim]
        biases = (None, None) if bias is None else kernels.split(bias, sizes, axis=0)
        query_kernel, kernel = kernels.split(kernel, sizes, axis=1)
        queries = project_tokens(tokens, query_kernel, biases[0])
        keys_values = project_tokens(self.pool_k.take_samples(tokens), kernel, biases[1])
        if not self.pool_k.is_identity:
            keys_values = pool_together([self.pool_k, self.pool_v], keys_values)
        keys, values = ops.split(keys_values, 2, axis=-1)
        return [self._heads(part) for part in (self.pool_q(queries), keys, values)]

    def _heads(self, tokens):
        """(B, N, dim) to (B, heads, N, head_dim)."""
        if self.num_heads == 1:
            return ops.expand_dims(tokens, 1)
        split = (-1, tokens.shape[1], self.num_heads, self.head_dim)
        return ops.transpose(ops.reshape(tokens, split), (0, 2, 1, 3))

    def _joined(self, heads):
        """(B, heads, N, head_dim) to (B, N, dim)."""
        if self.num_heads > 1:
            heads = ops.transpose(heads, (0, 2, 1, 3))
        return ops.reshape(heads, (-1, self.output_length, self.dim))

    def _scored(self, queries, keys):
        """Queries and keys whose product gives the logits of the softmax."""
        # The keys, not the queries: they are fewer, and the reference's relative positions see
        # the queries before scaling.
        keys = keys * ops.cast(self.head_dim**-0.5, keys.dtype)
        if self.relative_positions is None:
            return queries, keys
        scores = self.relative_positions(queries)
        codes = ops.cast(self.relative_positions.key_codes(), keys.dtype)
        codes = ops.broadcast_to(codes, (*ops.shape(keys)[:2], *codes.shape))
        return (
            ops.concatenate([queries, scores], axis=-1),
            ops.concatenate([keys, codes], axis=-1),
        )

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
