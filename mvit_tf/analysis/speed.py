"""How fast a model predicts and trains on this machine, and in how much memory.

Every setting is measured in a process of its own, `python -m mvit_tf.analysis.speed`: the peak
of the memory belongs to the process, and one that runs out of memory takes nothing with it.
"""

import contextlib
import dataclasses
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping

from mvit_tf.module_process import module_command, module_environment

MODES = ("forward", "train")
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
_WARM_UPS = 1
_OUT_OF_MEMORY = "out of memory"
_NOT_TRIED = "not tried"
_SIGKILL = 9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What to measure.

    Attributes:
        model: name of the model.
        mode: "forward", or "train": forward, backward, clipping of the gradient, AdamW.
        batch: clips in a step.
        dtype: "float32", or "bfloat16" for mixed precision.
        frames: frames in a clip; the model's own when None.
        remat: keep only each block's input in training, and recompute the rest.
    """

    model: str
    mode: str
    batch: int = 1
    dtype: str = "float32"
    frames: int | None = None
    remat: bool = False

    def config(self):
        """The MViTConfig.

        Raises:
            UserError: an unknown name, or frames that do not fit it.
        """
        from mvit_tf.models.registry import get_config

        config = get_config(self.model)
        if self.frames is None or config.image:
            return config
        return config.replace(input_shape=(self.frames, *config.input_shape[1:]))


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What a setting took.

    Attributes:
        step_seconds: the median of several steps.
        first_seconds: the first step, with tracing and compiling.
        peak_bytes: memory of the process, or of the GPU.
        available_bytes: memory it could have had; None where the system does not tell.
        failure: why there are no numbers.
    """

    step_seconds: float = 0.0
    first_seconds: float = 0.0
    peak_bytes: int = 0
    available_bytes: int | None = None
    failure: str | None = None


def measure(setting: Setting, steps: int) -> Measurement:
    """Measures a setting in a process of its own, with TensorFlow.

    Args:
        setting: what.
        steps: timed steps.

    Raises:
        RuntimeError: the process failed for another reason than memory.
    """
    job = json.dumps([dataclasses.asdict(setting), steps])
    ended = subprocess.run(
        module_command(__name__, job),
        env=module_environment(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3"),
        capture_output=True,
        text=True,
    )
    if ended.returncode == -_SIGKILL or "bad_alloc" in ended.stderr:
        return Measurement(failure=_OUT_OF_MEMORY)
    if ended.returncode:
        raise RuntimeError(f"{setting}: the process ended with {ended.returncode}\n{ended.stderr}")
    return Measurement(**json.loads(ended.stdout.splitlines()[-1]))


def measure_batches(
    setting: Setting, batches: Iterable[int], steps: int
) -> Iterator[tuple[int, Measurement]]:
    """Yields (batch, measurement), from the smallest batch to the largest.

    What the smaller ones say will not fit is not tried: a system short of memory may end other
    processes than ours.
    """
    peaks, available, failure = {}, None, None
    for batch in sorted(batches):
        growth = memory_growth(peaks)
        if failure is None and growth is not None and available is not None:
            expected = growth[0] + growth[1] * batch
            if expected > available:
                failure = f"would take {expected / 1e9:.1f} GB"
        if failure is not None:
            yield batch, Measurement(available_bytes=available, failure=failure)
            failure = _NOT_TRIED
            continue
        measurement = measure(dataclasses.replace(setting, batch=batch), steps)
        available = measurement.available_bytes or available
        if measurement.failure is None:
            peaks[batch] = measurement.peak_bytes
        else:
            failure = _NOT_TRIED
        yield batch, measurement


def memory_growth(peaks: Mapping[int, int]) -> tuple[float, float] | None:
    """(bytes at batch 0, bytes a clip) of the straight line through the peaks.

    Args:
        peaks: batch -> peak bytes; with fewer than two there is no line: None.
    """
    if len(peaks) < 2:
        return None
    clip, base = statistics.linear_regression(list(peaks), list(peaks.values()))
    return base, clip


def largest_batch(peaks: Mapping[int, int], available: int | None) -> int | None:
    """The largest batch that is likely to fit; None where the measurements do not tell.

    Args:
        peaks: batch -> peak bytes, as measured.
        available: bytes there are.
    """
    growth = memory_growth(peaks)
    if available is None or growth is None or growth[1] <= 0:
        return None
    return max(0, int((available - growth[0]) // growth[1]))


def available_host_bytes() -> int | None:
    """Memory that a new process can have; None where the system does not tell."""
    available = _kilobytes("/proc/meminfo", "MemAvailable:")
    if available is None:
        return None
    with contextlib.suppress(OSError, ValueError), open("/sys/fs/cgroup/memory.max") as limit:
        return min(available, int(limit.read()))  # a container's; ValueError when it is "max"
    return available


def _kilobytes(path, field):
    with contextlib.suppress(OSError), open(path) as lines:
        for line in lines:
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return None


def _peak_host_bytes():
    # Not getrusage, where Linux has something better: a process starts with its parent's peak.
    peak = _kilobytes("/proc/self/status", "VmHWM:")
    if peak is None:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return peak


def _measure_here(setting, steps):
    import tensorflow as tf

    gpu = bool(tf.config.list_physical_devices("GPU"))
    available = _gpu_bytes() if gpu else available_host_bytes()
    try:
        step = {"forward": _forward, "train": _train}[setting.mode](setting)
        seconds = []
        for _ in range(1 + _WARM_UPS + steps):
            started = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - started)
    except (MemoryError, tf.errors.ResourceExhaustedError):
        return Measurement(available_bytes=available, failure=_OUT_OF_MEMORY)
    peak = tf.config.experimental.get_memory_info("GPU:0")["peak"] if gpu else _peak_host_bytes()
    median = statistics.median(seconds[1 + _WARM_UPS :])
    return Measurement(median, seconds[0], peak, available)


def _gpu_bytes():
    """Memory of the first GPU; None without nvidia-smi."""
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits", "--id=0"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError, ValueError):
        return int(subprocess.run(query, capture_output=True, check=True).stdout) * 2**20


def _forward(setting):
    import tensorflow as tf

    model, frames = _build(setting)
    call = tf.function(lambda clips: model(clips, training=False), autograph=False)
    return lambda: call(frames).numpy()


def _train(setting):
    import keras
    import tensorflow as tf

    from mvit_tf.training.optimization.optimizer import ReplicaAdamW

    model, frames = _build(setting)
    optimizer = ReplicaAdamW(1e-4, weight_decay=0.05, global_clipnorm=1.0)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    targets = tf.one_hot([0] * setting.batch, setting.config().num_classes)
    step = tf.function(lambda: model.train_step((frames, targets))["loss"], autograph=False)
    return lambda: step().numpy()


def _build(setting):
    import tensorflow as tf

    import mvit_tf

    config = setting.config()
    model = mvit_tf.build_mvit(config, dtype=POLICIES[setting.dtype], remat=setting.remat)
    return model, tf.random.stateless_normal((setting.batch, *config.input_shape), seed=(0, 0))


if __name__ == "__main__":
    fields, timed_steps = json.loads(sys.argv[1])
    print(json.dumps(dataclasses.asdict(_measure_here(Setting(**fields), timed_steps))))
