"""A 1x1 that widens, a depthwise convolution and a 1x1 that narrows as one launch: `inverted.cu`."""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_longlong, c_void_p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdrt.engines.cuda.launch import PROCESSORS, Builder, DividerStruct, Launch, divider
from ssdrt.engines.cuda.packing import column_order, filled, fragments, rows_of_window
from ssdrt.engines.cuda.plan import Inverted
from ssdrt.engines.cuda.tactics import HIDDEN, NARROW, Tactic


class InvertedStruct(ctypes.Structure):
    """`Inverted` of inverted.cu."""

    _fields_ = (
        *((name, c_void_p) for name in ("source", "weights", "target")),
        *((name, c_longlong) for name in ("source_image", "target_image")),
        *((name, c_int) for name in ("height", "width", "target_height", "target_width")),
        *((name, c_int) for name in ("source_stride", "target_stride", "chunks", "columns", "pad_y", "pad_x", "down")),
        *((name, DividerStruct) for name in ("of_picture", "of_row")),
    )


def inverted(build: Builder, key: str, step: Inverted, tactic: Tactic) -> Launch:
    """All three; tactic.columns pixels of the target are a strip, and its warps are tactic.threads / 32."""
    depthwise, source, target = step.second.depthwise, step.source, step.target
    warps = tactic.threads // 32
    steps = int(tactic.kernel.partition("<")[2].partition(",")[0])
    strips, stride = -(-target.width // tactic.columns), depthwise.strides[0]
    # A wave of pieces takes as long as their rows of the wide map, and about four rows to begin.
    down = min(
        (-(-target.height // pieces) for pieces in range(1, target.height + 1)),
        key=lambda rows: (
            -(-build.batch * strips * -(-target.height // rows) // (PROCESSORS * tactic.resident))
            * (stride * rows + 6 - stride)
        ),
    )
    pieces = -(-target.height // down)
    parameters = InvertedStruct(
        source=build.address(source), target=build.address(target),
        weights=build.constant(f"{key} inverted", lambda: weights(step, steps, warps)),
        source_image=build.image(source), target_image=build.image(target), height=source.height, width=source.width,
        target_height=target.height, target_width=target.width, source_stride=source.stride,
        target_stride=target.stride, chunks=source.channels // 8, columns=target.channels, pad_y=depthwise.pads[0],
        pad_x=depthwise.pads[1], down=down, of_picture=divider(strips * pieces), of_row=divider(strips),
    )  # fmt: skip
    grid = build.batch * strips * pieces
    return Launch("inverted.cu", tactic.kernel, (grid, 1), tactic.threads, parameters, tactic.shared, step=step.name)


def weights(step: Inverted, steps: int, warps: int) -> NDArray[np.uint8]:
    """All of them as `Weights` of inverted.cu."""
    return np.concatenate([one.reshape(-1).view(np.uint8) for one in parts_of(step, steps, warps)])


@np.errstate(over="ignore", invalid="ignore")
def parts_of(step: Inverted, steps: int, warps: int) -> tuple[NDArray[Any], ...]:
    """The weights and biases, one array after the other."""
    hidden, (depthwise, point) = warps * HIDDEN, (step.second.depthwise, step.second.point)
    six = step.first.finish.activation == "relu6"
    scale, unit = (64 / 6, 6) if six else (1, 1)
    wide = filled(step.first.weights[0, 0], NARROW, hidden) * scale
    expand = fragments(wide).reshape(hidden // 8, 32, 2, 4)[:, :, :steps]
    narrow = (filled(point.weights[0, 0], hidden, NARROW) * unit)[:, column_order(NARROW)].astype(np.float16)
    # (steps of K, pairs of tiles, 32 lanes, 2 tiles, 2 halves of K, 2)
    project = narrow.reshape(hidden // 16, 2, 4, 2, 2, 2, 8).transpose(0, 4, 6, 2, 5, 1, 3)
    return (
        rows_of_window(depthwise, hidden, filled(step.first.bias, hidden) * scale, unit),
        np.ascontiguousarray(project),
        np.ascontiguousarray(expand),
        filled(point.bias, NARROW).astype(np.float32),
    )
