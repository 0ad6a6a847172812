"""torchvision's names (`torchvision/models/video/mvit.py`).

Its class token and positions have no leading axes of 1, and the relative tables of height and
width both have the length that the longer side needs (interpolated on the shorter one's use).
"""

from mvit_tf.conversion.names import NameTable, place_expansion
from mvit_tf.conversion.tensors import to_pytorch_axes

NAME = "torchvision"
# Off at the class token in both of its named models, but an option of its model class.
RESIDUAL_POOLING = ("none", "patches", "all")

_NAMES = NameTable(
    modules={"patch_embed": "conv_proj", "norm": "norm", "head": "head.1"},
    parameters={
        "class_token/token": "pos_encoding.class_token",
        "positions/spatial": "pos_encoding.spatial_pos",
        "positions/temporal": "pos_encoding.temporal_pos",
        "positions/class": "pos_encoding.class_pos",
    },
    block_modules={
        "norm1": "norm1",
        "attn/qkv": "attn.qkv",
        **{f"attn/pool_{letter}/conv": f"attn.pool_{letter}.pool" for letter in "qkv"},
        **{f"attn/pool_{letter}/norm": f"attn.pool_{letter}.norm_act.0" for letter in "qkv"},
        "attn/proj": "attn.project.0",
        "norm2": "norm2",
        "mlp/fc1": "mlp.0",
        "mlp/fc2": "mlp.3",
        "proj_mlp": "project",
        "proj_attention": "project",
    },
    block_parameters={
        "attn/relative_positions/temporal": "attn.rel_pos_t",
        "attn/relative_positions/height": "attn.rel_pos_h",
        "attn/relative_positions/width": "attn.rel_pos_w",
    },
)


def recognises(shapes):
    """Whether the names (-> shapes) are of this layout."""
    return "conv_proj.weight" in shapes


def to_keras(state_dict):
    """From names -> Tensor to variable paths -> Tensor; unknown names are left out."""
    return place_expansion(_NAMES.read(state_dict))


def to_pytorch(variables, *, image):
    """From variable paths -> numpy arrays to names -> numpy arrays."""
    state_dict = {}
    for path, values in variables.items():
        values = to_pytorch_axes(path, values)
        if path in ("class_token/token", "positions/class"):
            values = values.reshape(-1)
        elif path.startswith("positions/"):
            values = values[0]
        state_dict[_NAMES.to_name(path)] = values
    return state_dict


def unsupported(config):
    """What this layout cannot express of a model with this MViTConfig: a list of reasons."""
    _, height, width = config.patch_grid
    relative, separate = config.relative_positions != "none", config.positions == "separate"
    checks = {
        "image models": config.image,
        "models without a class token": not config.class_token,
        f"readout={config.readout!r}": config.readout != "class_token",
        f"pool_mode={config.pool_mode!r}": config.pool_mode != "conv",
        "joint positions": config.positions == "joint",
        "relative positions in space alone": config.relative_positions == "space",
        "relative positions beside absolute ones": relative and separate,
        "models without positions": not relative and not separate,
        "relative positions of frames that are not square": relative and height != width,
        "q, k, v without bias": not config.qkv_bias,
    }
    return [reason for reason, applies in checks.items() if applies]
