"""What this machine is, as far as the system says so without asking another program."""

from __future__ import annotations

import os
import platform
from pathlib import Path

ABILITIES = (
    "sse4_2", "avx2", "f16c", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16",
    "amx_int8", "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve",
)  # fmt: skip
"""Flags of /proc/cpuinfo that make a difference to an engine: x86's, then Arm's."""


def processor() -> str:
    """The processor's name, and how many of them this process may use."""
    from ssdrt.detector import available_processors

    names = (_cpuinfo(key) for key in ("model name", "Model", "Hardware"))
    name = next(filter(None, names), "") or platform.processor() or platform.machine()
    return f"{name}, {available_processors()} of {os.cpu_count()} processors"


def abilities() -> list[str]:
    """Which of `ABILITIES` the processor has."""
    flags = set((_cpuinfo("flags") or _cpuinfo("Features")).split())
    return [name for name in ABILITIES if name in flags]


def board() -> str:
    """The name of a board such as a Jetson; "" on other machines."""
    return _read("/proc/device-tree/model").strip("\0\n ")


def gpus() -> list[str]:
    """Names of the NVIDIA GPUs that the driver shows."""
    places = Path("/proc/driver/nvidia/gpus").glob("*/information")
    return [_value(_read(place), "Model") for place in sorted(places)]


def _cpuinfo(key: str) -> str:
    return _value(_read("/proc/cpuinfo"), key)


def _value(text: str, key: str) -> str:
    """The first value in `key : value` lines; "" when there is none."""
    lines = (line.partition(":") for line in text.splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == key), "")


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError:  # another system, or a locked-down one
        return ""
