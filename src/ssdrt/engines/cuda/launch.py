"""From a `Plan` to kernel launches: which kernel, how many blocks, and the struct that it takes. No GPU is needed."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_float, c_int, c_longlong, c_uint, c_void_p
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ssdrt.engines.cuda.packing import pack_columns, pack_front, pack_tiles, pack_weights
from ssdrt.engines.cuda.plan import (
    Convolution,
    Depthwise,
    Elementwise,
    Enlarge,
    Finish,
    GlobalPool,
    Plan,
    Pool,
    Separable,
    Step,
    View,
)
from ssdrt.engines.cuda.tactics import Tactic

ACTIVATIONS = {"none": 0, "relu": 0, "relu6": 0, "hard_sigmoid": 1, "hard_swish": 2, "sigmoid": 3, "swish": 4}
OPERATIONS = {
    name: code
    for code, name in enumerate(
        (
            "copy",
            "relu",
            "relu6",
            "sigmoid",
            "hard_sigmoid",
            "hard_swish",
            "swish",
            "affine",
            "clip",
            "quantize",
            "add",
            "mul",
        )
    )
}
PROCESSORS = 132  # multiprocessors of the GPUs that hopper.cu is for; a smaller one takes turns
LARGEST = 65504.0  # finite number of fp16


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
    the struct it takes. `step` is what it computes, for reports."""

    file: str
    name: str
    grid: tuple[int, int]
    block: int
    parameters: ctypes.Structure
    shared: int = 0
    cluster: int = 1
    step: str = ""
    map: Map | None = None  # whose 128 bytes the struct starts with


# --- structs, field by field those of the kernels -------------------------------------------------------------------


class DividerStruct(ctypes.Structure):
    """`Divider` of common.cuh."""

    _fields_ = (("factor", c_uint), ("shift", c_uint), ("divisor", c_int))


class FinishStruct(ctypes.Structure):
    """`Finish` of common.cuh."""

    _fields_ = (("activation", c_int), ("low", c_float), ("high", c_float), ("scale", c_float))


class ConvolutionStruct(ctypes.Structure):
    """`Convolution` of convolution.cu."""

    _fields_ = (
        *((name, c_void_p) for name in ("source", "weights", "bias", "residual", "target")),
        *((name, c_longlong) for name in ("source_image", "target_image", "residual_image")),
        *((name, c_int) for name in ("pixels", "columns", "steps", "chunks")),
        *((name, c_int) for name in ("height", "width", "source_stride", "chunks_of_pixel")),
        *((name, c_int) for name in ("window_width", "stride_y", "stride_x", "pad_y", "pad_x", "gap_y", "gap_x")),
        *((name, c_int) for name in ("target_stride", "residual_stride", "residual_width", "residual_shift")),
        *((name, c_int) for name in ("packed_columns", "column_tiles", "parts", "part_steps")),
        ("finish", FinishStruct),
        *((name, DividerStruct) for name in ("of_image", "of_row", "of_tile", "of_pixel", "of_window")),
    )


class DepthwiseStruct(ctypes.Structure):
    """`Depthwise` of depthwise.cu."""

    _fields_ = (
        *((name, c_void_p) for name in ("source", "weights", "bias", "target")),
        *((name, c_longlong) for name in ("source_image", "target_image")),
        ("strips", c_int),
        *((name, c_int) for name in ("channels", "height", "width", "target_height", "target_width")),
        *((name, c_int) for name in ("source_stride", "target_stride", "pad_y", "pad_x")),
        ("finish", FinishStruct),
        *((name, DividerStruct) for name in ("of_chunks", "of_strips", "of_rows")),
    )


class PixelsStruct(ctypes.Structure):
    """`Pixels` of pixels.cu."""

    _fields_ = (
        *((name, c_void_p) for name in ("source", "other", "target", "sources", "other_sources", "first", "second")),
        *((name, c_longlong) for name in ("source_image", "other_image", "target_image")),
        ("work", c_int),
        *((name, c_int) for name in ("height", "width", "source_stride")),
        *((name, c_int) for name in ("target_height", "target_width", "target_stride", "other_width", "other_stride")),
        *((name, c_int) for name in ("window_y", "window_x", "stride_y", "stride_x", "pad_y", "pad_x")),
        *((name, c_int) for name in ("top", "left", "operation", "by_channel")),
        *((name, c_float) for name in ("fill", "third", "scale_y", "scale_x", "shift", "rounding")),
        *((name, DividerStruct) for name in ("of_chunks", "of_row", "of_image")),
    )


class ProductStruct(ctypes.Structure):
    """`Product` of hopper.cu."""

    _fields_ = (
        ("map", ctypes.c_ubyte * 128),
        *(
            (name, c_void_p)
            for name in ("weights", "bias", "depthwise_weights", "depthwise_bias", "residual", "target")
        ),
        *((name, c_longlong) for name in ("target_image", "residual_image")),
        *((name, c_int) for name in ("pixels", "columns", "steps", "row_tiles", "column_tiles")),
        *((name, c_int) for name in ("rows", "width", "depthwise_stride")),
        *((name, c_int) for name in ("target_stride", "residual_stride", "residual_width", "residual_shift")),
        *((name, c_uint) for name in ("depthwise_low", "depthwise_high")),
        ("finish", FinishStruct),
        *((name, DividerStruct) for name in ("of_image", "of_row", "of_tile", "of_height", "of_strip")),
        ("unused", ctypes.c_ubyte * 60),
    )


class DenseStruct(ctypes.Structure):
    """`Dense` of dense.cu."""

    _fields_ = (
        ("map", ctypes.c_ubyte * 128),
        *((name, c_void_p) for name in ("weights", "bias", "residual", "target")),
        *((name, c_longlong) for name in ("target_image", "residual_image")),
        *((name, c_int) for name in ("pixels", "columns", "row_tiles", "column_tiles")),
        *((name, c_int) for name in ("chunks", "window_height", "window_width")),
        *((name, c_int) for name in ("stride_y", "stride_x", "pad_y", "pad_x", "gap_y", "gap_x")),
        *((name, c_int) for name in ("target_stride", "residual_stride", "residual_width", "residual_shift")),
        ("finish", FinishStruct),
        *((name, DividerStruct) for name in ("of_image", "of_row", "of_tile")),
        ("unused", ctypes.c_ubyte * 24),
    )


class FrontStruct(ctypes.Structure):
    """`Front` of front.cu."""

    _fields_ = (
        *((name, c_void_p) for name in ("source", "weights", "bias", "target")),
        *((name, c_longlong) for name in ("source_image", "target_image")),
        *((name, c_int) for name in ("height", "width", "source_stride", "target_height", "target_width")),
        *((name, c_int) for name in ("target_stride", "columns", "pad_y", "pad_x", "tiles")),
        ("finish", FinishStruct),
        *((name, DividerStruct) for name in ("of_across", "of_image")),
    )


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


# --- memory ---------------------------------------------------------------------------------------------------------


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
    """Makes the launches of a plan for one batch."""

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

    def launches(self, index: int, tactic: Tactic) -> list[Launch]:
        """The launches of a step."""
        step = self.plan.steps[index]
        if isinstance(step, Separable) and tactic.inner:
            first, second = tactic.inner
            return [
                depthwise(self, f"{index} Depthwise", step.depthwise, first),
                convolution(self, f"{index} Convolution", step.point, second),
            ]
        return [MAKERS[type(step)](self, str(index), step, tactic)]


def convolution(build: Builder, index: str, step: Convolution, tactic: Tactic) -> Launch:
    """A dense convolution, by tiles or for few pixels."""
    if tactic.kernel.startswith("product"):
        return product(build, index, step, tactic)
    if tactic.kernel.startswith("dense"):
        return dense(build, index, step, tactic)
    if tactic.kernel.startswith("front"):
        return front(build, index, step, tactic)
    kernel_height, kernel_width, channels, columns = step.weights.shape
    source, target = step.source, step.target
    chunks_of_pixel = channels // 8
    chunks = kernel_height * kernel_width * chunks_of_pixel
    steps = -(-chunks // 4)
    pixels = build.batch * target.height * target.width
    row_tiles, column_tiles = -(-pixels // tactic.rows), -(-columns // tactic.columns)
    parameters = ConvolutionStruct(
        source=build.address(source), target=build.address(target),
        weights=build.constant(f"{index} weights", lambda: pack_weights(step.weights)),
        bias=build.constant(f"{index} bias", lambda: np.pad(step.bias, (0, -len(step.bias) % 128))),
        source_image=build.image(source), target_image=build.image(target),
        pixels=pixels, columns=columns, steps=steps, chunks=chunks,
        height=source.height, width=source.width, source_stride=source.stride, chunks_of_pixel=chunks_of_pixel,
        window_width=kernel_width, stride_y=step.strides[0], stride_x=step.strides[1],
        pad_y=step.pads[0], pad_x=step.pads[1], gap_y=step.dilations[0], gap_x=step.dilations[1],
        target_stride=target.stride, packed_columns=pack_columns(columns), column_tiles=column_tiles,
        parts=tactic.parts, part_steps=-(-steps // tactic.parts), finish=finish_struct(step.finish),
        of_image=divider(target.height * target.width), of_row=divider(target.width), of_tile=divider(column_tiles),
        of_pixel=divider(chunks_of_pixel), of_window=divider(kernel_width),
    )  # fmt: skip
    residual = step.finish.residual
    if residual is not None:
        parameters.residual, parameters.residual_image = build.address(residual), build.image(residual)
        parameters.residual_stride, parameters.residual_width = residual.stride, residual.width
        parameters.residual_shift = step.finish.upsampling - 1
    grid = row_tiles * column_tiles * tactic.parts
    return Launch(
        "convolution.cu", tactic.kernel, (grid, 1), tactic.threads, parameters, tactic.shared, tactic.parts, step.name
    )


def _product(build: Builder, key: str, step: Convolution, tactic: Tactic) -> ProductStruct:
    """What both kernels of hopper.cu need of a convolution."""
    target, columns, wide = step.target, step.target.channels, tactic.columns
    tiles = -(-columns // wide)
    parameters = ProductStruct(
        weights=build.constant(f"{key} tiles {wide}", lambda: pack_tiles(step.weights, wide)),
        bias=build.constant(f"{key} bias {wide}", lambda: np.pad(step.bias, (0, tiles * wide - columns))),
        target=build.address(target), target_image=build.image(target), target_stride=target.stride,
        pixels=build.batch * target.height * target.width, columns=columns,
        steps=step.weights.shape[0] * step.weights.shape[1] * -(-step.source.channels // 64),
        column_tiles=tiles // tactic.parts, finish=finish_struct(step.finish),
        of_image=divider(target.height * target.width), of_row=divider(target.width),
        of_tile=divider(tiles // tactic.parts), of_height=divider(target.height), of_strip=divider(1),
        rows=build.batch * target.height, width=target.width,
    )  # fmt: skip
    residual = step.finish.residual
    if residual is not None:
        parameters.residual, parameters.residual_image = build.address(residual), build.image(residual)
        parameters.residual_stride, parameters.residual_width = residual.stride, residual.width
        parameters.residual_shift = step.finish.upsampling - 1
    return parameters


def product(build: Builder, index: str, step: Convolution, tactic: Tactic) -> Launch:
    """A 1x1 convolution by wgmma: as many blocks as the multiprocessors hold, or as there are tiles."""
    source, parameters = step.source, _product(build, index, step, tactic)
    address, pitch = build.address(source), 2 * source.stride
    parameters.row_tiles = -(-parameters.pixels // 128)
    where = Map(address, (source.channels, parameters.pixels), (pitch,), (64, 128), swizzled=True)
    blocks = min(parameters.row_tiles * parameters.column_tiles, PROCESSORS * tactic.resident)
    return Launch(
        "hopper.cu", tactic.kernel, (blocks, 1), tactic.threads, parameters, tactic.shared, step=step.name, map=where
    )


def dense(build: Builder, index: str, step: Convolution, tactic: Tactic) -> Launch:
    """A convolution with a window by wgmma, whose pixels the copy engine walks."""
    source, target, wide = step.source, step.target, tactic.columns
    pixels, tiles = build.batch * target.height * target.width, -(-target.channels // wide)
    (stride_y, stride_x), (gap_y, gap_x), (top, left) = step.strides, step.dilations, step.pads[:2]
    window_height, window_width = step.weights.shape[:2]
    parameters = DenseStruct(
        weights=build.constant(f"{index} tiles {wide}", lambda: pack_tiles(step.weights, wide)),
        bias=build.constant(f"{index} bias {wide}", lambda: np.pad(step.bias, (0, tiles * wide - len(step.bias)))),
        target=build.address(target), target_image=build.image(target), target_stride=target.stride,
        pixels=pixels, columns=target.channels, row_tiles=-(-pixels // (tactic.rows * tactic.parts)),
        column_tiles=tiles, chunks=-(-source.channels // 64), window_height=window_height, window_width=window_width,
        stride_y=stride_y, stride_x=stride_x, pad_y=top, pad_x=left, gap_y=gap_y, gap_x=gap_x,
        finish=finish_struct(step.finish), of_image=divider(target.height * target.width),
        of_row=divider(target.width), of_tile=divider(tiles),
    )  # fmt: skip
    residual = step.finish.residual
    if residual is not None:
        parameters.residual, parameters.residual_image = build.address(residual), build.image(residual)
        parameters.residual_stride, parameters.residual_width = residual.stride, residual.width
        parameters.residual_shift = step.finish.upsampling - 1
    clusters = min(parameters.row_tiles * tiles, PROCESSORS * tactic.resident // tactic.parts)
    last = ((target.width - 1) * stride_x - left + 1, (target.height - 1) * stride_y - top + 1)
    pitch = 2 * source.stride
    where = Map(
        build.address(source), (source.channels, source.width, source.height, build.batch),
        (pitch, pitch * source.width, 2 * build.image(source)), (64, tactic.rows), True, (1, stride_x, stride_y, 1),
        ((-left, -top), (last[0] - source.width, last[1] - source.height)),
    )  # fmt: skip
    return Launch(
        "dense.cu", tactic.kernel, (clusters * tactic.parts, 1), tactic.threads,
        parameters, tactic.shared, tactic.parts, step.name, where,
    )  # fmt: skip


def front(build: Builder, index: str, step: Convolution, tactic: Tactic) -> Launch:
    """The first convolution, of 3 channels."""
    source, target, wide = step.source, step.target, tactic.columns
    across, down = -(-target.width // 16), -(-target.height // 8)
    tiles = build.batch * across * down
    parameters = FrontStruct(
        source=build.address(source), target=build.address(target),
        weights=build.constant(f"{index} front weights", lambda: pack_front(step.weights, wide)),
        bias=build.constant(f"{index} front bias", lambda: np.pad(step.bias, (0, wide - len(step.bias)))),
        source_image=build.image(source), target_image=build.image(target), height=source.height, width=source.width,
        source_stride=source.stride, target_height=target.height, target_width=target.width,
        target_stride=target.stride, columns=target.channels, pad_y=step.pads[0], pad_x=step.pads[1], tiles=tiles,
        finish=finish_struct(step.finish), of_across=divider(across), of_image=divider(across * down),
    )  # fmt: skip
    blocks = min(tiles, 4 * PROCESSORS)
    return Launch("front.cu", tactic.kernel, (blocks, 1), tactic.threads, parameters, step=step.name)


def separable(build: Builder, index: str, step: Separable, tactic: Tactic) -> Launch:
    """A depthwise convolution and a 1x1 as one kernel."""
    source, first = step.source, step.depthwise
    parameters = _product(build, index, step.point, tactic)
    tall = tactic.rows == 10
    width = 12 if tall else 20
    strips = -(-source.width // width)
    parameters.row_tiles = strips * -(-parameters.rows // tactic.rows)
    parameters.of_strip = divider(strips)
    filled = -source.channels % 64
    parameters.depthwise_stride = source.channels + filled
    parameters.depthwise_weights = build.constant(
        f"{index} depthwise weights",
        lambda: np.pad(first.weights.reshape(9, -1), ((0, 0), (0, filled))).astype(np.float16),
    )
    parameters.depthwise_bias = build.constant(
        f"{index} depthwise bias", lambda: np.pad(first.bias, (0, filled)).astype(np.float16)
    )
    limits = finish_struct(first.finish)
    for name, value in (("depthwise_low", limits.low), ("depthwise_high", limits.high)):
        setattr(parameters, name, int(np.float16(value).view(np.uint16)) * 0x10001)
    sizes = (source.channels, source.width, parameters.rows)
    pitches = (2 * source.stride, 2 * source.stride * source.width)
    clusters = min(parameters.row_tiles * parameters.column_tiles, PROCESSORS // tactic.parts)
    return Launch(
        "hopper.cu", tactic.kernel, (clusters * tactic.parts, 1), tactic.threads,
        parameters, tactic.shared, tactic.parts, step.name,
        Map(build.address(source), sizes, pitches, (64, width + 2, tactic.rows + 2), swizzled=False),
    )  # fmt: skip


def depthwise(build: Builder, index: str, step: Depthwise, tactic: Tactic) -> Launch:
    """A depthwise convolution; tactic.columns neighbouring pixels a thread, of tactic.rows rows where it is said."""
    source, target = step.source, step.target
    strips, rows = -(-target.width // tactic.columns), -(-target.height // max(tactic.rows, 1))
    work = build.batch * rows * strips * (target.channels // 8)
    kind = np.dtype(np.float16 if "halves" in tactic.kernel else np.float32)
    parameters = DepthwiseStruct(
        source=build.address(source), target=build.address(target),
        weights=build.constant(f"{index} weights {kind.name}", lambda: step.weights.astype(kind)),
        bias=build.constant(f"{index} bias {kind.name}", lambda: step.bias.astype(kind)),
        source_image=build.image(source), target_image=build.image(target), strips=work, channels=target.channels,
        height=source.height, width=source.width, target_height=target.height, target_width=target.width,
        source_stride=source.stride, target_stride=target.stride, pad_y=step.pads[0], pad_x=step.pads[1],
        finish=finish_struct(step.finish), of_chunks=divider(target.channels // 8), of_strips=divider(strips),
        of_rows=divider(rows),
    )  # fmt: skip
    return Launch("depthwise.cu", tactic.kernel, (-(-work // 128), 1), 128, parameters, step=step.name)


def _pixels(build: Builder, step: Pool | GlobalPool | Enlarge | Elementwise) -> PixelsStruct:
    source, target = step.source, step.target
    return PixelsStruct(
        source=build.address(source), target=build.address(target),
        source_image=build.image(source), target_image=build.image(target),
        work=build.batch * target.height * target.width * (target.channels // 8),
        height=source.height, width=source.width, source_stride=source.stride,
        target_height=target.height, target_width=target.width, target_stride=target.stride,
        of_chunks=divider(target.channels // 8), of_row=divider(target.width), of_image=divider(target.height),
    )  # fmt: skip


def pool(build: Builder, index: str, step: Pool, tactic: Tactic) -> Launch:  # noqa: ARG001
    """A pool."""
    parameters = _pixels(build, step)
    parameters.window_y, parameters.window_x = step.window
    parameters.stride_y, parameters.stride_x = step.strides
    parameters.pad_y, parameters.pad_x = step.pads[:2]
    return Launch("pixels.cu", tactic.kernel, (-(-parameters.work // 128), 1), 128, parameters, step=step.name)


def global_pool(build: Builder, index: str, step: GlobalPool, tactic: Tactic) -> Launch:  # noqa: ARG001
    """A global pool: 64 channels of a picture a block."""
    grid = (-(-step.target.channels // 64), build.batch)
    return Launch("pixels.cu", tactic.kernel, grid, 256, _pixels(build, step), step=step.name)


def enlarge(build: Builder, index: str, step: Enlarge, tactic: Tactic) -> Launch:  # noqa: ARG001
    """A `Resize`, with the scales that engines/reference.py computes."""
    parameters = _pixels(build, step)
    scales = []
    for old, new in ((step.source.height, step.target.height), (step.source.width, step.target.width)):
        scales.append(np.float32((old - 1) / (new - 1) if step.align_corners and new > 1 else old / new))
    parameters.scale_y, parameters.scale_x = scales
    parameters.shift = 0.5 if step.half_pixel_centers else 0.0
    parameters.rounding = 0.5 if step.align_corners else 0.0
    return Launch("pixels.cu", tactic.kernel, (-(-parameters.work // 128), 1), 128, parameters, step=step.name)


def elementwise(build: Builder, index: str, step: Elementwise, tactic: Tactic) -> Launch:
    """An operation on every element."""
    parameters = _pixels(build, step)
    parameters.operation, parameters.third, parameters.fill = OPERATIONS[step.operation], step.third, step.fill
    parameters.top, parameters.left = step.top, step.left
    parameters.sources = _channels(build, f"{index} sources", step.sources)
    if step.other is not None and step.other_sources is not None:
        single = step.other.height * step.other.width == 1
        parameters.other, parameters.other_image = build.address(step.other), build.image(step.other)
        parameters.other_width, parameters.other_stride = 0 if single else step.other.width, step.other.stride
        parameters.other_sources = _channels(build, f"{index} other", step.other_sources)
    if step.first is not None and step.second is not None:
        first, second = np.broadcast_arrays(step.first, step.second)
        parameters.first = build.constant(f"{index} first", lambda: first)
        parameters.second = build.constant(f"{index} second", lambda: second)
        parameters.by_channel = int(len(first) > 1)
    return Launch("pixels.cu", tactic.kernel, (-(-parameters.work // 128), 1), 128, parameters, step=step.name)


def _channels(build: Builder, key: str, sources: NDArray[np.int32]) -> int | None:
    """Address of a channel table; None where every channel is its own source, or comes from padding, which is zero."""
    own = np.arange(len(sources))
    if ((sources == own) | (sources == -1)).all() and _padding_only_last(sources):
        return None
    return build.constant(key, lambda: sources)


def _padding_only_last(sources: NDArray[np.int32]) -> bool:
    return int((sources == -1).sum()) < 8 and bool((np.diff((sources == -1).astype(int)) >= 0).all())


Maker: TypeAlias = Callable[[Builder, str, Any, Tactic], Launch]

MAKERS: dict[type[Step], Maker] = {
    Convolution: convolution,
    Depthwise: depthwise,
    Elementwise: elementwise,
    Enlarge: enlarge,
    GlobalPool: global_pool,
    Pool: pool,
    Separable: separable,
}
"""Step kind -> what launches it."""
