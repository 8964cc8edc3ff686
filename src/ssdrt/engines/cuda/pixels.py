"""Launches of what has no weights: pools, resizing, one operation on every element (`pixels.cu`)."""

from __future__ import annotations

import ctypes
from ctypes import c_float, c_int, c_longlong, c_void_p

import numpy as np
from numpy.typing import NDArray

from ssdrt.engines.cuda.launch import Builder, DividerStruct, Launch, divider
from ssdrt.engines.cuda.plan import Elementwise, Enlarge, GlobalPool, Pool
from ssdrt.engines.cuda.tactics import Tactic, is_in_place, pool_chunks

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
    """A global pool: up to 64 channels of a picture a block."""
    grid = (-(-step.target.channels // (8 * pool_chunks(step.target.channels))), build.batch)
    return Launch("pixels.cu", tactic.kernel, grid, 512, _pixels(build, step), step=step.name)


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
    a_block = 512 if tactic.kernel == "scaled" else 128
    return Launch("pixels.cu", tactic.kernel, (-(-parameters.work // a_block), 1), 128, parameters, step=step.name)


def _channels(build: Builder, key: str, sources: NDArray[np.int32]) -> int | None:
    """Address of a channel table; None where every channel is its own source, or comes from padding, which is zero."""
    return None if is_in_place(sources) else build.constant(key, lambda: sources)
