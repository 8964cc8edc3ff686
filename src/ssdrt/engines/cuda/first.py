"""The first convolution as a kernel that reads bytes: which plans begin so, and its launch (kernels/first.cu)."""

from __future__ import annotations

import ctypes
from ctypes import c_float, c_int, c_longlong, c_void_p

import numpy as np
from numpy.typing import NDArray

from ssdrt.engines.cuda.launch import PROCESSORS, Builder, DividerStruct, FinishStruct, Launch, divider, finish_struct
from ssdrt.engines.cuda.packing import pack_front
from ssdrt.engines.cuda.plan import Convolution, Plan, reads
from ssdrt.engines.cuda.tactics import is_front, is_plain
from ssdrt.model import SsdModel

FILE = "first.cu"


class FirstStruct(ctypes.Structure):
    """`First` of first.cu."""

    _fields_ = (
        *((name, c_void_p) for name in ("pictures", "weights", "bias", "target")),
        ("target_image", c_longlong),
        *((name, c_int) for name in ("height", "row_bytes", "target_height", "target_width", "target_stride")),
        *((name, c_int) for name in ("columns", "pad_y", "pad_x", "tiles")),
        *((name, c_float * 3) for name in ("factors", "offsets")),
        ("finish", FinishStruct),
        *((name, DividerStruct) for name in ("of_across", "of_image")),
    )


def fits(plan: Plan, model: SsdModel) -> bool:
    """Whether the first step is a convolution that the kernel computes, and nothing else reads the picture."""
    first, *others = plan.steps
    return bool(
        isinstance(first, Convolution)
        and first.source == plan.image
        and is_front(first)
        and first.pads[1] < 4
        and plan.image.width % 4 == 0
        and all(view.buffer != plan.image.buffer for step in others for view in reads(step))
        and line_of(model) is not None
    )


def steps(plan: Plan) -> int:  # noqa: ARG001
    """Of a plan, that it computes."""
    return 1


def kernels(plan: Plan, model: SsdModel) -> list[tuple[str, str]]:
    """File and C++ name of what is launched at any batch."""
    step = _step(plan)
    end = 0 if is_plain(step.finish) else 1 if step.finish.activation == "hard_swish" and step.finish.scale == 1 else 2
    line = line_of(model)
    assert line is not None
    even = "true" if all(np.ptp(one) == 0 for one in line) else "false"
    window = f"{step.weights.shape[0]},{step.weights.shape[1]}"
    return [(FILE, f"first<{window},{_wide(step)},{end},{step.pads[1]},{even}>")]


def launch(build: Builder, model: SsdModel, pictures: int) -> Launch:
    """From a table of pictures, bytes of the network's size, to what the first step makes."""
    step, wide = _step(build.plan), _wide(_step(build.plan))
    source, target = step.source, step.target
    across, down = -(-target.width // 16), -(-target.height // 8)
    tiles = build.batch * across * down
    line = line_of(model)
    assert line is not None
    parameters = FirstStruct(
        pictures=pictures, weights=build.constant(f"first weights {wide}", lambda: pack_front(step.weights, wide)),
        bias=build.constant(f"first bias {wide}", lambda: np.pad(step.bias, (0, wide - len(step.bias)))),
        target=build.address(target), target_image=build.image(target), height=source.height,
        row_bytes=3 * source.width, target_height=target.height, target_width=target.width,
        target_stride=target.stride, columns=target.channels, pad_y=step.pads[0], pad_x=step.pads[1], tiles=tiles,
        factors=(c_float * 3)(*line[0]), offsets=(c_float * 3)(*line[1]), finish=finish_struct(step.finish),
        of_across=divider(across), of_image=divider(across * down),
    )  # fmt: skip
    at_once = resident(step.weights.shape[0], wide) * PROCESSORS
    file, name = kernels(build.plan, model)[0]
    return Launch(file, name, (min(tiles, at_once), 1), 128, parameters, step="first")


def resident(rows: int, columns: int) -> int:
    """Blocks of a multiprocessor."""
    return 3 if rows > 3 or columns > 32 else 8 if columns == 16 else 6


def line_of(model: SsdModel) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """(factors, offsets) of the three channels in float32, if for every byte the two operations give the fp16 number
    that the normalisation gives."""
    factors, offsets = np.ones(3, np.float32), np.zeros(3, np.float32)
    every = np.arange(256, dtype=np.float32)[:, None]
    wanted = np.broadcast_to(every, (256, 3))
    for one in model.preprocessing.normalisation.value:
        by = np.broadcast_to(np.asarray(one.operand, np.float32), 3)
        if one.operation in ("mul", "div"):
            wanted = wanted * by if one.operation == "mul" else wanted / by
            factors, offsets = (part * by if one.operation == "mul" else part / by for part in (factors, offsets))
        else:
            by = by if one.operation == "add" else -by
            wanted, offsets = wanted + by, offsets + by
    with np.errstate(over="ignore", invalid="ignore"):
        found, wanted = ((every * factors + offsets).astype(np.float16), wanted.astype(np.float16))
    same = np.isfinite(found).all() and (found == wanted).all()
    return (factors, offsets) if same else None


def _step(plan: Plan) -> Convolution:
    step = plan.steps[0]
    assert isinstance(step, Convolution)
    return step


def _wide(step: Convolution) -> int:
    """Columns that a block makes."""
    return next(wide for wide in (16, 32, 64) if step.target.channels <= wide)
