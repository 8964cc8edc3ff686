"""The front of MobileNet v1 or v2 as one kernel that reads bytes: which plans begin so, and its weights
(kernels/stem.cu)."""

from __future__ import annotations

import ctypes
import itertools
from ctypes import c_int, c_longlong, c_uint, c_void_p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdrt.engines.cuda.launch import PROCESSORS, Builder, DividerStruct, Launch, divider, twice
from ssdrt.engines.cuda.packing import column_order, filled, fragments, rows_of_window
from ssdrt.engines.cuda.plan import Convolution, Plan, Separable, reads
from ssdrt.model import SsdModel

FILE = "stem.cu"
WARPS, RING = 4, 8  # of a block; rows of pictures that a warp has at hand
SIXTEENS = 2, 4  # of pixels in a strip after the first convolution
CHANNELS = (32, 64, 128)  # after each of the three dense convolutions, at most
CHANNELS_OF_TWO = (32, 32)  # likewise, where there are two


class StemStruct(ctypes.Structure):
    """`Stem` of stem.cu."""

    _fields_ = (
        *((name, c_void_p) for name in ("pictures", "weights", "target")),
        ("target_image", c_longlong),
        *((name, c_int) for name in ("units", "height", "width", "columns", "target_stride", "down")),
        ("border", c_uint),
        *((name, DividerStruct) for name in ("of_picture", "of_row")),
    )


def fits(plan: Plan, model: SsdModel) -> bool:
    """Whether the first steps are those that the kernel computes, and their values are needed nowhere else."""
    size = plan.image.height % 4 == 0 and plan.image.width % 4 == 0
    scale, offset = normalisation(model)
    even = np.ptp(scale) == 0 and np.ptp(offset) == 0 and scale[0] != 0 and abs(-offset[0] / scale[0] - 128) < 2048
    count = steps(plan)
    if not (count and size and even):
        return False
    kept = {view.buffer for step in plan.steps[count:] for view in reads(step)}
    alone = all(step.target.buffer not in kept for step in plan.steps[: count - 1])
    wide = bool(_usable(plan))
    return bool(alone and wide and all(np.isfinite(one).all() for one in parts_of(plan, model)))


SHRINKING = ((3, 3), (2, 2), (0, 0, 1, 1), (1, 1))
SAME = ((3, 3), (1, 1), (1, 1, 1, 1), (1, 1))
POINT = ((1, 1), (1, 1), (0, 0, 0, 0), (1, 1))
"""Window, strides, borders, dilations."""


def steps(plan: Plan) -> int:
    """How many of a plan's first steps the kernel computes, their values aside: as MobileNet v1 begins 3, as v2 2, else
    0."""
    for last, windows, most, end in (
        (3, (SHRINKING, SAME, POINT, SHRINKING, POINT), CHANNELS, "relu6"),
        (2, (SHRINKING, SAME, POINT), CHANNELS_OF_TWO, "none"),
    ):
        first, *others = plan.steps[:last]
        if not isinstance(first, Convolution):
            return 0
        rest = [one for one in others if isinstance(one, Separable)]
        parts = (first, *(part for one in rest for part in (one.depthwise, one.point)))
        ends = [part.finish.activation for part in parts] == ["relu6"] * (2 * last - 2) + [end]
        plain = all(part.finish.residual is None and part.finish.scale == 1 for part in parts)
        chained = all(b.source == a.target for a, b in itertools.pairwise(parts)) and first.source == plan.image
        shaped = tuple((p.weights.shape[:2], p.strides, p.pads, p.dilations) for p in parts) == windows
        dense = (first, *(one.point for one in rest))
        if ends and plain and chained and shaped and all(
            part.target.channels <= limit for part, limit in zip(dense, most, strict=True)
        ):  # fmt: skip
            return last
    return 0


def normalisation(model: SsdModel) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(scale, offset) of the three channels, as all operations together."""
    scale, offset = np.ones(3), np.zeros(3)
    for one in model.preprocessing.normalisation.value:
        by = np.broadcast_to(np.asarray(one.operand, np.float64), 3)
        if one.operation in ("mul", "div"):
            factor = by if one.operation == "mul" else 1 / by
            scale, offset = scale * factor, offset * factor
        else:
            offset = offset + (by if one.operation == "add" else -by)
    return scale, offset


def kernels(plan: Plan, model: SsdModel) -> list[tuple[str, str]]:  # noqa: ARG001
    """File and C++ name of what is launched at one batch or another."""
    return [kernel(plan, sixteens) for sixteens in _usable(plan)]


def launch(build: Builder, model: SsdModel, pictures: int) -> Launch:
    """From a table of pictures, bytes of the network's size, to what the last of the steps makes."""
    plan, two = build.plan, steps(build.plan) == 2
    target = plan.steps[steps(plan) - 1].target
    usable = _usable(plan)
    sixteens = usable[0 if build.batch <= 4 else -1]  # too few strips for the whole GPU
    if two and build.batch > 4:  # the width that computes fewer pixels twice
        sixteens = min(usable, key=lambda one: (-(-target.width // across(one, two)) * one, -one))
    strips = -(-target.width // across(sixteens, two))
    at_once = resident(sixteens, two) * PROCESSORS * WARPS
    # A wave of pieces takes as long as their rows and the two above them that each begins with.
    down = min(
        (-(-target.height // pieces) for pieces in range(1, target.height + 1)),
        key=lambda rows: -(-build.batch * strips * -(-target.height // rows) // at_once) * (rows + (2 if two else 1.5)),
    )
    pieces = -(-target.height // down)
    scale, offset = normalisation(model)
    parameters = StemStruct(
        pictures=pictures, weights=build.constant("stem", lambda: weights(plan, model)), target=build.address(target),
        target_image=build.image(target), units=build.batch * strips * pieces, height=plan.image.height,
        width=plan.image.width, columns=target.channels, target_stride=target.stride,
        down=down, border=twice(-offset[0] / scale[0] - 128),
        of_picture=divider(strips * pieces), of_row=divider(strips),
    )  # fmt: skip
    shared = weights_size(*_widths(plan)) + WARPS * RING * (96 * sixteens + 4)
    blocks = -(-parameters.units // WARPS)
    return Launch(*kernel(plan, sixteens), (blocks, 1), WARPS * 32, parameters, shared, step="stem")


def across(sixteens: int, two: bool = False) -> int:
    """Pixels of the last map in a strip; `two`: as MobileNet v2 begins."""
    return 16 * sixteens - 4 if two else 8 * sixteens - 2


def resident(sixteens: int, two: bool) -> int:
    """Blocks of a multiprocessor."""
    return 2 if not two else 3 if sixteens == 4 else 4


def has_strips(sixteens: int, width: int) -> bool:
    """Whether a map is wide enough, and no strip but the last reaches its border."""
    return width >= across(sixteens) and width % across(sixteens) != 1


def _usable(plan: Plan) -> list[int]:
    """Of SIXTEENS, those for which the last map is wide enough."""
    count = steps(plan)
    width = plan.steps[count - 1].target.width
    if count == 2:  # an even number, and so are strips: none but the last reaches the border
        return [one for one in SIXTEENS if width >= across(one, two=True)]
    return [one for one in SIXTEENS if has_strips(one, width)]


def kernel(plan: Plan, sixteens: int) -> tuple[str, str]:
    """File and C++ name, for strips of 16 times so many pixels after the first convolution."""
    return FILE, f"stem<{','.join(str(one // 8) for one in _widths(plan))},{sixteens}>"


def _widths(plan: Plan) -> tuple[int, int, int]:
    """Channels that the kernel computes after each dense convolution, 0 for one that is not there: products take 8 or
    16, a lane stores 8 of 32 or 4 of 16."""
    count = steps(plan)
    first, *between, last = (step.target.channels for step in plan.steps[:count])
    if not between:
        return -(-first // 8) * 8, 0, 16 if last <= 16 else 32
    return -(-first // 8) * 8, -(-between[0] // 16) * 16, -(-last // 32) * 32


def weights(plan: Plan, model: SsdModel) -> NDArray[np.uint8]:
    """All of them as `Weights` of stem.cu."""
    return np.concatenate([one.reshape(-1).view(np.uint8) for one in parts_of(plan, model)])


@np.errstate(over="ignore", invalid="ignore")
def parts_of(plan: Plan, model: SsdModel) -> tuple[NDArray[np.floating[Any]], ...]:
    """The weights and biases, one array after the other; infinite where one, multiplied by what the kernel divides by
    later, is too large for fp16 (a 1x1's from 1,024 on)."""
    first, one, *others = plan.steps[: steps(plan)]
    assert isinstance(first, Convolution)
    assert isinstance(one, Separable)
    scale, offset = normalisation(model)
    middle = scale[0] * 128 + offset[0]
    inner, outer, columns = _widths(plan)
    packed = (filled(first.weights[:, :, :3], 3, inner) * (scale[0] * 64 / 6)).astype(np.float16)  # (3, 3, 3, inner)
    bias = filled(first.bias, inner) / 6 + packed.astype(np.float64).sum((0, 1, 2)) / 64 * (middle / scale[0])
    begin = (fragments(first_rows(packed)), rows_of_window(one.depthwise, inner, bias))
    order = column_order(columns, min(columns, 32))

    def end(point: Convolution, channels: int) -> tuple[NDArray[np.floating[Any]], ...]:
        weights = (filled(point.weights[0, 0], channels, columns) * 6)[:, order]
        return fragments(weights), filled(point.bias, columns)[order].astype(np.float32)

    if not others:
        return (*begin, *end(one.point, 32))
    two = others[0]
    assert isinstance(two, Separable)
    bias1 = filled(one.point.bias, outer) / 6
    return (
        *begin,
        fragments(filled(one.point.weights[0, 0], 32, outer) * 64),
        rows_of_window(two.depthwise, outer, bias1),
        *end(two.point, 64),
    )


def weights_size(inner: int, outer: int, columns: int) -> int:
    """Bytes of `Weights` for so many channels after each dense convolution."""
    return 88 * (inner + outer) + (132 if outer else 68) * columns


def first_rows(packed: NDArray[np.float16]) -> NDArray[np.float16]:
    """(3, 3, 3, columns) as (32, columns): of a thread t of four first pair t of the three rows, then the last number
    of row t. A row has 9 numbers, three for a pixel."""
    rows = packed.reshape(3, 9, -1)
    flat = np.zeros((32, rows.shape[2]), np.float16)
    for row in range(3):
        flat[8 * row : 8 * row + 8] = rows[row, :8]
        flat[24 + 2 * row] = rows[row, 8]
    return flat
