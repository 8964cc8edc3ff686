"""A `Plan` run by numpy: what the kernels must compute, element for element, in the same memory.

It holds the planner to its word on machines without a GPU, and kernels to it on machines with one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdrt.engines import reference
from ssdrt.engines.cuda.plan import (
    Convolution,
    Depthwise,
    Elementwise,
    Enlarge,
    Finish,
    GlobalPool,
    Plan,
    Pool,
    Separable,
    Several,
    Step,
    View,
)
from ssdrt.model import Activation, AvgPool, Conv, DepthwiseConv, Floats, MaxPool, Resize

ACTIVATIONS = ("relu", "relu6", "sigmoid", "hard_sigmoid", "hard_swish", "swish")


class Memory:
    """The slots of a plan for a batch, filled with NaN: what is read before it is written shows."""

    def __init__(self, plan: Plan, batch: int, dtype: type[np.floating[Any]] = np.float32) -> None:
        self._plan = plan
        self._slots = [np.full((batch, size), np.nan, dtype) for size in plan.slots]

    def view(self, view: View) -> NDArray[Any]:
        """(batch, height, width, channels) of a view, not a copy."""
        slot = self._slots[self._plan.slot_of[view.buffer]]
        item = slot.itemsize
        picture = self._plan.buffers[view.buffer]
        # Pictures of a buffer follow each other without a gap, as on the GPU.
        flat = slot.reshape(-1)[view.offset :]
        shape = (len(slot), view.height, view.width, view.channels)
        strides = (picture * item, view.width * view.stride * item, view.stride * item, item)
        return np.lib.stride_tricks.as_strided(flat, shape, strides)

    def rows(self, buffer: int, anchors: int, row: int) -> NDArray[Any]:
        """(batch, anchors, row) of a head buffer."""
        slot = self._slots[self._plan.slot_of[buffer]]
        return slot.reshape(-1)[: len(slot) * anchors * row].reshape(len(slot), anchors, row)


def run_plan(plan: Plan, image: Floats, dtype: type[np.floating[Any]] = np.float32) -> tuple[Floats, Floats]:
    """Box codes (b, n, 4) and logits (b, n, columns) of normalised pictures (b, height, width, 3), values stored as
    `dtype` between the steps."""
    memory = Memory(plan, len(image), dtype)
    target = memory.view(plan.image)
    target[...] = 0
    target[..., :3] = image
    for step in plan.steps:
        run_step(step, memory)
    head = plan.head
    logits = memory.rows(head.logits_buffer, head.anchors, head.row)[..., : head.columns]
    boxes = memory.rows(head.boxes_buffer, head.anchors, head.box_row)[..., head.box_offset : head.box_offset + 4]
    return boxes.astype(np.float32), logits.astype(np.float32)


def run_step(step: Step, memory: Memory) -> None:
    """One step, from its views to its view."""
    if isinstance(step, Several):
        for part in step.parts:
            run_step(part, memory)
        return
    if isinstance(step, Separable):
        run_step(step.depthwise, memory)
        run_step(step.point, memory)
        return
    source = memory.view(step.source).astype(np.float32)
    with np.errstate(over="ignore"):
        memory.view(step.target)[...] = _computed(step, source, memory)


def _computed(step: Step, x: Floats, memory: Memory) -> Floats:
    if isinstance(step, Convolution):
        conv = Conv("", ("",), step.weights, step.bias, step.strides, step.pads, step.dilations)
        return _finished(reference.conv(conv, x), step.finish, memory)
    if isinstance(step, Depthwise):
        weights = step.weights[..., None]
        separate = DepthwiseConv("", ("",), weights, step.bias, step.strides, step.pads, step.dilations)
        return _finished(reference.depthwise_conv(separate, x), step.finish, memory)
    if isinstance(step, Pool) and step.kind == "max":
        return reference.max_pool(MaxPool("", ("",), step.window, step.strides, step.pads), x)
    if isinstance(step, Pool):
        return reference.avg_pool(AvgPool("", ("",), step.window, step.strides, step.pads), x)
    if isinstance(step, GlobalPool):
        mean: Floats = x.mean((1, 2), keepdims=True)
        return mean
    if isinstance(step, Enlarge):
        size = (step.target.height, step.target.width)
        return reference.resize(Resize("", ("",), *size, step.method, step.align_corners, step.half_pixel_centers), x)
    assert isinstance(step, Elementwise)
    return _elementwise(step, x, memory)


def _finished(total: Floats, finish: Finish, memory: Memory) -> Floats:
    if finish.residual is not None:
        residual = memory.view(finish.residual).astype(np.float32)
        total = total + residual.repeat(finish.upsampling, 1).repeat(finish.upsampling, 2)
    if finish.activation != "none":
        total = reference.activation(Activation("", ("",), finish.activation), total)  # type: ignore[arg-type]
    scaled: Floats = total * np.float32(finish.scale)
    return scaled


def _elementwise(step: Elementwise, x: Floats, memory: Memory) -> Floats:
    target = step.target
    window = np.full((len(x), target.height, target.width, x.shape[3]), step.fill, np.float32)
    rows = np.arange(target.height) + step.top
    columns = np.arange(target.width) + step.left
    inside_y, inside_x = (rows >= 0) & (rows < x.shape[1]), (columns >= 0) & (columns < x.shape[2])
    window[:, np.ix_(inside_y, inside_x)[0], np.ix_(inside_y, inside_x)[1]] = x[
        :, rows[inside_y][:, None], columns[inside_x]
    ]
    value = _operated(step, window[..., step.sources], memory)
    return np.where(step.sources >= 0, value, np.float32(0))


def _operated(step: Elementwise, x: Floats, memory: Memory) -> Floats:
    if step.operation in ("add", "mul"):
        assert step.other is not None
        other = memory.view(step.other).astype(np.float32)[..., step.other_sources]
        return x + other if step.operation == "add" else x * other
    if step.operation in ACTIVATIONS:
        return reference.activation(Activation("", ("",), step.operation), x)  # type: ignore[arg-type]
    if step.operation == "affine":
        assert step.first is not None
        assert step.second is not None
        return x * step.first + step.second
    if step.operation == "clip":
        return np.clip(x, step.first, step.second)
    if step.operation == "quantize":
        assert step.first is not None
        low, width, half = step.first[0], np.float32(step.third), np.float32(0.5)
        zero = np.floor(-low / width + half)
        quantized: Floats = np.floor((np.clip(x, low, step.second) - low) / width - zero + half) * width
        return quantized
    return x
