"""What a kernel launch is, and what makers of launches need: addresses, constants, the parts of structs. No GPU."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_float, c_int, c_uint
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ssdrt.engines.cuda.packing import LARGEST
from ssdrt.engines.cuda.plan import Convolution, Finish, Plan, View

ACTIVATIONS = {"none": 0, "relu": 0, "relu6": 0, "hard_sigmoid": 1, "hard_swish": 2, "sigmoid": 3, "swish": 4}

PROCESSORS = 132  # multiprocessors of the GPUs that hopper.cu is for; a smaller one takes turns


@dataclass(frozen=True)
class Map:
    """What the copy engine is told of a source of fp16: its address; sizes, innermost first, in numbers; bytes from one
    element of each dimension but the first to the next; the box that one copy brings; whether it is swizzled by 128."""

    address: int
    sizes: tuple[int, ...]
    pitches: tuple[int, ...]
    box: tuple[int, ...]
    swizzled: bool
    steps: tuple[int, ...] = ()  # of each dimension, where not 1: a strided box spans the elements it leaves out, too
    corners: tuple[tuple[int, int], tuple[int, int]] | None = None
    """(x, y) of the first window position, and of the last one less (width, height): a copy then brings as many pixels
    as the box's second number, walking the positions of the whole batch."""


@dataclass(frozen=True)
class Launch:
    """One kernel: its file and C++ name, its grid and block, bytes of dynamic shared memory, blocks of a cluster, and
    the struct it takes. `step` is what it computes, for reports.

    branch: "aside", if what follows need not wait for it; "join", if it waits for all that went aside."""

    file: str
    name: str
    grid: tuple[int, int]
    block: int
    parameters: ctypes.Structure
    shared: int = 0
    cluster: int = 1
    step: str = ""
    map: Map | None = None  # whose 128 bytes the struct starts with
    branch: Literal["", "aside", "join"] = ""


class DividerStruct(ctypes.Structure):
    """`Divider` of common.cuh."""

    _fields_ = (("factor", c_uint), ("shift", c_uint), ("divisor", c_int))


class FinishStruct(ctypes.Structure):
    """`Finish` of common.cuh."""

    _fields_ = (("activation", c_int), ("low", c_float), ("high", c_float), ("scale", c_float))


def divider(divisor: int) -> DividerStruct:
    """n / divisor as (n * factor) >> 32 >> shift, exact for 0 <= n < 2^31 (Granlund and Montgomery 1994)."""
    if divisor == 1:
        return DividerStruct(0, 0, 1)
    bits = 31 + (divisor - 1).bit_length()
    return DividerStruct(-(-(1 << bits) // divisor), bits - 32, divisor)


def finish_struct(finish: Finish) -> FinishStruct:
    """How a sum ends; what is no relu is limited to the finite numbers of fp16."""
    low = 0.0 if finish.activation in ("relu", "relu6") else -LARGEST
    high = 6.0 if finish.activation == "relu6" else LARGEST
    return FinishStruct(ACTIVATIONS[finish.activation], low, high, finish.scale)


def twice(value: float) -> int:
    """A number as a pair of fp16, for instructions that take two at once."""
    return int(np.float16(value).view(np.uint16)) * 0x10001


class Constants:
    """Weights and tables of a plan as one piece of memory; what several launches share is in it once."""

    def __init__(self, places: dict[str, int] | None = None, data: bytes = b"") -> None:
        self.places = dict(places or {})
        self._parts = [data]
        self.size = len(data)

    def add(self, key: str, make: Callable[[], NDArray[Any]]) -> int:
        """Offset of the array that `make` makes, 256-byte aligned; the same key gives the same place."""
        if key not in self.places:
            data = np.ascontiguousarray(make()).tobytes()
            self.places[key] = self.size
            self._parts += [data, bytes(-len(data) % 256)]
            self.size += len(data) + -len(data) % 256
        return self.places[key]

    def data(self) -> bytes:
        """All of it."""
        return b"".join(self._parts)


@dataclass(frozen=True)
class Memory:
    """Addresses: of each slot of the plan for this batch, and of the constants."""

    slots: tuple[int, ...]
    constants: int


def slot_offsets(plan: Plan, batch: int) -> tuple[tuple[int, ...], int]:
    """(byte offset of each slot, bytes of all), each aligned to 256 bytes."""
    offsets, at = [], 0
    for size in plan.slots:
        offsets.append(at)
        at += -(-size * 2 * batch // 256) * 256
    return tuple(offsets), at


class Builder:
    """What launches are made with: the plan, the batch, and where everything lies."""

    def __init__(self, plan: Plan, batch: int, memory: Memory, constants: Constants) -> None:
        self.plan, self.batch, self.memory, self.constants = plan, batch, memory, constants

    def address(self, view: View) -> int:
        """Of a view's first element."""
        return self.memory.slots[self.plan.slot_of[view.buffer]] + 2 * view.offset

    def image(self, view: View) -> int:
        """Elements from one picture to the next."""
        return self.plan.buffers[view.buffer]

    def constant(self, key: str, make: Callable[[], NDArray[Any]]) -> int:
        """Address of a constant."""
        return self.memory.constants + self.constants.add(key, make)


def set_residual(parameters: Any, build: Builder, step: Convolution) -> None:
    """What is added to a sum, if there is something, as every convolution's struct has it."""
    residual = step.finish.residual
    if residual is not None:
        parameters.residual, parameters.residual_image = build.address(residual), build.image(residual)
        parameters.residual_stride, parameters.residual_width = residual.stride, residual.width
        parameters.residual_shift = step.finish.upsampling - 1
