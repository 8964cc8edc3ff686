"""The front of MobileNet v1 as one kernel that reads bytes: which plans begin so, and its weights (kernels/stem.cu)."""

from __future__ import annotations

import ctypes
import itertools
from ctypes import c_int, c_longlong, c_uint, c_void_p

import numpy as np
from numpy.typing import NDArray

from ssdrt.engines.cuda.launch import Builder, DividerStruct, Launch, divider
from ssdrt.engines.cuda.packing import column_order
from ssdrt.engines.cuda.plan import Convolution, Depthwise, Plan, Separable
from ssdrt.model import Floats, SsdModel

STEPS = 3  # of a plan that it computes
ACROSS, DOWN = 15, 5  # pixels of a tile
SHARED = 45056 + 30464 + 4096 + 16384 + 576 + 64 + 1152 + 128 + 256 + 512
CHANNELS = (32, 64, 128)  # after each of the three dense convolutions
KERNEL = ("stem.cu", "stem")


class StemStruct(ctypes.Structure):
    """`Stem` of stem.cu."""

    _fields_ = (
        *((name, c_void_p) for name in ("pictures", "target", "first", "point1", "point2")),
        *(
            (name, c_void_p)
            for name in ("depthwise1", "start1", "depthwise2", "start2", "first_bias", "bias1", "bias2")
        ),
        ("target_image", c_longlong),
        *((name, c_int) for name in ("tiles", "height", "width", "columns", "target_stride")),
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
    kept = {view.buffer for step in plan.steps[STEPS:] for view in [step.source]}
    alone = first.target.buffer not in kept and one.target.buffer not in kept
    scale, offset = normalisation(model)
    even = np.ptp(scale) == 0 and np.ptp(offset) == 0 and scale[0] != 0 and abs(-offset[0] / scale[0] - 128) < 2048
    return bool(
        chained and ends and fits and size and alone and even and windows == [shrinking, same, point, shrinking, point]
    )


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
    first, one, two = plan.steps[:STEPS]
    assert isinstance(first, Convolution)
    assert isinstance(one, Separable)
    assert isinstance(two, Separable)
    target = two.target
    across, down = -(-target.width // ACROSS), -(-target.height // DOWN)
    scale, offset = normalisation(model)
    middle = scale[0] * 128 + offset[0]
    packed = (filled(first.weights[:, :, :3], 3, 32) * scale[0]).astype(np.float16)  # (3, 3, 3, 32)
    bias = filled(first.bias, 32) + packed.astype(np.float64).sum((0, 1, 2)) * (middle / scale[0])
    arrays = {
        "first": lambda: first_fragments(packed),
        "point1": lambda: point_fragments(filled(one.point.weights[0, 0], 32, 64), natural=False),
        "point2": lambda: point_fragments(filled(two.point.weights[0, 0], 64, 128), natural=True),
        "depthwise1": lambda: filled(one.depthwise.weights.reshape(9, -1), 9, 32).astype(np.float16),
        "start1": lambda: filled(one.depthwise.bias, 32).astype(np.float16),
        "depthwise2": lambda: filled(two.depthwise.weights.reshape(9, -1), 9, 64).astype(np.float16),
        "start2": lambda: filled(two.depthwise.bias, 64).astype(np.float16),
        "first_bias": lambda: bias.astype(np.float32),
        "bias1": lambda: filled(one.point.bias, 64),
        "bias2": lambda: filled(two.point.bias, 128),
    }
    parameters = StemStruct(
        pictures=pictures, target=build.address(target), target_image=build.image(target),
        tiles=build.batch * across * down, height=plan.image.height, width=plan.image.width, columns=target.channels,
        target_stride=target.stride, border=int(np.float16(-offset[0] / scale[0] - 128).view(np.uint16)) * 0x10001,
        of_picture=divider(across * down), of_row=divider(across),
        **{name: build.constant(f"stem {name}", make) for name, make in arrays.items()},
    )  # fmt: skip
    return Launch(*KERNEL, (min(parameters.tiles, 2 * 132), 1), 256, parameters, SHARED, step="stem")


def filled(values: Floats, *sizes: int) -> Floats:
    """Cut or filled up with zeros along the last axes."""
    before = values.ndim - len(sizes)
    window = (slice(None),) * before + tuple(slice(size) for size in sizes)
    cut = values[window]
    widths = [(0, 0)] * before + [(0, size - have) for size, have in zip(sizes, cut.shape[before:], strict=True)]
    return np.pad(cut, widths)


def first_fragments(weights: NDArray[np.float16]) -> NDArray[np.float16]:
    """(3, 3, 3, 32) as (4 tiles of 8 columns, 32 lanes, 8): K is row * 10 + column * 3 + channel, 30 of 32 used."""
    flat = np.zeros((32, 32), np.float16)
    for row in range(3):
        flat[row * 10 : row * 10 + 9] = weights[row].reshape(9, 32)
    tile, lane, place = np.ogrid[:4, :32, :8]
    column = column_order(32)[tile * 8 + lane // 4]
    fragments: NDArray[np.float16] = flat[place // 4 * 16 + place % 4 // 2 * 8 + 2 * (lane % 4) + place % 2, column]
    return fragments


def point_fragments(weights: Floats, natural: bool) -> NDArray[np.float16]:
    """(in, out) as (tiles of 8 columns, pairs of K steps, 32 lanes, 8). natural: K as ldmatrix deals it out; else every
    lane has 8 neighbouring channels."""
    channels, columns = weights.shape
    tile, pair, lane, place = np.ogrid[: columns // 8, : channels // 32, :32, :8]
    column = column_order(columns)[tile * 8 + lane // 4]
    inner = (
        place // 4 * 16 + place % 4 // 2 * 8 + 2 * (lane % 4) + place % 2
        if natural
        else 8 * (lane % 4) + place // 4 * 4 + place % 4
    )
    fragments: NDArray[np.float16] = weights[pair * 32 + inner, column].astype(np.float16)
    return fragments
