"""SlowFast's names (facebookresearch/SlowFast, `slowfast/models/video_model_builder.py`, MViT).

Also those of its files from before MViTv2, which project q, k and v apart, and of its MaskFeat of
videos (`slowfast/models/masked.py`, MaskMViT). An image model has two-dimensional patch kernels and
pooling kernels of one frame.
"""

import numpy as np

from mvit_tf.conversion.names import NameTable, fuse_qkv, place_expansion
from mvit_tf.conversion.tensors import to_pytorch_axes, without_time

NAME = "slowfast"
# Sobel's filters, which a MaskFeat keeps beside its weights.
FILTERS = ("hogs.0.weight_x", "hogs.0.weight_y")
# SlowFast keeps the class token out of residual pooling.
RESIDUAL_POOLING = ("none", "patches")

NAMES = NameTable(
    modules={
        "patch_embed": "patch_embed.proj",
        "norm": "norm",
        "head": "head.projection",
        "pred_norm": "pred_head.transforms.0.0",
        "pred_head": "pred_head.projections.0",
    },
    parameters={
        "class_token/token": "cls_token",
        "mask_token/token": "mask_token",
        "positions/spatial": "pos_embed_spatial",
        "positions/temporal": "pos_embed_temporal",
        "positions/class": "pos_embed_class",
        "positions/joint": "pos_embed",
    },
    block_modules={
        "norm1": "norm1",
        "attn/qkv": "attn.qkv",
        "attn/q": "attn.q",
        "attn/k": "attn.k",
        "attn/v": "attn.v",
        **{f"attn/pool_{letter}/conv": f"attn.pool_{letter}" for letter in "qkv"},
        **{f"attn/pool_{letter}/norm": f"attn.norm_{letter}" for letter in "qkv"},
        "attn/proj": "attn.proj",
        "norm2": "norm2",
        "mlp/fc1": "mlp.fc1",
        "mlp/fc2": "mlp.fc2",
        "proj_mlp": "proj",
        "proj_attention": "proj",
    },
    block_parameters={
        "attn/relative_positions/temporal": "attn.rel_pos_t",
        "attn/relative_positions/height": "attn.rel_pos_h",
        "attn/relative_positions/width": "attn.rel_pos_w",
    },
)


def recognises(shapes):
    """Whether the names (-> shapes) are of this layout."""
    has_blocks = any(name.startswith("blocks.") for name in shapes)
    return has_blocks and "patch_embed.proj.weight" in shapes


def to_keras(state_dict):
    """From names -> Tensor to variable paths -> Tensor; unknown names are left out."""
    return place_expansion(fuse_qkv(NAMES.read(state_dict)))


def to_pytorch(variables, *, image):
    """From variable paths -> numpy arrays to names -> numpy arrays."""
    state_dict = {}
    for path, values in variables.items():
        values = to_pytorch_axes(path, values)
        if image and path == "patch_embed/kernel":
            values = without_time(path, values)
        state_dict[NAMES.to_name(path)] = values
    if "mask_token/token" in variables:
        state_dict |= dict(zip(FILTERS, _sobel_filters(), strict=True))
    return state_dict


def _sobel_filters():
    across = np.outer([1, 2, 1], [1, 0, -1]).astype(np.float32)
    return [np.tile(kernel, (3, 1, 1, 1)) for kernel in (across, across.T)]


def unsupported(config):
    """What this layout cannot express of a model with this MViTConfig: a list of reasons."""
    return []
