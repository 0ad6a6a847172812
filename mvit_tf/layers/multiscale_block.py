"""The transformer block of MViT, which may shrink the grid and widen the channels."""

import functools

import keras

from mvit_tf.layers import kernels
from mvit_tf.layers.attention import MultiHeadPoolingAttention
from mvit_tf.layers.initializers import bias_initializer
from mvit_tf.layers.mlp import MLP, dense
from mvit_tf.layers.stochastic_depth import StochasticDepth
from mvit_tf.layers.token_pooling import NORM_EPSILON, TokenPooling
from mvit_tf.layers.tokens import apply_dense


def skip_kernel(stride):
    """Kernel of the skip path's max pooling: stride + 1 where it strides, else 1."""
    return tuple(size + 1 if size > 1 else 1 for size in stride)


@keras.saving.register_keras_serializable(package="mvit_tf")
class MultiscaleBlock(keras.layers.Layer):
    """Pooling attention and MLP, each with a norm before and a skip path around.

    The skip path around the attention is max-pooled where the queries are strided. Where a
    branch changes the width, its skip path is a projection of the *normalised* input
    (MViT, Table A.1: 2.6 points better than of the input itself). MViT widens in the MLP of
    a stage's last block, MViTv2 in the attention of a stage's first.

    Args:
        attention_dim: int, width of the attention.
        output_dim: int, width of the output.
        num_heads, grid, pool_kernels, pool_strides, pool_mode, qkv_bias, class_token,
        residual_pooling, relative_table_lengths: see `MultiHeadPoolingAttention`.
        mlp_ratio: float, hidden width of the MLP over `attention_dim`.
        drop_path_rate: float in [0, 1), stochastic depth of both branches.
        remat: bool. In training, keep nothing but the input and compute the rest again for
            the gradient: less memory, more time, the same numbers. (`keras.RematScope` fails in
            TensorFlow's graphs, and draws stochastic depth anew for the gradient.)

    Input shape: (B, [1 +] T*H*W, C). Output shape: (B, [1 +] T'*H'*W', output_dim).
    """

    def __init__(
        self,
        *,
        attention_dim,
        output_dim,
        num_heads,
        grid,
        pool_kernels=((1, 1, 1),) * 3,
        pool_strides=((1, 1, 1),) * 3,
        pool_mode="conv",
        mlp_ratio=4.0,
        qkv_bias=True,
        drop_path_rate=0.0,
        class_token=True,
        residual_pooling="none",
        relative_table_lengths=(None, None, None),
        remat=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.attention_dim = attention_dim
        self.output_dim = output_dim
        self.mlp_ratio = mlp_ratio
        self.drop_path_rate = drop_path_rate
        self.remat = remat
        self.norm1 = self._norm("norm1")
        self.attn = MultiHeadPoolingAttention(
            dim=attention_dim,
            num_heads=num_heads,
            grid=grid,
            pool_kernels=pool_kernels,
            pool_strides=pool_strides,
            pool_mode=pool_mode,
            qkv_bias=qkv_bias,
            class_token=class_token,
            residual_pooling=residual_pooling,
            relative_table_lengths=relative_table_lengths,
            dtype=self.dtype_policy,
            name="attn",
        )
        query_stride = self.attn.pool_strides[0]
        self.pool_skip = TokenPooling(
            grid=grid,
            kernel_size=skip_kernel(query_stride),
            strides=query_stride,
            mode="max",
            class_token=class_token,
            dtype=self.dtype_policy,
            name="pool_skip",
        )
        self.drop_path = StochasticDepth(drop_path_rate, dtype=self.dtype_policy, name="drop_path")
        self.norm2 = self._norm("norm2")
        self.mlp = MLP(
            hidden_dim=int(attention_dim * mlp_ratio),
            output_dim=output_dim,
            dtype=self.dtype_policy,
            name="mlp",
        )

    def _norm(self, name):
        return keras.layers.LayerNormalization(
            epsilon=NORM_EPSILON,
            beta_initializer=bias_initializer(),
            dtype=self.dtype_policy,
            name=name,
        )

    def build(self, input_shape):
        self.norm1.build(input_shape)
        self.attn.build(input_shape)
        self.widen_attention = self._widen("proj_attention", input_shape[-1], self.attention_dim)
        self.pool_skip.build((*input_shape[:-1], self.attention_dim))
        attended = self.attn.compute_output_shape(input_shape)
        self.norm2.build(attended)
        self.mlp.build(attended)
        self.widen_mlp = self._widen("proj_mlp", self.attention_dim, self.output_dim)

    def _widen(self, name, input_dim, output_dim):
        if input_dim == output_dim:
            return None
        layer = dense(output_dim, name=name, dtype=self.dtype_policy)
        layer.build((None, input_dim))
        return layer

    def call(self, tokens, training=False):
        if not training:
            return self._transform(tokens)
        scales = []
        if self.drop_path_rate:
            scales = [self.drop_path.draw(tokens) for _ in range(2)]
        transform = functools.partial(self._transform, training=True)
        if self.remat:
            transform = keras.remat(transform)
        return transform(tokens, *scales)

    def _transform(self, tokens, *scales, training=False):
        attention_scale, mlp_scale = scales or (None, None)
        # The norms' gains and offsets go into the weights of the layers behind them.
        normed = kernels.normalize(tokens, NORM_EPSILON)
        attend = functools.partial(self.attn, normed, norm=self.norm1)
        if self.widen_attention is not None:
            tokens = apply_dense(self.widen_attention, normed, self.norm1)
        tokens = _with_branch(self.pool_skip(tokens), attend, attention_scale)
        normed = kernels.normalize(tokens, NORM_EPSILON)
        mlp = functools.partial(self.mlp, normed, norm=self.norm2, training=training)
        if self.widen_mlp is not None:
            tokens = apply_dense(self.widen_mlp, normed, self.norm2)
        return _with_branch(tokens, mlp, mlp_scale)

    def compute_output_shape(self, input_shape):
        return (*self.attn.compute_output_shape(input_shape)[:-1], self.output_dim)

    def get_config(self):
        attention = self.attn.get_config()
        shared = (
            "num_heads",
            "grid",
            "pool_kernels",
            "pool_strides",
            "pool_mode",
            "qkv_bias",
            "class_token",
            "residual_pooling",
            "relative_table_lengths",
        )
        return {
            **super().get_config(),
            "attention_dim": self.attention_dim,
            "output_dim": self.output_dim,
            "mlp_ratio": self.mlp_ratio,
            "drop_path_rate": self.drop_path_rate,
            "remat": self.remat,
            **{key: attention[key] for key in shared},
        }


def _with_branch(skip, branch, scale):
    """skip + scale * branch."""
    if scale is None:
        return branch(residual=skip)
    return skip + branch() * scale
