"""Launches of inverted residuals with squeeze-excite: `squeezed.cu` as far as the mean, `excited.cu` what follows."""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_longlong, c_void_p

import numpy as np
from numpy.typing import NDArray

from ssdrt.engines.cuda.launch import Builder, DividerStruct, FinishStruct, Launch, divider, finish_struct
from ssdrt.engines.cuda.packing import column_order, filled, halves
from ssdrt.engines.cuda.plan import Excited, Squeezed
from ssdrt.engines.cuda.tactics import ALONG, Tactic, squeezed_map
from ssdrt.model import Floats


class SqueezedStruct(ctypes.Structure):
    """`Squeezed` of squeezed.cu."""

    _fields_ = (
        *((name, c_void_p) for name in ("source", "expand", "expand_bias", "weights", "bias", "target", "mean")),
        *((name, c_longlong) for name in ("source_image", "target_image", "mean_image")),
        *((name, c_int) for name in ("channels", "source_channels", "height", "width", "source_stride")),
        *((name, c_int) for name in ("target_height", "target_width", "target_stride", "pad_y", "pad_x")),
        *((name, c_int) for name in ("rows", "columns", "units")),
        *((name, FinishStruct) for name in ("first", "second")),
        *((name, DividerStruct) for name in ("of_slab", "of_row", "of_strip")),
    )


class ExcitedStruct(ctypes.Structure):
    """`Excited` of excited.cu."""

    _fields_ = (
        *((name, c_void_p) for name in ("source", "mean", "squeeze", "excite", "squeeze_bias", "excite_bias")),
        *((name, c_void_p) for name in ("weights", "bias", "residual", "target")),
        *((name, c_longlong) for name in ("source_image", "mean_image", "residual_image", "target_image")),
        *((name, c_int) for name in ("channels", "hidden", "columns", "steps", "pixels", "rows")),
        *((name, c_int) for name in ("source_stride", "residual_stride", "target_stride")),
        *((name, FinishStruct) for name in ("first", "second", "finish")),
        *((name, DividerStruct) for name in ("of_picture", "of_row")),
    )


def squeezed(build: Builder, key: str, step: Squeezed, tactic: Tactic) -> Launch:
    """A block makes tactic.columns channels of a picture, tactic.rows rows a thread."""
    expand, depthwise, wide = step.expand, step.depthwise, tactic.columns
    source, target = step.source, depthwise.target
    slabs, strips = -(-target.channels // wide), -(-target.width // ALONG)
    rows, columns = squeezed_map(depthwise, tactic.rows)
    parameters = SqueezedStruct(
        source=build.address(source), target=build.address(target), mean=build.address(step.pool.target),
        weights=build.constant(f"{key} slabs {wide}", lambda: by_slab(depthwise.weights, wide)),
        bias=build.constant(f"{key} bias {wide}", lambda: by_slab(depthwise.bias, wide)),
        source_image=build.image(source), target_image=build.image(target), mean_image=build.image(step.pool.target),
        channels=target.channels, source_channels=source.channels, height=source.height, width=source.width,
        source_stride=source.stride, target_height=target.height, target_width=target.width,
        target_stride=target.stride, pad_y=depthwise.pads[0], pad_x=depthwise.pads[1], rows=rows, columns=columns,
        units=-(-target.height // tactic.rows) * strips, second=finish_struct(depthwise.finish),
        of_slab=divider(slabs), of_row=divider(source.width), of_strip=divider(strips),
    )  # fmt: skip
    if expand is not None:
        parameters.expand = build.constant(f"{key} expand {wide}", lambda: pack_expand(expand.weights[0, 0], wide))
        parameters.expand_bias = build.constant(f"{key} expand bias {wide}", lambda: by_slab(expand.bias, wide))
        parameters.first = finish_struct(expand.finish)
    grid = build.batch * slabs
    return Launch("squeezed.cu", tactic.kernel, (grid, 1), tactic.threads, parameters, tactic.shared, step=step.name)


def excited(build: Builder, key: str, step: Excited, tactic: Tactic) -> Launch:
    """A block makes tactic.rows pixels of a picture."""
    source, target, mean = step.scale.source, step.target, step.source
    channels, hidden, residual = source.channels, step.squeeze.target.channels, step.point.finish.residual
    pixels, steps, columns = target.height * target.width, -(-channels // 16), tactic.columns
    pieces = -(-pixels // tactic.rows)
    parameters = ExcitedStruct(
        source=build.address(source), mean=build.address(mean), target=build.address(target),
        squeeze=build.constant(f"{key} squeeze", lambda: halves(step.squeeze.weights[0, 0].T)),
        excite=build.constant(f"{key} excite", lambda: halves(step.excite.weights[0, 0].T)),
        squeeze_bias=build.constant(f"{key} squeeze bias", lambda: step.squeeze.bias),
        excite_bias=build.constant(f"{key} excite bias", lambda: step.excite.bias),
        weights=build.constant(f"{key} point", lambda: pack_point(step.point.weights[0, 0], columns)),
        bias=build.constant(f"{key} point bias", lambda: filled(step.point.bias, columns)),
        source_image=build.image(source), mean_image=build.image(mean), target_image=build.image(target),
        channels=channels, hidden=hidden, columns=target.channels, steps=steps, pixels=pixels, rows=tactic.rows,
        source_stride=source.stride, target_stride=target.stride, first=finish_struct(step.squeeze.finish),
        second=finish_struct(step.excite.finish), finish=finish_struct(step.point.finish), of_picture=divider(pieces),
        of_row=divider(2 * steps),
    )  # fmt: skip
    if residual is not None:
        parameters.residual, parameters.residual_image = build.address(residual), build.image(residual)
        parameters.residual_stride = residual.stride
    grid = build.batch * pieces
    return Launch("excited.cu", tactic.kernel, (grid, 1), tactic.threads, parameters, tactic.shared, step=step.name)


def by_slab(values: Floats, wide: int) -> Floats:
    """(..., channels) as (slabs, ..., wide), filled up with zeros."""
    slabs = -(-values.shape[-1] // wide)
    return np.moveaxis(filled(values, slabs * wide).reshape(*values.shape[:-1], slabs, wide), -2, 0)


def pack_expand(weights: Floats, wide: int) -> NDArray[np.float16]:
    """(in, out) as (slabs, eights of columns, steps of 16 of K, 32 lanes, 4) fp16: a lane has four of K."""
    steps, slabs = -(-len(weights) // 16), -(-weights.shape[1] // wide)
    columns = halves(filled(weights, 16 * steps, slabs * wide))[:, column_order(slabs * wide, min(wide, 32))]
    order = np.arange(16 * steps)
    twos = order[: steps // 2 * 32].reshape(-1, 4, 2, 4)  # (pairs of steps, threads, their two steps, four of each)
    order = np.concatenate([twos.transpose(0, 2, 1, 3).ravel(), order[twos.size :]])
    return np.ascontiguousarray(columns[order].reshape(steps, 4, 4, slabs, wide // 8, 8).transpose(3, 4, 0, 5, 1, 2))


def pack_point(weights: Floats, columns: int) -> NDArray[np.float16]:
    """(in, out) as (steps of 16 of K, pairs of eights of columns, 32 lanes, 2 eights, 2 halves of K, 2) fp16."""
    steps = -(-len(weights) // 16)
    ordered = halves(filled(weights, 16 * steps, columns))[:, column_order(columns, 16)]
    parts = ordered.reshape(steps, 2, 4, 2, columns // 16, 2, 8)  # a lane is (column of 8, pair of a half)
    return np.ascontiguousarray(parts.transpose(0, 4, 6, 2, 5, 1, 3))
