"""Two depthwise convolutions and the 1x1 between them as one launch: `chain.cu`."""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_longlong, c_uint, c_void_p

import numpy as np
from numpy.typing import NDArray

from ssdrt.engines.cuda.launch import PROCESSORS, Builder, DividerStruct, Launch, Map, divider, finish_struct, twice
from ssdrt.engines.cuda.packing import filled, halves
from ssdrt.engines.cuda.plan import Chain, Depthwise
from ssdrt.engines.cuda.tactics import Tactic
from ssdrt.model import Floats


class ChainStruct(ctypes.Structure):
    """`Chain` of chain.cu."""

    _fields_ = (
        ("map", ctypes.c_ubyte * 128),
        *((name, c_void_p) for name in ("weights", "bias")),
        *((name, c_void_p) for name in ("first_weights", "first_bias", "last_weights", "last_bias", "target")),
        ("target_image", c_longlong),
        *((name, c_int) for name in ("lines", "height", "width", "target_height", "target_width", "target_stride")),
        *((name, c_int) for name in ("columns", "pad_y", "pad_x", "across")),
        *((name, c_uint) for name in ("first_high", "high", "last_high")),
        *((name, DividerStruct) for name in ("of_height", "of_strip")),
        ("unused", ctypes.c_ubyte * 52),
    )


def chain(build: Builder, key: str, step: Chain, tactic: Tactic) -> Launch:
    """As far as the second depthwise convolution; tactic.columns of its pixels are a strip."""
    first, point, last = step.first.depthwise, step.first.point, step.second.depthwise
    source, target, channels = step.source, last.target, 128 * tactic.parts
    strips = -(-target.width // tactic.columns)
    columns = int(tactic.kernel.partition("<")[2].partition(",")[0])
    highs = (twice(finish_struct(part.finish).high) for part in (first, point, last))
    parameters = ChainStruct(
        weights=build.constant(f"{key} weights {channels}", lambda: pack_rows(point.weights[0, 0], channels)),
        bias=build.constant(f"{key} bias {channels}", lambda: filled(point.bias, channels)),
        target=build.address(target), target_image=build.image(target), lines=build.batch * strips * target.height,
        height=source.height, width=source.width, target_height=target.height, target_width=target.width,
        target_stride=target.stride, columns=target.channels, pad_y=last.pads[0], pad_x=last.pads[1],
        across=tactic.columns, of_height=divider(target.height), of_strip=divider(strips),
        **dict(zip(("first_high", "high", "last_high"), highs, strict=True)),
    )  # fmt: skip
    for name, part in (("first", first), ("last", last)):
        weights, bias = _constants(build, f"{key} {name}", part, channels)
        setattr(parameters, f"{name}_weights", weights)
        setattr(parameters, f"{name}_bias", bias)
    pitch = 2 * source.stride
    where = Map(
        build.address(source), (source.channels, source.width, source.height, build.batch),
        (pitch, pitch * source.width, 2 * build.image(source)), (128, columns + 2, 1, 1), swizzled=False,
    )  # fmt: skip
    clusters = min(parameters.lines, PROCESSORS // tactic.parts)
    return Launch(
        "chain.cu", tactic.kernel, (clusters * tactic.parts, 1), tactic.threads, parameters, tactic.shared,
        tactic.parts, last.name, where,
    )  # fmt: skip


def _constants(build: Builder, key: str, part: Depthwise, channels: int) -> tuple[int, int]:
    """Addresses of the weights and the bias, filled up to so many channels, in fp16."""
    weights = build.constant(
        f"{key} weights {channels}", lambda: filled(part.weights.reshape(9, -1), 9, channels).astype(np.float16)
    )
    return weights, build.constant(f"{key} bias {channels}", lambda: filled(part.bias, channels).astype(np.float16))


def pack_rows(weights: Floats, channels: int) -> NDArray[np.float16]:
    """(in, out) as (64s of out, 16s of in, 4 warps, 32 lanes, 4 pairs, 2) fp16, both filled up to `channels`: the left
    operand of the matrix unit, whose rows are the channels that come out, as registers hold it."""
    square = halves(filled(weights, channels, channels))
    part, step, warp, lane, pair, one = np.ogrid[: channels // 64, : channels // 16, :4, :32, :4, :2]
    row = part * 64 + warp * 16 + lane // 4 + pair % 2 * 8
    packed: NDArray[np.float16] = square[step * 16 + lane % 4 * 2 + pair // 2 * 8 + one, row]
    return packed
