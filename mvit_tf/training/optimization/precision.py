"""Whether the machine is faster in bfloat16."""

from pathlib import Path

import tensorflow as tf

CPU_INFO = Path("/proc/cpuinfo")
_UNITS = {"amx_bf16", "avx512_bf16"}


def slow_bfloat16() -> str | None:
    """A sentence of warning where `mixed_bfloat16` computes slower than float32, else `None`.

    On processors without units for it, every number is converted there and back. GPUs, and
    machines that do not tell (not Linux on x86), get no warning.
    """
    if tf.config.list_physical_devices("GPU") or not CPU_INFO.exists():
        return None
    for line in CPU_INFO.read_text().splitlines():
        name, _, flags = line.partition(":")
        if name.strip() == "flags":
            if _UNITS.isdisjoint(flags.split()):
                return (
                    "this processor has no units for bfloat16 (AMX or AVX512_BF16): "
                    "train.dtype=float32 is faster"
                )
            return None
    return None
