"""The learning rate: linear warm-up, then half a cosine, as SlowFast computes it per step."""

import keras


def warmup_cosine(
    *,
    learning_rate: float,
    steps_per_epoch: int,
    epochs: int,
    warmup_epochs: float = 0.0,
    warmup_start_learning_rate: float = 0.0,
    end_learning_rate: float = 0.0,
) -> keras.optimizers.schedules.CosineDecay:
    """The schedule of every MViT recipe (SlowFast `lr_policy.py` with `COSINE_AFTER_WARMUP`).

    At fractional epoch e = step / steps_per_epoch, with W warm-up epochs of E:

        e < W:  start + (base - start) * e / W
        e >= W: end + (base - end) * (1 + cos(pi * (e - W) / (E - W))) / 2

    Keras' `CosineDecay` is exactly that once its terms are turned round: its `decay_steps` begin
    after the warm-up, and its `alpha` is a share of the peak.

    Args:
        learning_rate: the peak, `base`.
        steps_per_epoch: training steps in an epoch.
        epochs: `E`, warm-up included.
        warmup_epochs: `W`; rounded to whole steps.
        warmup_start_learning_rate: `start`.
        end_learning_rate: `end`, reached with the last step.
    """
    steps = epochs * steps_per_epoch
    # One step is left to the cosine, however near to the end the warm-up comes.
    warmup_steps = min(round(warmup_epochs * steps_per_epoch), steps - 1)
    decay_steps = steps - warmup_steps
    alpha = end_learning_rate / learning_rate
    if warmup_steps == 0:
        return keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=learning_rate, decay_steps=decay_steps, alpha=alpha
        )
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=warmup_start_learning_rate,
        warmup_target=learning_rate,
        warmup_steps=warmup_steps,
        decay_steps=decay_steps,
        alpha=alpha,
    )
