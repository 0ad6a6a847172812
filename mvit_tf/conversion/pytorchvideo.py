"""PyTorchVideo's names (`pytorchvideo/models/vision_transformers.py`).

q, k and v are projected apart by default. Releases after 0.1.5 register every pooling twice, so
that their files hold it under two names; written here under the one that all releases read.
"""

import re

import numpy as np

from mvit_tf.conversion.names import NameTable, fuse_qkv, place_expansion
from mvit_tf.conversion.tensors import (
    stored_twice,
    to_pytorch_axes,
    without_time,
)

NAME = "pytorchvideo"
# Its residual pooling, an option that its published models leave off, takes in the class token.
RESIDUAL_POOLING = ("none", "all")

_NAMES = NameTable(
    modules={"patch_embed": "patch_embed.patch_model", "norm": "norm_embed", "head": "head.proj"},
    parameters={
        "class_token/token": "cls_positional_encoding.cls_token",
        "positions/spatial": "cls_positional_encoding.pos_embed_spatial",
        "positions/temporal": "cls_positional_encoding.pos_embed_temporal",
        "positions/class": "cls_positional_encoding.pos_embed_class",
        "positions/joint": "cls_positional_encoding.pos_embed",
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
    block_parameters={},
)
_SECOND_NAME = re.compile(r"(blocks\.\d+\.attn)\._attention_pool_([qkv])\.(pool|norm)\.(.+)")


def recognises(shapes):
    """Whether the names (-> shapes) are of this layout."""
    return "patch_embed.patch_model.weight" in shapes


def to_keras(state_dict):
    """From names -> Tensor to variable paths -> Tensor; unknown names are left out."""
    once = {}
    for name, tensor in state_dict.items():
        name = _SECOND_NAME.sub(r"\1.\3_\2.\4", name)
        once[name] = stored_twice(once[name], tensor) if name in once else tensor
    return place_expansion(fuse_qkv(_NAMES.read(once)))


def to_pytorch(variables, *, image):
    """From variable paths -> numpy arrays to names -> numpy arrays."""
    state_dict = {}
    for path, values in variables.items():
        values = to_pytorch_axes(path, values)
        if image and path == "patch_embed/kernel":
            values = without_time(path, values)
        name = _NAMES.to_name(path)
        if ".attn.qkv." in name:
            for letter, part in zip("qkv", np.split(values, 3), strict=True):
                state_dict[name.replace(".qkv.", f".{letter}.")] = part
        else:
            state_dict[name] = values
    return state_dict


def unsupported(config):
    """What this layout cannot express of a model with this MViTConfig: a list of reasons."""
    readout = "class_token" if config.class_token else "mean"
    checks = {
        "relative positions": config.relative_positions != "none",
        f"readout={config.readout!r}": config.readout != readout,
        "models without absolute positions": config.positions == "none",
    }
    return [reason for reason, applies in checks.items() if applies]
