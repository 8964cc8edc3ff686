"""Launches of convolutions by the matrix unit and the copy engine of sm_90a: `hopper.cu`, `dense.cu`, `front.cu`."""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_longlong, c_uint, c_void_p

import numpy as np

from ssdrt.engines.cuda.launch import (
    PROCESSORS,
    Builder,
    DividerStruct,
    FinishStruct,
    Launch,
    Map,
    divider,
    finish_struct,
    set_residual,
    twice,
)
from ssdrt.engines.cuda.packing import pack_front, pack_tiles
from ssdrt.engines.cuda.plan import Convolution, Separable
from ssdrt.engines.cuda.tactics import Tactic


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
    set_residual(parameters, build, step)
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
    parameters.depthwise_low, parameters.depthwise_high = twice(limits.low), twice(limits.high)
    sizes = (source.channels, source.width, parameters.rows)
    pitches = (2 * source.stride, 2 * source.stride * source.width)
    clusters = min(parameters.row_tiles * parameters.column_tiles, PROCESSORS // tactic.parts)
    return Launch(
        "hopper.cu", tactic.kernel, (clusters * tactic.parts, 1), tactic.threads,
        parameters, tactic.shared, tactic.parts, step.name,
        Map(build.address(source), sizes, pitches, (64, width + 2, tactic.rows + 2), swizzled=False),
    )  # fmt: skip


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
    set_residual(parameters, build, step)
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
