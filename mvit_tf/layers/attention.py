"""Multi-head pooling attention (MViT, section 3.1; MViTv2, section 4.1)."""

import keras
import numpy as np
from keras import ops

from mvit_tf.layers.mlp import dense
from mvit_tf.layers.relative_position import RelativePositions
from mvit_tf.layers.token_pooling import TokenPooling
from mvit_tf.layers.tokens import apply_dense, check_length, grid_length

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
        pool_strides: three triples of ints, their strides; those of k and v must be equal.
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
        ValueError: `dim` is no multiple of `num_heads`, k and v differ in stride, an
            unknown mode, or tokens that do not fill the grid.
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
        if self.pool_strides[1] != self.pool_strides[2]:
            raise ValueError(
                f"keys and values must be pooled with one stride, got {self.pool_strides[1]} for "
                f"the keys and {self.pool_strides[2]} for the values"
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
        if self.pool_k.output_grid != self.pool_v.output_grid:
            raise ValueError(
                f"the pooled keys lie on the grid {self.pool_k.output_grid}, the values on "
                f"{self.pool_v.output_grid}: kernels {self.pool_kernels[1:]} do not match"
            )
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
            queries = grid_length(self.output_grid, self.class_token)
            self.relative_positions.build((None, self.num_heads, queries, self.head_dim))
        self.proj.build((None, self.dim))

    def call(self, tokens):
        queries, keys, values = self._pooled(tokens)
        outputs = ops.matmul(self._attention(queries, keys), values)
        if self.residual_pooling == "all":
            outputs = outputs + queries
        elif self.residual_pooling == "patches":
            outputs = outputs + queries * self._patch_mask(queries.dtype)
        outputs = ops.transpose(outputs, (0, 2, 1, 3))
        outputs = ops.reshape(outputs, (-1, outputs.shape[1], self.dim))
        return apply_dense(self.proj, outputs)

    def attention_weights(self, tokens):
        """The softmax (B, heads, Nq, Nk), float32, of input tokens (B, N, C)."""
        queries, keys, _ = self._pooled(tokens)
        return self._softmax(queries, keys)

    def _pooled(self, tokens):
        """Queries (B, heads, Nq, head_dim), keys transposed, values, all pooled."""
        queries, keys, values = ops.split(apply_dense(self.qkv, tokens), 3, axis=-1)
        return (
            self._heads(self.pool_q(queries), (0, 2, 1, 3)),
            self._heads(self.pool_k(keys), (0, 2, 3, 1)),
            self._heads(self.pool_v(values), (0, 2, 1, 3)),
        )

    def _heads(self, tokens, axes):
        split = (-1, tokens.shape[1], self.num_heads, self.head_dim)
        return ops.transpose(ops.reshape(tokens, split), axes)

    def _softmax(self, queries, keys):
        scaled = queries * ops.cast(self.head_dim**-0.5, queries.dtype)
        if self.relative_positions is not None:
            # The reference's relative positions see the queries before scaling.
            scores = self.relative_positions(queries)
            codes = ops.cast(self.relative_positions.key_codes().T, keys.dtype)
            codes = ops.broadcast_to(codes, (*ops.shape(keys)[:2], *codes.shape))
            scaled = ops.concatenate([scaled, scores], axis=-1)
            keys = ops.concatenate([keys, codes], axis=2)
        logits = ops.cast(ops.matmul(scaled, keys), "float32")
        return ops.softmax(logits, axis=-1)

    def _attention(self, queries, keys):
        return ops.cast(self._softmax(queries, keys), queries.dtype)

    def _patch_mask(self, dtype):
        length = grid_length(self.output_grid, self.class_token)
        mask = np.ones((length, 1), np.float32)
        mask[: int(self.class_token)] = 0
        return ops.cast(mask, dtype)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], grid_length(self.output_grid, self.class_token), self.dim)

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
