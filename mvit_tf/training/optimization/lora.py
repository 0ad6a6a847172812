"""LoRA (arXiv 2106.09685): fine-tuning by a product of two thin matrices beside each kernel."""

from mvit_tf.models import MViT

_HEAD = "head"


def enable_lora(model: MViT, rank: int, *, first_block: int = 0):
    """Freezes a model but for its head, and gives the dense layers of its blocks low-rank updates.

    The model computes what it did until the updates are trained.

    Args:
        model: not compiled, its weights set.
        rank: columns of the first and rows of the second factor, at least 1.
        first_block: blocks before it get none.
    """
    for variable in model.variables:
        if not variable.path.startswith(f"{_HEAD}/"):
            variable.trainable = False
    for spec in model.config.blocks()[first_block:]:
        for layer in model.get_layer(spec.name).dense_layers:
            layer.enable_lora(rank)
