"""Tables of results, and what the machine is."""

import datetime
import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path

_PACKAGES = ("tensorflow", "keras", "jax", "torch", "torchvision", "pytorchvideo", "timm", "av")


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


def describe_machine(facts: dict) -> str:
    """One line of `machine`'s facts."""
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    return (
        f"{facts['processor']}, {facts['threads']} threads, "
        f"load average before {facts['load_average_before']:.1f}; {packages}"
    )


def format_cell(result) -> str:
    """The table of a `CellResult`."""
    rates = ", ".join(
        f"{framework} {rate / 1e9:,.0f}" for framework, rate in result.gemm.items()
    )
    headings = ("", "median", "quartiles", "over first", "of ceiling", "peak", "first time")
    rows = [
        (
            measurement.name,
            _seconds(measurement.summary.median),
            f"{measurement.summary.lower_quartile:.3f}-{measurement.summary.upper_quartile:.3f}",
            f"{measurement.ratio:.2f}x",
            f"{result.share_of_ceiling(measurement):.0%}",
            f"{measurement.peak_bytes / 1e9:.2f} GB",
            _seconds(measurement.first_seconds),
        )
        for measurement in result.measurements
    ]
    lines = [result.cell.title, f"matrix product, GFLOP/s: {rates or 'not measured'}"]
    lines += format_table(headings, rows)
    lines += [f"left out: {name}: {reason}" for name, reason in result.left_out.items()]
    return "\n".join(lines)


def format_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the first column flush left and the others flush right."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (headings, *rows)
    ]


def write_json(path: Path, data: dict) -> None:
    """Writes a JSON file, whole or not at all."""
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    os.replace(unfinished, path)


def _seconds(seconds):
    return f"{seconds:.3f} s"


def _processor():
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
