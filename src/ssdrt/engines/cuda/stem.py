"""The front of MobileNet v1 as one kernel that reads bytes: which plans begin so, and its weights (kernels/stem.cu)."""

from __future__ import annotations

import ctypes
import itertools
from ctypes import c_int, c_longlong, c_uint, c_void_p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdrt.engines.cuda.launch import PROCESSORS, Builder, DividerStruct, Launch, divider, twice
from ssdrt.engines.cuda.packing import column_order, filled
from ssdrt.engines.cuda.plan import Convolution, Depthwise, Plan, Separable, reads
from ssdrt.model import SsdModel

STEPS = 3  # of a plan that it computes
FILE = "stem.cu"
WARPS, RING = 4, 8  # of a block; rows of pictures that a warp has at hand
SIXTEENS = 2, 4  # of pixels in a strip after the first convolution
CHANNELS = (32, 64, 128)  # after each of the three dense convolutions, at most


class StemStruct(ctypes.Structure):
    """`Stem` of stem.cu."""

    _fields_ = (
        *((name, c_void_p) for name in ("pictures", "weights", "target")),
        ("target_image", c_longlong),
        *((name, c_int) for name in ("units", "height", "width", "columns", "target_stride", "down")),
        ("border", c_uint),
        *((name, DividerStruct) for name in ("of_picture", "of_row")),
    )


def has_stem(plan: Plan, model: SsdModel) -> bool:
    """Whether the first steps are those that the kernel computes, and their values are needed nowhere else."""
    if len(plan.steps) < STEPS:
        return False
    first, one, two = plan.steps[:STEPS]
    if not (isinstance(first, Convolution) and isinstance(one, Separable) and isinstance(two, Separable)):
        return False
    parts: tuple[Convolution | Depthwise, ...] = (first, one.depthwise, one.point, two.depthwise, two.point)
    chained = all(b.source == a.target for a, b in itertools.pairwise(parts)) and first.source == plan.image
    ends = all(p.finish.activation == "relu6" and p.finish.residual is None and p.finish.scale == 1 for p in parts)
    windows = [(p.weights.shape[:2], p.strides, p.pads, p.dilations) for p in parts]
    shrinking = ((3, 3), (2, 2), (0, 0, 1, 1), (1, 1))
    same = ((3, 3), (1, 1), (1, 1, 1, 1), (1, 1))
    point = ((1, 1), (1, 1), (0, 0, 0, 0), (1, 1))
    fits = all(p.target.channels <= most for p, most in zip((first, one.point, two.point), CHANNELS, strict=True))
    size = plan.image.height % 4 == 0 and plan.image.width % 4 == 0
    kept = {view.buffer for step in plan.steps[STEPS:] for view in reads(step)}
    alone = first.target.buffer not in kept and one.target.buffer not in kept
    scale, offset = normalisation(model)
    even = np.ptp(scale) == 0 and np.ptp(offset) == 0 and scale[0] != 0 and abs(-offset[0] / scale[0] - 128) < 2048
    wide = any(has_strips(sixteens, two.target.width) for sixteens in SIXTEENS)
    shaped = chained and ends and fits and windows == [shrinking, same, point, shrinking, point]
    usual = shaped and size and wide and alone and even
    return bool(usual and all(np.isfinite(one).all() for one in parts_of(plan, model)))


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


def stem(build: Builder, model: SsdModel, pictures: int) -> Launch:
    """From a table of pictures, bytes of the network's size, to what the third step makes."""
    plan = build.plan
    *_, last = plan.steps[:STEPS]
    target = last.target
    narrow_first = build.batch <= 4  # too few strips for the whole GPU
    usable = [one for one in SIXTEENS if has_strips(one, target.width)]
    sixteens = usable[0 if narrow_first else -1]
    strips = -(-target.width // across(sixteens))
    at_once = 2 * PROCESSORS * WARPS
    # A wave of pieces takes as long as their rows and the two above them that each begins with.
    down = min(
        (-(-target.height // pieces) for pieces in range(1, target.height + 1)),
        key=lambda rows: -(-build.batch * strips * -(-target.height // rows) // at_once) * (rows + 1.5),
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


def across(sixteens: int) -> int:
    """Pixels of the last map in a strip."""
    return 8 * sixteens - 2


def has_strips(sixteens: int, width: int) -> bool:
    """Whether a map is wide enough, and no strip but the last reaches its border."""
    return width >= across(sixteens) and width % across(sixteens) != 1


def kernel(plan: Plan, sixteens: int) -> tuple[str, str]:
    """File and C++ name, for strips of 16 times so many pixels after the first convolution."""
    return FILE, f"stem<{','.join(str(one // 8) for one in _widths(plan))},{sixteens}>"


def _widths(plan: Plan) -> tuple[int, int, int]:
    """Channels that the kernel computes after each dense convolution: products take 8 or 16, a lane stores 8 of 32."""
    first, one, two = (step.target.channels for step in plan.steps[:STEPS])
    return -(-first // 8) * 8, -(-one // 16) * 16, -(-two // 32) * 32


def weights(plan: Plan, model: SsdModel) -> NDArray[np.uint8]:
    """All of them as `Weights` of stem.cu."""
    return np.concatenate([one.reshape(-1).view(np.uint8) for one in parts_of(plan, model)])


@np.errstate(over="ignore", invalid="ignore")
def parts_of(plan: Plan, model: SsdModel) -> tuple[NDArray[np.floating[Any]], ...]:
    """The weights and biases, one array after the other; infinite where one, multiplied by what the kernel divides by
    later, is too large for fp16 (a 1x1's from 1,024 on)."""
    first, one, two = plan.steps[:STEPS]
    assert isinstance(first, Convolution)
    assert isinstance(one, Separable)
    assert isinstance(two, Separable)
    scale, offset = normalisation(model)
    middle = scale[0] * 128 + offset[0]
    inner, outer, columns = _widths(plan)
    packed = (filled(first.weights[:, :, :3], 3, inner) * (scale[0] * 64 / 6)).astype(np.float16)  # (3, 3, 3, inner)
    bias = filled(first.bias, inner) / 6 + packed.astype(np.float64).sum((0, 1, 2)) / 64 * (middle / scale[0])
    bias1 = filled(one.point.bias, outer) / 6
    last = (filled(two.point.weights[0, 0], outer, columns) * 6)[:, column_order(columns)]
    return (
        fragments(first_rows(packed)),
        rows_of_window(one.depthwise, inner, bias),
        fragments(filled(one.point.weights[0, 0], 32, outer) * 64),
        rows_of_window(two.depthwise, outer, bias1),
        fragments(filled(last, 64, columns)),
        filled(two.point.bias, columns)[column_order(columns)].astype(np.float32),
    )


def weights_size(inner: int, outer: int, columns: int) -> int:
    """Bytes of `Weights` for so many channels after each dense convolution."""
    return 88 * (inner + outer) + 132 * columns


def first_rows(packed: NDArray[np.float16]) -> NDArray[np.float16]:
    """(3, 3, 3, columns) as (32, columns): of a thread t of four first pair t of the three rows, then the last number
    of row t. A row has 9 numbers, three for a pixel."""
    rows = packed.reshape(3, 9, -1)
    flat = np.zeros((32, rows.shape[2]), np.float16)
    for row in range(3):
        flat[8 * row : 8 * row + 8] = rows[row, :8]
        flat[24 + 2 * row] = rows[row, 8]
    return flat


def fragments(values: NDArray[np.floating[Any]]) -> NDArray[np.float16]:
    """(K, columns) as (tiles of 8 columns, pairs of steps of K, 32 lanes, 8) fp16: a lane's two pairs of each step."""
    steps, tiles = len(values) // 16, values.shape[1] // 8
    # a lane is (column of 8, pair of a half)
    ordered = values.astype(np.float16).reshape(steps // 2, 2, 2, 4, 2, tiles, 8).transpose(5, 0, 6, 3, 1, 2, 4)
    return np.ascontiguousarray(ordered)


def rows_of_window(step: Depthwise, channels: int, before: NDArray[np.floating[Any]]) -> NDArray[np.float16]:
    """(tiles of 8 channels, 4 pairs, 3 rows of the window, 4, 2) fp16: three weights, and where the sum starts or, in
    the other rows, the bias of the convolution before."""
    window = filled(step.weights.reshape(3, 3, -1), channels)
    behind = np.stack([filled(step.bias, channels) / 6, before, before])[:, None]
    rows = np.concatenate([window, behind], axis=1).astype(np.float16)  # (3, 4, channels)
    return np.ascontiguousarray(rows.reshape(3, 4, channels // 8, 4, 2).transpose(2, 3, 0, 1, 4))
