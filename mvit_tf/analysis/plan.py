"""What a training takes on given devices: memory, time, and what must come in."""

import dataclasses
import math

from mvit_tf.analysis.complexity import complexity
from mvit_tf.analysis.training_memory import training_memory
from mvit_tf.errors import UserError
from mvit_tf.geometry import CHANNELS

# A multiply-add is two operations; the gradient of a product takes two products.
_OPERATIONS, _PASSES = 2, 3
# Of a device's memory: the rest is the driver's and libraries', and lost between tensors.
USABLE_MEMORY = 0.9
# Share of the peak that training reaches. float32: 4.8 clips/s of MViT-B on an M40 of 6.8
# TFLOP/s (MViT, Table 16). bfloat16: 20.5 clips/s forward of MViTv2-L 16x4 on an A100 of 312
# TFLOP/s (Hiera, arXiv 2306.00989, Table 1), whose matrix units most of the model cannot fill.
EFFICIENCY = {"float32": 0.30, "mixed_bfloat16": 0.05}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a training takes.

    Attributes:
        params: parameters of the model.
        macs: multiply-adds of a clip, forward.
        model_bytes, clip_bytes: memory of a device whatever its batch, and for each clip that it
            computes at a time.
        step_bytes: memory of a device with its share of the batch.
        usable_bytes: memory of a device that TensorFlow can have; None where none is given.
        largest_batch: clips of the largest batch over all devices; None likewise.
        batch: clips of the batch that the rest is of.
        devices: devices that share it.
        clips_per_second: of all devices; None where no speed is known.
        input_bytes_per_second: of float32 frames into the devices; likewise.
        hours: of the whole training; None also where it is not known how long it is.
    """

    params: int
    macs: int
    model_bytes: int
    clip_bytes: int
    step_bytes: int
    usable_bytes: float | None
    largest_batch: int | None
    batch: int
    devices: int
    clips_per_second: float | None
    input_bytes_per_second: float | None
    hours: float | None

    @property
    def step_seconds(self):
        """Seconds of a step; None where no speed is known."""
        return self.clips_per_second and self.batch / self.clips_per_second

    @property
    def fits(self):
        """Whether a device's share of the batch fits into it; None where its memory is unknown."""
        return None if self.usable_bytes is None else self.step_bytes <= self.usable_bytes


def clips_per_second_of(config, *, peak, efficiency, remat=False):
    """Clips a second that one device trains.

    Args:
        config: MViTConfig.
        peak: float, operations a second that its data sheet promises in the dtype in use.
        efficiency: float, share of them that is reached.
        remat: bool, the forward pass runs twice.
    """
    operations = _OPERATIONS * (_PASSES + remat) * complexity(config).macs
    return peak * efficiency / operations


def make_plan(
    config,
    *,
    devices=1,
    device_bytes=None,
    batch=None,
    dtype="float32",
    remat=False,
    moments=2,
    parts=1,
    average=False,
    device_speed=None,
    clips=None,
):
    """What a training of a config takes.

    Args:
        config: MViTConfig.
        devices: int.
        device_bytes: float, memory of a device, or None.
        batch: int, clips of a step over all devices; by default the largest that fits, or one
            for each device.
        dtype, remat, moments, parts, average: see `training_memory`.
        device_speed: float, clips a second of one device, or None.
        clips: int, clips of the whole training, or None.

    Raises:
        UserError: a batch that the devices cannot share, or split into parts, evenly.
    """
    cost = complexity(config)
    memory = training_memory(
        config,
        cost.params,
        dtype=dtype,
        remat=remat,
        moments=moments,
        parts=parts,
        average=average,
    )
    usable = None if device_bytes is None else USABLE_MEMORY * device_bytes
    largest = None if usable is None else devices * memory.largest_batch(usable)
    shares = devices * parts
    batch = batch or largest or shares
    if batch % shares:
        of_each = f" in {parts} parts each (train.gradient_accumulation_steps)" * (parts > 1)
        raise UserError(
            f"a batch of {batch} clips cannot be shared evenly by {devices} devices{of_each}; "
            f"take a multiple of {shares}"
        )
    speed = None if device_speed is None else devices * device_speed
    return Plan(
        params=cost.params,
        macs=cost.macs,
        model_bytes=memory.model_bytes,
        clip_bytes=memory.clip_bytes,
        step_bytes=memory.of_batch(batch // devices),
        usable_bytes=usable,
        largest_batch=largest,
        batch=batch,
        devices=devices,
        clips_per_second=speed,
        input_bytes_per_second=speed and speed * 4 * math.prod(config.input_size) * CHANNELS,
        hours=clips and speed and clips / speed / 3600,
    )
