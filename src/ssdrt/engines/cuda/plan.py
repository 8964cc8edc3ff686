"""A `Plan`: the steps that run a network on a GPU, and where each of them reads and writes. Plain data.

Activations are fp16, NHWC, and the channels of a pixel fill up to a multiple of 8 (16 bytes, one load). Weights and
biases of the steps are float32 and already spread to those physical channels, rows of padding being zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ssdrt.model import Floats, Pads, Pair

ALIGNMENT = 8
"""Channels of one 16-byte access."""


def padded(channels: int) -> int:
    """`channels` filled up to whole 16-byte accesses."""
    return -(-channels // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class View:
    """Where a value stands. Its element (y, x, c) of picture n is at
    n * size of the buffer + offset + (y * width + x) * stride + c, all in elements."""

    buffer: int
    height: int
    width: int
    channels: int  # physical: a multiple of 8
    stride: int
    offset: int = 0


@dataclass(frozen=True)
class Value:
    """A value of the model: its view, and at which physical channel of it each logical one stands."""

    view: View
    positions: NDArray[np.int64] = field(repr=False)

    @property
    def is_compact(self) -> bool:
        """Whether the logical channels come first and in order."""
        return bool((self.positions == np.arange(len(self.positions))).all())


@dataclass(frozen=True)
class Finish:
    """What happens to a sum before it is stored: + residual, then the activation, then * scale.

    upsampling: each pixel of the residual serves that many rows and columns (1: the same size; 2: nearest, doubled).
    """

    activation: str = "none"
    residual: View | None = None
    upsampling: int = 1
    scale: float = 1.0


@dataclass(frozen=True)
class Convolution:
    """A dense convolution: weights (kh, kw, physical in, physical out), bias (physical out,)."""

    name: str
    source: View
    target: View
    weights: Floats = field(repr=False)
    bias: Floats = field(repr=False)
    strides: Pair
    pads: Pads
    dilations: Pair
    finish: Finish


@dataclass(frozen=True)
class Depthwise:
    """A depthwise convolution of multiplier 1: weights (kh, kw, physical channels), bias (physical channels,)."""

    name: str
    source: View
    target: View
    weights: Floats = field(repr=False)
    bias: Floats = field(repr=False)
    strides: Pair
    pads: Pads
    dilations: Pair
    finish: Finish


@dataclass(frozen=True)
class Pool:
    """Largest or mean of each window, padding never counting."""

    name: str
    source: View
    target: View
    kind: Literal["max", "average"]
    window: Pair
    strides: Pair
    pads: Pads


@dataclass(frozen=True)
class GlobalPool:
    """Mean over rows and columns."""

    name: str
    source: View
    target: View


@dataclass(frozen=True)
class Enlarge:
    """`model.Resize` of a value."""

    name: str
    source: View
    target: View
    method: Literal["nearest", "bilinear"]
    align_corners: bool
    half_pixel_centers: bool


@dataclass(frozen=True)
class Elementwise:
    """One operation a channel: target(y, x, c) = operation of source(y + top, x + left, sources[c]), `fill` outside.

    operation: "copy"; "affine", * first + second by channel; "clip", into first..second; "quantize" (first: minimum,
    second: maximum, third: step); "add" or "mul" with `other`, whose size is the target's or 1 x 1; or an activation.
    sources: the physical channel of `source` for each of the target's; -1 stores zero.
    """

    name: str
    source: View
    target: View
    operation: str
    sources: NDArray[np.int32] = field(repr=False)
    other: View | None = None
    other_sources: NDArray[np.int32] | None = field(default=None, repr=False)
    top: int = 0
    left: int = 0
    fill: float = 0.0
    first: Floats | None = field(default=None, repr=False)  # (target channels,) or one number
    second: Floats | None = field(default=None, repr=False)
    third: float = 0.0


@dataclass(frozen=True)
class Separable:
    """A depthwise convolution and the 1x1 behind it: one kernel, or two with the value between them in its view."""

    name: str
    depthwise: Depthwise
    point: Convolution

    @property
    def source(self) -> View:
        """What the depthwise one reads."""
        return self.depthwise.source

    @property
    def target(self) -> View:
        """What the 1x1 writes."""
        return self.point.target


@dataclass(frozen=True)
class Several:
    """Steps one after the other: as one kernel, or each by itself."""

    name: str

    @property
    def parts(self) -> tuple[Step, ...]:
        """The steps."""
        raise NotImplementedError

    @property
    def source(self) -> View:
        """What the first one reads."""
        return self.parts[0].source

    @property
    def target(self) -> View:
        """What the last one writes."""
        return self.parts[-1].target


@dataclass(frozen=True)
class TwoSteps(Several):
    """Two steps, of which the second alone reads the first."""

    first: Separable | Convolution
    second: Separable

    @property
    def parts(self) -> tuple[Step, ...]:
        """Both."""
        return self.first, self.second


@dataclass(frozen=True)
class Chain(TwoSteps):
    """A `Separable` and another of stride 2 that alone reads it: one kernel as far as the second depthwise convolution,
    and the last 1x1; or the two by themselves."""

    first: Separable


@dataclass(frozen=True)
class Inverted(TwoSteps):
    """A 1x1 that widens and the `Separable` that alone reads it, an inverted residual of MobileNet v2: one kernel, or
    the two by themselves."""

    first: Convolution


@dataclass(frozen=True)
class Squeezed(Several):
    """A depthwise convolution and the mean of what it makes, both of which others read; before them, if it is there, a
    1x1 that widens, which nothing else reads."""

    expand: Convolution | None
    depthwise: Depthwise
    pool: GlobalPool

    @property
    def parts(self) -> tuple[Step, ...]:
        """All that are there."""
        return (*((self.expand,) if self.expand else ()), self.depthwise, self.pool)


@dataclass(frozen=True)
class Excited(Several):
    """What follows a mean in squeeze-excite: two products, the map times what they make, a 1x1."""

    squeeze: Convolution
    excite: Convolution
    scale: Elementwise
    point: Convolution

    @property
    def parts(self) -> tuple[Step, ...]:
        """All four."""
        return self.squeeze, self.excite, self.scale, self.point


Fused: TypeAlias = Separable | Chain | Inverted | Squeezed | Excited
Step: TypeAlias = Convolution | Depthwise | Fused | Pool | GlobalPool | Enlarge | Elementwise


@dataclass(frozen=True)
class HeadLayout:
    """Where predictions stand: logit k of anchor a at a * row + k, its box code at a * box_row + box_offset.

    When every map's boxes and logits come from one product, both share a row and a buffer; else each has its own.
    """

    anchors: int
    columns: int  # logits of an anchor that are kept
    row: int
    box_row: int
    box_offset: int
    logits_buffer: int
    boxes_buffer: int


@dataclass(frozen=True)
class Plan:
    """buffers: elements a picture of each; slots: elements a picture of each piece of memory, and `slot_of` each
    buffer. Buffers share a slot when they are never needed at once."""

    image: View
    steps: tuple[Step, ...]
    head: HeadLayout
    buffers: tuple[int, ...]
    slots: tuple[int, ...]
    slot_of: tuple[int, ...]


def key_of(key: str, index: int) -> str:
    """The key of a part of `Several`, whose own is `key`."""
    return f"{key} {('first', 'second', 'third', 'fourth')[index]}"


def reads(step: Step) -> list[View]:
    """The views that a step reads."""
    if isinstance(step, Several):
        own = {part.target for part in step.parts}
        return [view for part in step.parts for view in reads(part) if view not in own]
    if isinstance(step, Separable):
        return [step.source, *reads(step.point)[1:]]
    found = [step.source]
    if isinstance(step, (Convolution, Depthwise)) and step.finish.residual is not None:
        found.append(step.finish.residual)
    if isinstance(step, Elementwise) and step.other is not None:
        found.append(step.other)
    return found


def between(step: Step) -> list[View]:
    """The views that a step's parts write, but the last's."""
    if isinstance(step, Several):
        *first, last = step.parts
        return [*(view for part in first for view in (*between(part), part.target)), *between(last)]
    return [step.depthwise.target] if isinstance(step, Separable) else []


def channel_sources(value: Value, channels: int) -> NDArray[np.int32]:
    """`Elementwise.sources` that bring a value's logical channels to the front, in order."""
    sources = np.full(channels, -1, np.int32)
    sources[: len(value.positions)] = value.positions
    return sources
