"""timm's names (`timm/models/mvitv2.py`): blocks counted by stage, images only.

The channel projection is named after where it stands, and all kernels are two-dimensional.
"""

import re

from mvit_tf.conversion import slowfast
from mvit_tf.conversion.names import NameTable, split_block
from mvit_tf.conversion.tensors import to_pytorch_axes, without_time

NAME = "timm"
# Its residual pooling takes in the class token.
RESIDUAL_POOLING = ("none", "all")

_BLOCK = re.compile(r"stages\.(\d+)\.blocks\.(\d+)\.(.+)")
_NAMES = NameTable(
    modules={**slowfast.NAMES.modules, "head": "head.fc"},
    parameters={"class_token/token": "cls_token", "positions/joint": "pos_embed"},
    block_modules={
        **slowfast.NAMES.block_modules,
        "proj_attention": "shortcut_proj_attn",
        "proj_mlp": "shortcut_proj_mlp",
    },
    block_parameters={
        "attn/relative_positions/height": "attn.rel_pos_h",
        "attn/relative_positions/width": "attn.rel_pos_w",
    },
)


def recognises(shapes):
    """Whether the names (-> shapes) are of this layout."""
    return any(_BLOCK.fullmatch(name) for name in shapes)


def to_keras(state_dict):
    """From names -> Tensor to variable paths -> Tensor; unknown names are left out."""
    matches = {name: _BLOCK.fullmatch(name) for name in state_dict}
    indices = sorted({(int(match[1]), int(match[2])) for match in matches.values() if match})
    numbered = {}
    for name, tensor in state_dict.items():
        match = matches[name]
        if match:
            index = indices.index((int(match[1]), int(match[2])))
            name = f"blocks.{index}.{match[3]}"
        numbered[name] = tensor
    return _NAMES.read(numbered)


def to_pytorch(variables, *, image):
    """From variable paths -> numpy arrays to names -> numpy arrays."""
    indices = _stage_indices(variables)
    state_dict = {}
    for path, values in variables.items():
        values = to_pytorch_axes(path, values)
        if values.ndim == 5:
            values = without_time(path, values)
        name = _NAMES.to_name(path)
        index, _ = split_block(path)
        if index is not None:
            stage, number = indices[index]
            name = f"stages.{stage}.blocks.{number}." + name.split(".", 2)[2]
        state_dict[name] = values
    return state_dict


def _stage_indices(variables):
    """(stage, number in the stage) of every block: a stage begins where attention gets wider."""
    indices, width = [], None
    while (kernel := variables.get(f"block_{len(indices):02d}/attn/proj/kernel")) is not None:
        if kernel.shape[0] == width:
            indices.append((indices[-1][0], indices[-1][1] + 1))
        else:
            indices.append((indices[-1][0] + 1 if indices else 0, 0))
        width = kernel.shape[0]
    return indices


def unsupported(config):
    """What this layout cannot express of a model with this MViTConfig: a list of reasons."""
    _, height, width = config.patch_grid
    relative = config.relative_positions != "none"
    checks = {
        "video models": not config.image,
        f"readout={config.readout!r}": config.readout == "mean_before_norm",
        "positions of space and time apart": config.positions == "separate",
        "relative positions of images that are not square": relative and height != width,
    }
    return [reason for reason, applies in checks.items() if applies]
