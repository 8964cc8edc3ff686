"""What a model's layers cost: output shapes, parameters and multiply-adds, one function a layer kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ssdrt.errors import ModelError
from ssdrt.model import (
    IMAGE,
    Activation,
    Add,
    Affine,
    AvgPool,
    Clip,
    Concat,
    Conv,
    Crop,
    DepthwiseConv,
    FakeQuantize,
    GlobalAvgPool,
    Layer,
    MaxPool,
    Mul,
    Pad,
    Pads,
    Pair,
    Resize,
    SsdModel,
)

Shape = tuple[int, int, int]  # height, width, channels


@dataclass(frozen=True)
class LayerCost:
    """One layer's output shape (height, width, channels), numbers held as weights, and multiply-adds a picture."""

    name: str
    kind: str
    shape: Shape
    parameters: int
    multiply_adds: int


def layer_costs(model: SsdModel) -> list[LayerCost]:
    """The cost of every layer, in the order in which they run.

    Multiply-adds are those of convolutions and `Affine` layers; all else is counted as nothing, as is the custom. One
    multiply-add is two FLOP.

    Raises
    ------
    ModelError: nobody has said what this kind of layer costs.
    """
    shapes: dict[str, Shape] = {IMAGE: (*model.input_size, 3)}
    costs = []
    for layer in model.layers:
        kind = type(layer)
        if kind not in KINDS:
            raise ModelError(f"no cost of {kind.__name__} layers: add a function to statistics.py", node=layer.name)
        shape, multiply_adds = KINDS[kind](layer, *(shapes[name] for name in layer.inputs))
        shapes[layer.name] = shape
        costs.append(LayerCost(layer.name, kind.__name__, shape, _parameters(layer), multiply_adds))
    return costs


def _parameters(layer: Layer) -> int:
    return sum(value.size for value in vars(layer).values() if isinstance(value, np.ndarray))


def conv(layer: Conv, shape: Shape) -> tuple[Shape, int]:
    """Every output value reads a window of all input channels."""
    kernel_height, kernel_width, _, channels_out = layer.weights.shape
    height, width = _windows(shape, (kernel_height, kernel_width), layer.strides, layer.pads, layer.dilations)
    return (height, width, channels_out), height * width * layer.weights.size


def depthwise_conv(layer: DepthwiseConv, shape: Shape) -> tuple[Shape, int]:
    """Every output value reads a window of one input channel."""
    kernel_height, kernel_width, channels, multiplier = layer.weights.shape
    height, width = _windows(shape, (kernel_height, kernel_width), layer.strides, layer.pads, layer.dilations)
    return (height, width, channels * multiplier), height * width * layer.weights.size


def affine(layer: Affine, shape: Shape) -> tuple[Shape, int]:  # noqa: ARG001
    """One multiply-add a value."""
    return shape, shape[0] * shape[1] * shape[2]


def elementwise(layer: Activation | Clip | FakeQuantize, shape: Shape) -> tuple[Shape, int]:  # noqa: ARG001
    """The shape stays."""
    return shape, 0


def pairwise(layer: Add | Mul, a: Shape, b: Shape) -> tuple[Shape, int]:  # noqa: ARG001
    """One of the two may be (1, 1, c)."""
    return max(a, b), 0


def concat(layer: Concat, *shapes: Shape) -> tuple[Shape, int]:  # noqa: ARG001
    """Channels add up."""
    height, width, _ = shapes[0]
    return (height, width, sum(shape[2] for shape in shapes)), 0


def pool(layer: MaxPool | AvgPool, shape: Shape) -> tuple[Shape, int]:
    """Channels stay."""
    height, width = _windows(shape, layer.window, layer.strides, layer.pads)
    return (height, width, shape[2]), 0


def global_avg_pool(layer: GlobalAvgPool, shape: Shape) -> tuple[Shape, int]:  # noqa: ARG001
    """One value a channel."""
    return (1, 1, shape[2]), 0


def resize(layer: Resize | Crop, shape: Shape) -> tuple[Shape, int]:
    """The layer says its size."""
    return (layer.height, layer.width, shape[2]), 0


def pad(layer: Pad, shape: Shape) -> tuple[Shape, int]:
    """Grows by its borders."""
    top, left, bottom, right = layer.pads
    return (shape[0] + top + bottom, shape[1] + left + right, shape[2]), 0


KINDS: dict[type, Callable[..., tuple[Shape, int]]] = {
    Activation: elementwise,
    Add: pairwise,
    Affine: affine,
    AvgPool: pool,
    Clip: elementwise,
    Concat: concat,
    Conv: conv,
    Crop: resize,
    DepthwiseConv: depthwise_conv,
    FakeQuantize: elementwise,
    GlobalAvgPool: global_avg_pool,
    MaxPool: pool,
    Mul: pairwise,
    Pad: pad,
    Resize: resize,
}
"""Layer kind -> its output's shape and its multiply-adds, from the shapes of its inputs."""


def _windows(shape: Shape, window: Pair, strides: Pair, pads: Pads, dilations: Pair = (1, 1)) -> Pair:
    """How many windows fit, along the rows and along the columns."""
    height = shape[0] + pads[0] + pads[2] - (window[0] - 1) * dilations[0] - 1
    width = shape[1] + pads[1] + pads[3] - (window[1] - 1) * dilations[1] - 1
    return height // strides[0] + 1, width // strides[1] + 1
