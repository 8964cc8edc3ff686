"""The CUDA driver as both engines for NVIDIA GPUs ask it: whether there is one, and what its errors mean to a user."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from ctypes import c_int, c_uint64, c_void_p
from typing import Any

from ssdrt.errors import EngineError, OutOfMemory, import_extra

LOST = (
    "ASSERT", "CONTAINED", "CONTEXT_IS_DESTROYED", "DEVICE_UNAVAILABLE", "ECC_UNCORRECTABLE", "EXTERNAL_DEVICE",
    "HARDWARE_STACK_ERROR", "ILLEGAL_ADDRESS", "ILLEGAL_INSTRUCTION", "INVALID_ADDRESS_SPACE", "INVALID_PC",
    "LAUNCH_FAILED", "LAUNCH_TIMEOUT", "MISALIGNED_ADDRESS", "NVLINK_UNCORRECTABLE", "TENSOR_MEMORY_LEAK", "UNKNOWN",
)  # fmt: skip
"""Errors after which no call of this process succeeds any more."""

FORKED = "NOT_INITIALIZED"
"""What a process hears that was forked from one which had initialised the driver."""


def open_driver(extra: str) -> Any:
    """`cuda.bindings.driver`, ready to be used by the engine of that extra.

    Raises
    ------
    MissingExtra: it is not installed.
    EngineError: there is no driver or no GPU.
    """
    driver = import_extra("cuda.bindings.driver", extra, f"engine {extra}")
    needs = f"engine {extra} needs an NVIDIA GPU"
    try:
        (status,) = driver.cuInit(0)
    except RuntimeError as error:  # of the library that looks for the driver's
        raise EngineError(f"{needs} and its driver; this machine has no driver (libcuda)") from error
    if status and not status.name.endswith(FORKED):
        raise EngineError(f"{needs}; the driver says {status.name}")
    checked((status,))
    if checked(driver.cuDeviceGetCount()) == 0:
        raise EngineError(f"{needs}; the driver sees none")
    return driver


def checked(result: tuple[Any, ...]) -> Any:
    """The value of a driver call.

    Raises
    ------
    EngineError: the call failed.
    OutOfMemory: there is no room; a smaller request may succeed.
    """
    status, *values = result
    if status:
        name = status.name.removeprefix("CUDA_ERROR_")
        if name == "OUT_OF_MEMORY":
            raise OutOfMemory(
                "the GPU has not enough free memory; use smaller batches, or end other programs that use it"
            )
        if name in LOST:
            raise EngineError(
                f"the GPU failed and this process cannot use it any more (CUDA_ERROR_{name}); start the program again"
            )
        if name == FORKED:
            raise EngineError(
                "this process was forked from one that uses the GPU, and cannot use it itself; start it by "
                "multiprocessing's 'spawn', or load the engine in it alone"
            )
        raise EngineError(f"the CUDA driver failed: CUDA_ERROR_{name}")
    return values[0] if len(values) == 1 else values


def find_gpu(driver: Any, index: int) -> Any:
    """The driver's handle of the GPU of an index; CUDA_VISIBLE_DEVICES hides others.

    Raises
    ------
    EngineError: this process sees no such GPU.
    """
    count = checked(driver.cuDeviceGetCount())
    if index not in range(count):
        raise EngineError(f"there is no GPU {index!r}: this process sees {count}, from 0 on")
    return checked(driver.cuDeviceGet(index))


def owner_of(driver: Any, address: int) -> int | None:
    """Index of the GPU for which memory at an address was allocated or registered, None where CUDA knows of none."""
    kind = int(driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL)
    index = c_int()
    return None if _pointer_attribute(driver)(ctypes.addressof(index), kind, address) else index.value


@functools.cache
def _pointer_attribute(driver: Any) -> Callable[[int, int, int], int]:
    """The driver's own cuPointerGetAttribute: of cuda-bindings 13.2 and 13.3 every ordinal is 0, because they read
    another field than the one that they let the driver write (NVIDIA/cuda-python, issue 2928)."""
    place, _ = checked(driver.cuGetProcAddress(b"cuPointerGetAttribute", 4000, 0))  # as of CUDA 4.0
    return ctypes.CFUNCTYPE(c_int, c_void_p, c_int, c_uint64)(int(place))
