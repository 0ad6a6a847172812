"""What the learning rate of each weight is multiplied by."""

import re

from mvit_tf.models import MViT

# What comes before the blocks has the number 0 of the layers.
_FIRST = ("patch_embed", "mask_token", "class_token", "positions")
_BLOCK = re.compile(r"block_(\d+)$")
_HEAD = "head"


def learning_rate_scales(
    model: MViT, *, layer_decay: float = 1.0, head_scale: float = 1.0
) -> dict[str, float]:
    """Scales by the paths of a model's trainable weights; those of 1 are left out.

    Layer l of the 0 to L + 1 has layer_decay^(L + 1 - l): 0 is the patch embedding, the class
    token and the positions, 1 to L are the blocks, and L + 1 is the last norm and the head
    (SlowFast's SOLVER.LAYER_DECAY; BEiT, arXiv:2106.08254).

    Args:
        model: whose weights are learned.
        layer_decay: above 0 and at most 1, which leaves all rates as they are.
        head_scale: what the head's rate is multiplied by.
    """
    last = len(model.config.blocks()) + 1
    scales = {}
    for variable in model.trainable_variables:
        owner = variable.path.split("/")[0]
        block = _BLOCK.match(owner)
        number = 0 if owner in _FIRST else int(block[1]) + 1 if block else last
        scale = layer_decay ** (last - number) * (head_scale if owner == _HEAD else 1.0)
        if scale != 1.0:
            scales[variable.path] = scale
    return scales
