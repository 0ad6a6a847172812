"""Which devices a run uses, and what several of them ask of it."""

import contextlib

import tensorflow as tf

from mvit_tf.errors import UserError
from mvit_tf.files import one_line
from mvit_tf.training.distributed.cluster import Cluster, read_cluster, wait_for_workers

STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker_mirrored", "tpu")


def make_strategy(
    num_devices: int | None = None,
    name: str = "auto",
    *,
    tpu: str | None = None,
    start_timeout: float = 600.0,
) -> tf.distribute.Strategy | None:
    """The strategy of a training, `None` for one device. TensorFlow must not have run anything yet.

    Args:
        num_devices: how many of this machine; `None` is every GPU, or the CPU where there is no
            GPU. Without a GPU, more than one splits the CPU into that many logical devices, which
            is for trying out what happens on several, not for speed.
        name: one of `STRATEGIES`, by the names of the TensorFlow Model Garden. "auto" is
            "multi_worker_mirrored" where TF_CONFIG names several workers, else "mirrored" over
            several devices, else "one_device".
        tpu: the TPU's name; `None` is that of this machine.
        start_timeout: seconds that workers wait for each other.

    Raises:
        UserError: there are fewer GPUs than asked for, the CPU can no longer be split, the name
            does not go with TF_CONFIG or the devices, or another worker is not there.
    """
    if name not in STRATEGIES:
        raise ValueError(f"name={name!r}: must be one of {', '.join(STRATEGIES)}")
    if tpu is not None and name != "tpu":
        raise UserError(f"train.tpu={tpu} needs train.distribution_strategy=tpu")
    cluster = read_cluster()
    if name == "multi_worker_mirrored" and cluster is None:
        raise UserError(
            "train.distribution_strategy=multi_worker_mirrored needs a TF_CONFIG that names two "
            "workers or more, see docs/distributed.md"
        )
    if name != "auto" and name != "multi_worker_mirrored" and cluster is not None:
        raise UserError(
            f"train.distribution_strategy={name} trains on one machine, but TF_CONFIG names "
            f"{len(cluster.addresses)} workers; unset it, or set multi_worker_mirrored"
        )
    if name == "tpu":
        return _tpu_strategy(tpu, num_devices)
    if name == "one_device" and (num_devices or 1) > 1:
        raise UserError(
            f"train.devices={num_devices} and train.distribution_strategy=one_device exclude each "
            "other; keep one"
        )
    if cluster is not None:
        return _multi_worker_strategy(cluster, num_devices, start_timeout)
    kind, count = _local_devices(1 if name == "one_device" else num_devices)
    if count == 1:
        return None
    return tf.distribute.MirroredStrategy([f"{kind}:{index}" for index in range(count)])


def process_shard(strategy: tf.distribute.Strategy | None) -> tuple[int, int]:
    """(index, number): which of how many machines this process is; (0, 1) on one."""
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        cluster = read_cluster()
        if cluster is not None:
            return cluster.index, len(cluster.addresses)
    return 0, 1


def is_chief(strategy: tf.distribute.Strategy | None) -> bool:
    """Whether this process is the one that writes."""
    return process_shard(strategy)[0] == 0


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


def _local_devices(num_devices: int | None) -> tuple[str, int]:
    """Kind and number of the devices to use on this machine."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        if num_devices is not None and num_devices > len(gpus):
            raise UserError(f"train.devices={num_devices}, but this machine has {len(gpus)} GPUs")
        return "GPU", num_devices or len(gpus)
    count = num_devices or 1
    if count > 1:
        _split_cpu(count)
    return "CPU", count


def _multi_worker_strategy(cluster: Cluster, num_devices: int | None, start_timeout: float):
    gpus = tf.config.list_physical_devices("GPU")
    if num_devices is not None:
        if num_devices > max(len(gpus), 1):
            raise UserError(
                f"train.devices={num_devices}, but this machine has {len(gpus)} GPUs; over several "
                "machines the CPU is one device"
            )
        # The strategy takes all it sees.
        tf.config.set_visible_devices(gpus[:num_devices], "GPU")
    wait_for_workers(cluster, start_timeout)
    return tf.distribute.MultiWorkerMirroredStrategy()


def _tpu_strategy(tpu: str | None, num_devices: int | None):
    if num_devices is not None:
        raise UserError(
            f"train.devices={num_devices} has no meaning with train.distribution_strategy=tpu, "
            "which takes every core; leave it out"
        )
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu or "local")
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        strategy = tf.distribute.TPUStrategy(resolver)
    except (ValueError, tf.errors.OpError) as error:
        reason = one_line(str(error))
        raise UserError(
            f"train.distribution_strategy=tpu: there is no TPU {tpu or 'local'!r} ({reason}); run "
            "on a TPU VM with a TensorFlow that has libtpu, or set another strategy"
        ) from error
    if strategy.extended.num_hosts > 1:
        raise UserError(
            f"train.distribution_strategy=tpu: {strategy.extended.num_hosts} hosts; videos are "
            "decoded on the machine that trains, so take a TPU of one host (up to 8 chips)"
        )
    return strategy


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
