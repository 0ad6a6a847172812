"""The model as it is trained: optimizers, schedule, losses, precision, and what is frozen."""
