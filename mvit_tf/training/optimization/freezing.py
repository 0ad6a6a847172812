"""Training a part of a model: the rest keeps its weights, and has neither gradient nor slots."""

from absl import logging

from mvit_tf.errors import UserError
from mvit_tf.models import MViT
from mvit_tf.training.experiments.sections import TrainSection
from mvit_tf.training.optimization.lora import enable_lora

# What comes before the blocks, as far as a model has it.
_EMBEDDING = ("patch_embed", "class_token", "positions")


def freeze_blocks(model: MViT, number: int):
    """Keeps the weights of all that comes before a block as they are.

    The frames reach the first trained block through the frozen ones as ever, stochastic depth
    included; what their gradient would cost is saved.

    Args:
        model: not compiled.
        number: of blocks to freeze, and with them patch embedding, class token and positions; 0
            freezes nothing, the depth of the model all but the last norm and the head.

    Raises:
        UserError: the model has fewer blocks.
    """
    names = [spec.name for spec in model.config.blocks()]
    if not 0 <= number <= len(names):
        raise UserError(f"cannot freeze {number} blocks of {len(names)}: 0 to {len(names)} can be")
    if not number:
        return
    for layer in model.layers:
        if layer.name in (*_EMBEDDING, *names[:number]):
            layer.trainable = False


def select_trained(model: MViT, settings: TrainSection, *, random_weights: bool = False):
    """Freezes what an experiment does not train, and adds LoRA if it asks for it; says so.

    Args:
        model: not compiled, its weights set: LoRA starts from these.
        settings: `freeze_blocks` and `lora_rank`.
        random_weights: whether the model starts from random ones, which is remarked on.

    Raises:
        UserError: more blocks to freeze than the model has.
    """
    if not settings.freeze_blocks and settings.lora_rank is None:
        return
    freeze_blocks(model, settings.freeze_blocks)
    if settings.lora_rank is not None:
        enable_lora(model, settings.lora_rank, first_block=settings.freeze_blocks)
    trained = sum(variable.value.shape.num_elements() for variable in model.trainable_variables)
    logging.info(f"frozen      all but {trained:,} of {model.count_params():,} parameters")
    if random_weights:
        warn_of_random_weights("train.freeze_blocks and train.lora_rank keep")


def warn_of_random_weights(what: str):
    """Remarks that frozen weights which nobody trained are of little use."""
    logging.warning(
        f"{what} the weights that the model starts from, and these are random: set "
        "model.initial_weights"
    )
