"""The named models: each a config, most of them a line."""

from mvit_tf.errors import UserError, did_you_mean
from mvit_tf.models.config import MViTConfig

_B = MViTConfig()
_B24 = _B.replace(depths=(2, 3, 16, 3), input_shape=(32, 224, 224, 3), drop_path_rate=0.3)

# ImageNet (MViT, appendix A.3 and Table 17): one frame, 2-D kernels, joint positions.
_IMAGE = _B.replace(
    input_shape=(224, 224, 3),
    num_classes=1000,
    patch_kernel=(1, 7, 7),
    patch_stride=(1, 4, 4),
    patch_padding=(0, 3, 3),
    key_stride=(1, 4, 4),
    pool_kernel=(1, 3, 3),
    positions="joint",
    drop_path_rate=0.1,
    head_dropout_rate=0.0,
)
_IMAGE_B24 = _IMAGE.replace(depths=(2, 3, 16, 3), drop_path_rate=0.3)

# MViTv2 (section 4): pooling of all queries, decomposed relative positions in place of
# absolute ones, residual pooling, channels expanded in the attention.
_V2 = {
    "pool_every_query": True,
    "expand_in": "attention",
    "positions": "none",
    "residual_pooling": "patches",
}
_B_V2 = _B.replace(**_V2, relative_positions="space_time")
# Images: no class token (appendix B.1: about 8 % of the time for no accuracy).
_IMAGE_V2 = _IMAGE.replace(**_V2, relative_positions="space", class_token=False, readout="mean")

_CONFIGS = {
    # One scale, no pooling (MViT, Table 3a). The paper's 87.2 M parameters need one position
    # a token: separate ones would give 86.1 M.
    "vit_b_8x8": _B.replace(
        input_shape=(8, 224, 224, 3),
        depths=(12,),
        embed_dim=768,
        num_heads=12,
        patch_kernel=(1, 16, 16),
        patch_stride=(1, 16, 16),
        patch_padding=(0, 0, 0),
        key_stride=(1, 1, 1),
        pool_kernel=(1, 1, 1),
        positions="joint",
    ),
    # MViT, Table 3c: three scales from a coarser cube.
    "mvit_s_16x4": _B.replace(
        depths=(3, 7, 6),
        embed_dim=128,
        patch_kernel=(3, 8, 8),
        patch_stride=(2, 8, 8),
        patch_padding=(1, 0, 0),
        key_stride=(1, 4, 4),
    ),
    "mvit_b_16x4": _B,
    "mvit_b_32x3": _B.replace(input_shape=(32, 224, 224, 3), drop_path_rate=0.3),
    "mvit_b_64x3": _B.replace(input_shape=(64, 224, 224, 3), drop_path_rate=0.3),
    "mvit_b24_32x3": _B24,
    # What SlowFast's file MVIT_B_32x3_CONV builds: depth 24 and kernels of stride + 1.
    "mvit_b24_32x3_slowfast": _B24.replace(pool_kernel=None),
    "mvitv2_s_16x4": _B_V2,
    "mvitv2_b_32x3": _B_V2.replace(
        depths=(2, 3, 16, 3), input_shape=(32, 224, 224, 3), drop_path_rate=0.3
    ),
    "mvitv2_l_40x3": _B_V2.replace(
        depths=(2, 6, 36, 4),
        embed_dim=144,
        num_heads=2,
        input_shape=(40, 312, 312, 3),
        drop_path_rate=0.75,
    ),
    "mvit_b_16": _IMAGE,
    "mvit_b24": _IMAGE_B24,
    "mvit_b24_wide": _IMAGE_B24.replace(embed_dim=112, input_shape=(320, 320, 3)),
    "mvitv2_t": _IMAGE_V2.replace(depths=(1, 2, 5, 2)),
    "mvitv2_s": _IMAGE_V2,
    "mvitv2_b": _IMAGE_V2.replace(depths=(2, 3, 16, 3), drop_path_rate=0.3),
    # The released L expands in the MLP, unlike its smaller siblings.
    "mvitv2_l": _IMAGE_V2.replace(
        depths=(2, 6, 36, 4), embed_dim=144, num_heads=2, expand_in="mlp", drop_path_rate=0.5
    ),
    "mvitv2_h": _IMAGE_V2.replace(
        depths=(4, 8, 60, 8),
        embed_dim=192,
        num_heads=3,
        class_token=True,
        readout="class_token",
        drop_path_rate=0.8,
    ),
}


def list_models():
    """Names of all models, video and image."""
    return list(_CONFIGS)


def get_config(name):
    """The config of a named model.

    Raises:
        UserError: an unknown name, with the nearest known one.
    """
    if name not in _CONFIGS:
        raise UserError(f"unknown model {name!r}; {did_you_mean(str(name), _CONFIGS)}")
    return _CONFIGS[name]
