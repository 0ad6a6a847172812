"""Tables of results, and what the machine is."""

import datetime
import importlib.metadata
import os
import platform

import numpy as np

from mvit_tf.console import format_table

_PACKAGES = (
    "tensorflow",
    "keras",
    "jax",
    "torch",
    "torchvision",
    "pytorchvideo",
    "torchcodec",
    "timm",
    "av",
)


def machine(threads: int) -> dict:
    """The machine and the versions of all packages that take part, as JSON data."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "processors": os.cpu_count(),
        "threads": threads,
        "load_average_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "packages": versions,
    }


def format_machine(facts: dict) -> str:
    """One line of `machine`'s facts."""
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    return (
        f"{facts['processor']}, {facts['threads']} threads, "
        f"load average before {facts['load_average_before']:.1f}; {packages}"
    )


def format_case(result: dict) -> str:
    """The table of what `models.run_case` returns."""
    rates = ", ".join(f"{name} {rate / 1e9:,.0f}" for name, rate in result["gemm"].items())
    rows = []
    for name, measurement in result["measurements"].items():
        lower, median, upper = np.percentile(measurement["seconds"], [25, 50, 75])
        rows.append(
            (
                name,
                f"{median:.3f} s",
                f"{lower:.3f}-{upper:.3f}",
                f"{measurement['ratio']:.3f}x",
                f"{measurement['share_of_gemm']:.0%}",
                f"{measurement['peak_bytes'] / 1e9:.2f} GB",
                f"{measurement['first_seconds']:.1f} s",
            )
        )
    header = ("", "median", "quartiles", "to the first", "of GEMM", "peak", "first step")
    return "\n".join(
        [
            result["title"],
            f"matrix product (GEMM), GFLOP/s: {rates}",
            format_table(header, rows, numbers=header[1:]),
            *(f"left out: {name}: {reason}" for name, reason in result["left_out"].items()),
        ]
    )


def _processor():
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
