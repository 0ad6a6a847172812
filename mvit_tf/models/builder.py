"""From a config to a functional Keras model."""

import keras

from mvit_tf.layers import (
    ClassToken,
    MultiscaleBlock,
    PatchEmbedding,
    PositionEmbedding,
    Readout,
)
from mvit_tf.layers.initializers import bias_initializer, kernel_initializer
from mvit_tf.layers.token_pooling import NORM_EPSILON
from mvit_tf.models.config import CHANNELS


def build_mvit(config, *, name="mvit", dtype=None, remat=False):
    """Builds the model of a config.

    The layers `patch_embed`, `class_token`, `positions`, `block_00` ..., `norm`, `readout`
    and `head` are stable end points: `model.get_layer("block_03").output` is the third
    block's tokens, on every model.

    Args:
        config: MViTConfig.
        name: name of the model.
        dtype: dtype policy of all layers but the head, which computes in float32; the
            global policy when None.
        remat: bool. In training, keep only the input of each block and compute the rest again
            for the gradient (rematerialisation, activation checkpointing): the same numbers in
            less memory and more time.

    Returns:
        A functional `keras.Model` from normalised float frames (B, T, H, W, 3), or images
        (B, H, W, 3), to logits (B, num_classes), float32.
    """
    dtype = keras.dtype_policies.get(dtype) if dtype else keras.config.dtype_policy()
    frames, height, width = config.input_size

    inputs = keras.Input(
        (height, width, CHANNELS) if config.image else (frames, height, width, CHANNELS),
        name="frames",
    )
    x = inputs
    if config.image:
        x = keras.layers.Reshape((1, height, width, CHANNELS), name="one_frame")(x)
    x = PatchEmbedding(
        embed_dim=config.embed_dim,
        kernel_size=config.patch_kernel,
        strides=config.patch_stride,
        padding=config.patch_padding,
        dtype=dtype,
        name="patch_embed",
    )(x)
    if config.class_token:
        x = ClassToken(dtype=dtype, name="class_token")(x)
    if config.positions != "none":
        x = PositionEmbedding(
            grid=config.patch_grid,
            mode=config.positions,
            class_token=config.class_token,
            dtype=dtype,
            name="positions",
        )(x)

    for spec in config.blocks():
        x = MultiscaleBlock(
            attention_dim=spec.attention_dim,
            output_dim=spec.output_dim,
            num_heads=spec.num_heads,
            grid=spec.grid,
            pool_kernels=(spec.query_kernel, spec.key_kernel, spec.key_kernel),
            pool_strides=(spec.query_stride, spec.key_stride, spec.key_stride),
            pool_mode=config.pool_mode,
            mlp_ratio=config.mlp_ratio,
            qkv_bias=config.qkv_bias,
            drop_path_rate=spec.drop_path_rate,
            class_token=config.class_token,
            residual_pooling=config.residual_pooling,
            relative_table_lengths=spec.relative_table_lengths,
            remat=remat,
            dtype=dtype,
            name=spec.name,
        )(x)

    norm = keras.layers.LayerNormalization(
        epsilon=NORM_EPSILON, beta_initializer=bias_initializer(), dtype=dtype, name="norm"
    )
    readout = Readout(
        mode="class_token" if config.readout == "class_token" else "mean",
        class_token=config.class_token,
        dtype=dtype,
        name="readout",
    )
    # The norm acts on each token alone, so the class token may be taken before it.
    x = readout(norm(x)) if config.readout == "mean" else norm(readout(x))
    x = keras.layers.Dropout(config.head_dropout_rate, dtype=dtype, name="head_dropout")(x)
    outputs = keras.layers.Dense(
        config.num_classes,
        kernel_initializer=kernel_initializer(),
        bias_initializer=bias_initializer(),
        dtype="float32",
        name="head",
    )(x)
    return keras.Model(inputs, outputs, name=name)
