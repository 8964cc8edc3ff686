"""Pictures that lie on a GPU already: what other libraries say of them, by DLPack or `__cuda_array_interface__`."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from ctypes import c_int, c_int32, c_int64, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssdrt.engines.gpu import owner_of
from ssdrt.errors import EngineError

CUDA, MANAGED = 2, 13  # of DLDeviceType
KINDS = {(1, 8): "uint8", (0, 8): "int8", (2, 32): "float32", (2, 16): "float16"}  # DLDataTypeCode and bits
NAMES = (b"dltensor", b"dltensor_versioned")


class TensorStruct(ctypes.Structure):
    """`DLTensor` of dlpack.h."""

    _fields_ = (
        ("data", c_void_p),
        ("device_type", c_int32),
        ("device_id", c_int32),
        ("ndim", c_int32),
        ("code", c_uint8),
        ("bits", c_uint8),
        ("lanes", c_uint16),
        ("shape", ctypes.POINTER(c_int64)),
        ("strides", ctypes.POINTER(c_int64)),
        ("byte_offset", c_uint64),
    )


class VersionedStruct(ctypes.Structure):
    """`DLManagedTensorVersioned` of dlpack.h."""

    _fields_ = (
        ("major", c_uint32),
        ("minor", c_uint32),
        ("manager", c_void_p),
        ("deleter", c_void_p),
        ("flags", c_uint64),
        ("tensor", TensorStruct),
    )


@dataclass(frozen=True)
class Pictures:
    """Address and (pictures, height, width) of values in C order. owner: what keeps them alive. written_in: the queue
    to wait for before they are read, 0 for none."""

    address: int
    size: tuple[int, int, int]
    owner: Any
    written_in: int = 0


def is_resident(pixels: Any) -> bool:
    """Whether these are pictures on a GPU, and not in this machine's memory."""
    if hasattr(pixels, "__cuda_array_interface__") or type(pixels).__name__ == "PyCapsule":
        return True
    return hasattr(pixels, "__dlpack_device__") and int(pixels.__dlpack_device__()[0]) in (CUDA, MANAGED)


def pictures_of(pixels: Any, stream: int, gpu: int, driver: Any, dtype: str = "uint8") -> Pictures:
    """Where pictures of another library lie, (b, height, width, 3) of `dtype`; or one, (height, width, 3).

    Parameters
    ----------
    stream: handle of the queue that will read them; DLPack's owner makes it wait for what is still being written.
    gpu: index of the GPU they must be on.
    driver: `cuda.bindings.driver`, which knows where memory is; `__cuda_array_interface__` does not say it.

    Raises
    ------
    EngineError: they are on another device, of another kind or not in C order, or no such object.
    """
    if type(pixels).__name__ == "PyCapsule":
        return _of_capsule(pixels, gpu, dtype)
    if hasattr(pixels, "__dlpack_device__"):
        device, index = pixels.__dlpack_device__()
        _check_device(int(device), int(index), gpu)
        try:
            capsule = pixels.__dlpack__(stream=stream)
        except (BufferError, RuntimeError) as error:
            raise EngineError(f"the library that holds these pictures does not show them: {error}") from error
        return _of_capsule(capsule, gpu, dtype)
    about = getattr(pixels, "__cuda_array_interface__", None)
    if about is None:
        raise EngineError(
            "these pictures are shown neither by DLPack nor by __cuda_array_interface__; give `detect` those of this "
            "machine"
        )
    shape, (kind, step), address = tuple(about["shape"]), _kind(about["typestr"]), about["data"][0]
    size = _size(shape, kind, dtype, _is_dense(shape, about.get("strides"), step))
    if size[0]:
        _check_address(driver, address, gpu)
    return Pictures(address, size, pixels, about.get("stream") or 0)


@functools.lru_cache(maxsize=32)
def _kind(text: str) -> tuple[str, int]:
    """Name and bytes of a dtype; numpy makes the name anew each time."""
    dtype = np.dtype(text)
    return dtype.name, dtype.itemsize


def _of_capsule(capsule: Any, gpu: int, dtype: str) -> Pictures:
    """It stays as it is: its owner frees the pictures when it goes."""
    python = ctypes.pythonapi
    python.PyCapsule_IsValid.argtypes = python.PyCapsule_GetPointer.argtypes = (ctypes.py_object, ctypes.c_char_p)
    python.PyCapsule_IsValid.restype, python.PyCapsule_GetPointer.restype = c_int, c_void_p
    name = next((one for one in NAMES if python.PyCapsule_IsValid(capsule, one)), None)
    if name is None:
        raise EngineError("this capsule is not one of DLPack, or was used up by someone else")
    address = python.PyCapsule_GetPointer(capsule, name)
    if name == NAMES[1]:
        whole = VersionedStruct.from_address(address)
        if whole.major != 1:
            raise EngineError(f"this DLPack capsule is of version {whole.major}.{whole.minor}; 1 is known here")
        tensor = whole.tensor
    else:
        tensor = TensorStruct.from_address(address)
    _check_device(tensor.device_type, tensor.device_id, gpu)
    shape = tuple(tensor.shape[: tensor.ndim])
    dense = _is_dense(shape, tensor.strides[: tensor.ndim] if tensor.strides else None, 1)
    kind = KINDS.get((tensor.code, tensor.bits), f"type {tensor.code} of {tensor.bits} bits")
    size = _size(shape, kind, dtype, dense and tensor.lanes == 1)
    return Pictures((tensor.data or 0) + tensor.byte_offset, size, capsule)


def _check_device(device: int, index: int, gpu: int) -> None:
    if device not in (CUDA, MANAGED):
        raise EngineError("these pictures are not on a GPU of NVIDIA; give `detect` those of this machine")
    if device == CUDA and index != gpu:
        raise EngineError(f"these pictures are on GPU {index}, the engine is on GPU {gpu}")


def _check_address(driver: Any, address: int, gpu: int) -> None:
    """Whether a GPU may read there; memory of the host that is page-locked, and managed memory, all of them may."""

    def told(name: str) -> int | None:
        status, value = driver.cuPointerGetAttribute(getattr(driver.CUpointer_attribute, name), address)
        return None if status else int(value)

    index = owner_of(driver, address)
    if index is None:
        raise EngineError("these pictures lie where CUDA knows of no memory; are they freed, or this machine's own?")
    its_own = told("CU_POINTER_ATTRIBUTE_MEMORY_TYPE") == int(driver.CUmemorytype.CU_MEMORYTYPE_DEVICE)
    if its_own and not told("CU_POINTER_ATTRIBUTE_IS_MANAGED"):
        _check_device(CUDA, index, gpu)


def _is_dense(shape: tuple[int, ...], strides: Sequence[int] | None, step: int) -> bool:
    """Whether values lie in C order without gaps; strides in units of which the last is `step`."""
    for size, stride in zip(reversed(shape), reversed(strides or ()), strict=False):
        if size > 1 and stride != step:
            return False
        step *= size
    return True


def _size(shape: tuple[int, ...], kind: str, dtype: str, dense: bool) -> tuple[int, int, int]:
    """Pictures, height and width."""
    if len(shape) not in (3, 4) or shape[-1] != 3 or 0 in shape[-3:] or kind != dtype or not dense:
        found = f"{shape} {kind}" + ("" if dense else " in another order")
        raise EngineError(f"pictures on the GPU must be (b, height, width, 3) {dtype} in C order, not {found}")
    return shape[0] if len(shape) == 4 else 1, shape[-3], shape[-2]
