"""The transformer block of MViT, which may shrink the grid and expand the channels."""

import functools

import keras

from mvit_tf.geometry import skip_kernel
from mvit_tf.layers.attention import MultiHeadPoolingAttention
from mvit_tf.layers.dense import Dense
from mvit_tf.layers.mlp import MLP
from mvit_tf.layers.normalization import LayerNormalization
from mvit_tf.layers.stochastic_depth import StochasticDepth
from mvit_tf.layers.token_pooling import TokenPooling


@keras.saving.register_keras_serializable(package="mvit_tf")
class MultiscaleBlock(keras.layers.Layer):
    """Pooling attention and MLP, each with a norm before and a skip path around.

    The skip path around the attention is max-pooled where the queries are strided. Where a
    branch changes the width, its skip path is a projection of the *normalised* input, as in all
    released models (MViT, Table A.1: 77.2 % against 74.6 % without the norm), unless
    `normalized_skip` is off. MViT expands the channels in
    the MLP of a stage's last block, MViTv2 in the attention of a stage's first.

    Args:
        attention_dim: int, width of the attention.
        output_dim: int, width of the output.
        num_heads, grid, pool_kernels, pool_strides, pool_mode, qkv_bias, class_token,
        residual_pooling, relative_table_lengths: see `MultiHeadPoolingAttention`.
        mlp_ratio: float, hidden width of the MLP over `attention_dim`.
        normalized_skip: bool, whether a skip path that changes the width projects the normed
            input; False takes the input itself.
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
        normalized_skip=True,
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
        self.normalized_skip = normalized_skip
        self.drop_path_rate = drop_path_rate
        self.remat = remat
        self.norm1 = LayerNormalization(dtype=self.dtype_policy, name="norm1")
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
        self.norm2 = LayerNormalization(dtype=self.dtype_policy, name="norm2")
        self.mlp = MLP(
            hidden_dim=int(attention_dim * mlp_ratio),
            output_dim=output_dim,
            dtype=self.dtype_policy,
            name="mlp",
        )

    def build(self, input_shape):
        self.norm1.build(input_shape)
        self.attn.build(input_shape)
        input_dim = input_shape[-1]
        self.proj_attention = self._projection("proj_attention", input_dim, self.attention_dim)
        self.pool_skip.build((*input_shape[:-1], self.attention_dim))
        attended = self.attn.compute_output_shape(input_shape)
        self.norm2.build(attended)
        self.mlp.build(attended)
        self.proj_mlp = self._projection("proj_mlp", self.attention_dim, self.output_dim)

    def _projection(self, name, input_dim, output_dim):
        """The skip path's projection to another width, None where that stays."""
        if input_dim == output_dim:
            return None
        layer = Dense(output_dim, dtype=self.dtype_policy, name=name)
        layer.build((None, input_dim))
        return layer

    @property
    def dense_layers(self):
        """All `Dense` layers: of attention, MLP and, where the block widens, its skip paths."""
        layers = (self.attn.qkv, self.attn.proj, self.mlp.fc1, self.mlp.fc2)
        layers += (self.proj_attention, self.proj_mlp)
        return [layer for layer in layers if isinstance(layer, Dense)]

    @property
    def widen_attention(self):
        """`proj_attention` in files of version 0.1: Keras looks for weights by attribute."""
        return self.proj_attention

    @property
    def widen_mlp(self):
        """`proj_mlp`, likewise."""
        return self.proj_mlp

    def call(self, tokens, training=False):
        # Drawn here, as with `remat` what follows runs again for the gradient.
        scales = ()
        if training and self.drop_path_rate:
            scales = [self.drop_path.draw(tokens) for _ in range(2)]
        forward = functools.partial(self._forward, training=training)
        if training and self.remat:
            forward = keras.remat(forward)
        return forward(tokens, *scales)

    def _forward(self, tokens, attention_scale=None, mlp_scale=None, *, training):
        normed = self.norm1(tokens, training=training)
        skip = self._skip_source(tokens, normed, self.proj_attention)
        if self.proj_attention is not None:
            skip = self.proj_attention(skip)
        branch = self.attn(normed, training=training)
        tokens = self.pool_skip(skip) + self.drop_path(branch, attention_scale, training=training)
        return self._forward_mlp(tokens, mlp_scale, training=training)

    def call_with_parts(self, tokens):
        """What `call` returns in inference, and what it is made of on the way.

        Returns:
            (outputs (B, Nq, output_dim), dict of tensors: `source`, the tokens that the skip path
            takes; `skip` and `branch`, the pooled skip path and the attention, whose sum goes on;
            `weights`, the softmax (B, heads, Nq, Nk), float32).
        """
        normed = self.norm1(tokens)
        source = self._skip_source(tokens, normed, self.proj_attention)
        skip = source if self.proj_attention is None else self.proj_attention(source)
        skip = self.pool_skip(skip)
        branch, weights = self.attn.call_with_weights(normed)
        parts = {"source": source, "skip": skip, "branch": branch, "weights": weights}
        return self._forward_mlp(skip + branch), parts

    def _forward_mlp(self, tokens, scale=None, *, training=False):
        normed = self.norm2(tokens, training=training)
        skip = self._skip_source(tokens, normed, self.proj_mlp)
        if self.proj_mlp is not None:
            skip = self.proj_mlp(skip)
        branch = self.mlp(normed, training=training)
        return skip + self.drop_path(branch, scale, training=training)

    def _skip_source(self, tokens, normed, projection):
        """What a skip path begins with: the tokens, or what its projection takes."""
        return tokens if projection is None or not self.normalized_skip else normed

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
            "normalized_skip": self.normalized_skip,
            "drop_path_rate": self.drop_path_rate,
            "remat": self.remat,
            **{key: attention[key] for key in shared},
        }
