"""Launches of convolutions that any GPU runs: `convolution.cu`, `depthwise.cu`."""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_longlong, c_void_p

import numpy as np

from ssdrt.engines.cuda.launch import (
    Builder,
    DividerStruct,
    FinishStruct,
    Launch,
    divider,
    finish_struct,
    set_residual,
)
from ssdrt.engines.cuda.packing import pack_columns, pack_weights
from ssdrt.engines.cuda.plan import Convolution, Depthwise
from ssdrt.engines.cuda.tactics import Tactic


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


def convolution(build: Builder, index: str, step: Convolution, tactic: Tactic) -> Launch:
    """A dense convolution, by tiles or for few pixels: any shape, any GPU."""
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
    set_residual(parameters, build, step)
    grid = row_tiles * column_tiles * tactic.parts
    return Launch(
        "convolution.cu", tactic.kernel, (grid, 1), tactic.threads, parameters, tactic.shared, tactic.parts, step.name
    )


def depthwise(build: Builder, index: str, step: Depthwise, tactic: Tactic) -> Launch:
    """A depthwise convolution; tactic.columns neighbouring pixels a thread, of tactic.rows rows where it is said."""
    source, target = step.source, step.target
    strips, rows = -(-target.width // tactic.columns), -(-target.height // max(tactic.rows, 1))
    work = build.batch * rows * strips * (target.channels // 8)
    kind = np.dtype(np.float32 if tactic.kernel.startswith("depthwise<") else np.float16)
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
