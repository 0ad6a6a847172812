"""The encoder of every model: frames to tokens, and tokens through the blocks."""

import keras

from mvit_tf.layers.embeddings import ClassToken, MaskToken, PatchEmbedding, PositionEmbedding
from mvit_tf.layers.multiscale_block import MultiscaleBlock


def embed_frames(config, frames, *, mask=None, dtype):
    """Tokens (B, [1 +] T*H*W, C) of frames.

    Args:
        config: MViTConfig.
        frames: symbolic tensor of the config's input shape.
        mask: symbolic tensor (B, T', H', W'), 1 where the learned mask token takes the place of
            the patches (see `MaskToken`); None for a model without one.
        dtype: dtype policy of the layers.
    """
    if config.image:
        one_frame = (1, *config.input_shape)
        frames = keras.layers.Reshape(one_frame, dtype=dtype, name="one_frame")(frames)
    tokens = PatchEmbedding(
        embed_dim=config.embed_dim,
        kernel_size=config.patch_kernel,
        strides=config.patch_stride,
        padding=config.patch_padding,
        dtype=dtype,
        name="patch_embed",
    )(frames)
    if mask is not None:
        tokens = MaskToken(grid=config.patch_grid, dtype=dtype, name="mask_token")(tokens, mask)
    if config.class_token:
        tokens = ClassToken(dtype=dtype, name="class_token")(tokens)
    if config.positions != "none":
        tokens = PositionEmbedding(
            grid=config.patch_grid,
            mode=config.positions,
            class_token=config.class_token,
            dtype=dtype,
            name="positions",
        )(tokens)
    return tokens


def encode_tokens(config, tokens, *, remat, dtype):
    """The last block's tokens (B, [1 +] T*H*W, C), not normed.

    Args:
        config: MViTConfig.
        tokens: as `embed_frames` gives them.
        remat: see `MultiscaleBlock`.
        dtype: dtype policy of the layers.
    """
    for spec in config.blocks():
        tokens = MultiscaleBlock(
            attention_dim=spec.attention_dim,
            output_dim=spec.output_dim,
            num_heads=spec.num_heads,
            grid=spec.grid,
            pool_kernels=(spec.query_kernel, spec.key_kernel, spec.key_kernel),
            pool_strides=(spec.query_stride, spec.key_stride, spec.key_stride),
            pool_mode=config.pool_mode,
            mlp_ratio=config.mlp_ratio,
            qkv_bias=config.qkv_bias,
            normalized_skip=config.normalized_skip,
            drop_path_rate=spec.drop_path_rate,
            class_token=config.class_token,
            residual_pooling=config.residual_pooling,
            relative_table_lengths=spec.relative_table_lengths,
            remat=remat,
            dtype=dtype,
            name=spec.name,
        )(tokens)
    return tokens
