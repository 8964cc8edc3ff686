"""Launches of a depthwise convolution and the 1x1 behind it as one kernel for few pixels: `few.cu`, for sm_90a."""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_longlong, c_uint, c_void_p

import numpy as np

from ssdrt.engines.cuda.launch import Builder, DividerStruct, Launch, divider, finish_struct, twice
from ssdrt.engines.cuda.packing import pack_columns, pack_weights
from ssdrt.engines.cuda.plan import Separable
from ssdrt.engines.cuda.tactics import Tactic


class FewStruct(ctypes.Structure):
    """`Few` of few.cu."""

    _fields_ = (
        *((name, c_void_p) for name in ("source", "depthwise_weights", "depthwise_bias", "weights", "bias")),
        ("target", c_void_p),
        *((name, c_longlong) for name in ("source_image", "target_image")),
        *((name, c_int) for name in ("pixels", "columns", "steps", "slices", "chunks")),
        *((name, c_int) for name in ("height", "width", "source_stride", "stride_y", "stride_x", "pad_y", "pad_x")),
        *((name, c_int) for name in ("target_stride", "packed_columns", "column_tiles", "parts")),
        *((name, c_uint) for name in ("depthwise_low", "depthwise_high", "low", "high")),
        *((name, DividerStruct) for name in ("of_image", "of_row", "of_tile")),
    )


def few_separable(build: Builder, index: str, step: Separable, tactic: Tactic) -> Launch:
    """One kernel; its weights are those of the two kernels that would compute the same."""
    source, target, first, point = step.source, step.target, step.depthwise, step.point
    channels, columns = source.channels, target.channels
    pixels, tiles = build.batch * target.height * target.width, -(-columns // (64 * tactic.parts))
    between, last = finish_struct(first.finish), finish_struct(point.finish)
    parameters = FewStruct(
        source=build.address(source), target=build.address(target),
        depthwise_weights=build.constant(
            f"{index} Depthwise weights float16", lambda: first.weights.astype(np.float16)
        ),
        depthwise_bias=build.constant(f"{index} Depthwise bias float16", lambda: first.bias.astype(np.float16)),
        weights=build.constant(f"{index} Convolution weights", lambda: pack_weights(point.weights)),
        bias=build.constant(f"{index} Convolution bias", lambda: np.pad(point.bias, (0, -columns % 128))),
        source_image=build.image(source), target_image=build.image(target),
        pixels=pixels, columns=columns, steps=-(-channels // 32), slices=-(-channels // 64), chunks=channels // 8,
        height=source.height, width=source.width, source_stride=source.stride,
        stride_y=first.strides[0], stride_x=first.strides[1], pad_y=first.pads[0], pad_x=first.pads[1],
        target_stride=target.stride, packed_columns=pack_columns(columns), column_tiles=tiles, parts=tactic.parts,
        depthwise_low=twice(between.low), depthwise_high=twice(between.high),
        low=twice(last.low), high=twice(last.high),
        of_image=divider(target.height * target.width), of_row=divider(target.width), of_tile=divider(tiles),
    )  # fmt: skip
    grid = -(-pixels // tactic.rows) * tiles * tactic.parts
    return Launch(
        "few.cu", tactic.kernel, (grid, 1), tactic.threads, parameters, tactic.shared, tactic.parts, step.name
    )
