"""Which devices a run uses, and what several of them ask of it."""

import contextlib

import tensorflow as tf

from mvit_tf.errors import UserError


def make_strategy(num_devices: int | None = None) -> tf.distribute.MirroredStrategy | None:
    """`MirroredStrategy` over several devices, `None` for one.

    Args:
        num_devices: how many; `None` is every GPU, or the CPU where there is no GPU. Without a
            GPU, more than one splits the CPU into that many logical devices, which is for trying
            out what happens on several, not for speed; TensorFlow must not have run anything yet.

    Raises:
        UserError: there are fewer GPUs than asked for, or the CPU can no longer be split.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        if num_devices is not None and num_devices > len(gpus):
            raise UserError(f"train.devices={num_devices}, but this machine has {len(gpus)} GPUs")
        count = num_devices or len(gpus)
        kind = "GPU"
    else:
        count = num_devices or 1
        kind = "CPU"
        if count > 1:
            _split_cpu(count)
    if count == 1:
        return None
    return tf.distribute.MirroredStrategy([f"{kind}:{index}" for index in range(count)])


def strategy_scope(strategy: tf.distribute.Strategy | None):
    """The scope that model, optimizer, metrics and `compile` belong in."""
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def num_replicas(strategy: tf.distribute.Strategy | None) -> int:
    """Devices that share a batch."""
    return 1 if strategy is None else strategy.num_replicas_in_sync


def check_replica_options(
    replicas: int, *, batch_size: int, jit_compile: bool, steps_per_execution: int
):
    """Refuses what Keras cannot do, or does wrongly, over several replicas.

    Raises:
        UserError: the batch cannot be split evenly, or XLA or several steps per execution are
            asked for on more than one replica.
    """
    if batch_size % replicas:
        raise UserError(
            f"train.batch_size={batch_size} cannot be split evenly over {replicas} replicas; "
            f"use {_neighbours(batch_size, replicas)}"
        )
    if replicas == 1:
        return
    if jit_compile:
        raise UserError(
            f"train.jit_compile=true does not work on {replicas} replicas (XLA cannot compile "
            "the merge of their updates); set it to false or train.devices to 1"
        )
    if steps_per_execution > 1:
        raise UserError(
            f"train.steps_per_execution={steps_per_execution} does not work on {replicas} "
            "replicas (Keras fails to trace it); set it to 1 or train.devices to 1"
        )


def _neighbours(batch_size: int, replicas: int) -> str:
    below = batch_size // replicas * replicas
    return f"{below} or {below + replicas}" if below else f"{replicas}"


def _split_cpu(count: int):
    (cpu,) = tf.config.list_physical_devices("CPU")
    try:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * count
        )
    except RuntimeError as error:  # TensorFlow has started; it may have been split before
        if len(tf.config.list_logical_devices("CPU")) < count:
            raise UserError(
                f"train.devices={count}: TensorFlow is already running on "
                f"{len(tf.config.list_logical_devices('CPU'))} CPU device(s)"
            ) from error
