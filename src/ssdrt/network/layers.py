"""Layers as ONNX nodes: one function a layer kind. Values are NCHW, of the type of `graph.floats`, and named as
the layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ssdrt.errors import ModelError
from ssdrt.model import (
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
    Floats,
    GlobalAvgPool,
    Layer,
    MaxPool,
    Mul,
    Pad,
    Resize,
)
from ssdrt.network.int8 import whole_weights
from ssdrt.network.onnx_file import OnnxGraph, Operand

Inputs = tuple[str, ...]


def write_layer(graph: OnnxGraph, layer: Layer, inputs: Inputs) -> None:
    """Add the nodes that compute a layer from the values `inputs`.

    Raises
    ------
    ModelError: nobody has said how this kind of layer is written in ONNX.
    """
    kind = type(layer)
    if kind not in KINDS:
        raise ModelError(f"no ONNX for {kind.__name__} layers: add a function to network/layers.py", node=layer.name)
    graph.scope = layer.name
    KINDS[kind](graph, layer, inputs)


def conv(graph: OnnxGraph, layer: Conv, inputs: Inputs) -> None:
    """Weights (kh, kw, in, out) become (out, in, kh, kw)."""
    _convolution(graph, layer, inputs, lambda weights: weights.transpose(3, 2, 0, 1), 1)


def depthwise_conv(graph: OnnxGraph, layer: DepthwiseConv, inputs: Inputs) -> None:
    """Weights (kh, kw, channels, multiplier) become (channels * multiplier, 1, kh, kw), in `channels` groups."""
    height, width, channels, multiplier = layer.weights.shape
    shape = (channels * multiplier, 1, height, width)
    _convolution(graph, layer, inputs, lambda weights: weights.transpose(2, 3, 0, 1).reshape(shape), channels)


def _convolution(
    graph: OnnxGraph, layer: Conv | DepthwiseConv, inputs: Inputs, turn: Callable[[Any], Any], group: int
) -> None:
    """In int8, where the value that it reads has a scale."""
    (value,) = inputs
    weights: Operand = turn(layer.weights)
    scale = graph.scales.get(layer.inputs[0])
    if scale is not None:
        step, zero = np.array(scale, np.float32), np.array(0, np.int8)
        value = graph("DequantizeLinear", graph("QuantizeLinear", value, step, zero), step, zero)
        whole, steps = whole_weights(layer)
        weights = graph("DequantizeLinear", turn(whole), steps.reshape(-1), np.zeros(steps.size, np.int8), axis=0)
    graph(
        "Conv",
        value,
        weights,
        layer.bias,
        name=layer.name,
        kernel_shape=layer.weights.shape[:2],
        strides=layer.strides,
        pads=layer.pads,
        dilations=layer.dilations,
        group=group,
    )


def activation(graph: OnnxGraph, layer: Activation, inputs: Inputs) -> None:
    """hard_sigmoid and hard_swish in the order of TensorFlow's graphs: relu6(x + 3), times x, times 1/6."""
    (x,) = inputs
    if layer.function == "relu":
        graph("Relu", x, name=layer.name)
    elif layer.function == "relu6":
        graph("Clip", x, 0, 6, name=layer.name)
    elif layer.function == "sigmoid":
        graph("Sigmoid", x, name=layer.name)
    elif layer.function == "swish":
        graph("Mul", x, graph("Sigmoid", x), name=layer.name)
    else:
        gate = graph("Clip", graph("Add", x, 3), 0, 6)
        graph("Mul", graph("Mul", x, gate) if layer.function == "hard_swish" else gate, 1 / 6, name=layer.name)


def affine(graph: OnnxGraph, layer: Affine, inputs: Inputs) -> None:
    """x * scale + offset."""
    graph("Add", graph("Mul", *inputs, _per_channel(layer.scale)), _per_channel(layer.offset), name=layer.name)


def add(graph: OnnxGraph, layer: Add, inputs: Inputs) -> None:
    """ONNX broadcasts (n, c, 1, 1) as we need it."""
    graph("Add", *inputs, name=layer.name)


def mul(graph: OnnxGraph, layer: Mul, inputs: Inputs) -> None:
    """ONNX broadcasts (n, c, 1, 1) as we need it."""
    graph("Mul", *inputs, name=layer.name)


def concat(graph: OnnxGraph, layer: Concat, inputs: Inputs) -> None:
    """Along the channels."""
    graph("Concat", *inputs, name=layer.name, axis=1)


def max_pool(graph: OnnxGraph, layer: MaxPool, inputs: Inputs) -> None:
    """ONNX pads with minus infinity."""
    graph("MaxPool", *inputs, name=layer.name, kernel_shape=layer.window, strides=layer.strides, pads=layer.pads)


def avg_pool(graph: OnnxGraph, layer: AvgPool, inputs: Inputs) -> None:
    """ONNX leaves padding out of the mean unless told otherwise."""
    graph("AveragePool", *inputs, name=layer.name, kernel_shape=layer.window, strides=layer.strides, pads=layer.pads)


def global_avg_pool(graph: OnnxGraph, layer: GlobalAvgPool, inputs: Inputs) -> None:
    """(n, c, 1, 1)."""
    graph("GlobalAveragePool", *inputs, name=layer.name)


def resize(graph: OnnxGraph, layer: Resize, inputs: Inputs) -> None:
    """To exact sizes (a scale would round); batch and channels are those of the input.

    Nearest with half_pixel_centers or align_corners rounds half up, plain nearest rounds down (TensorFlow's
    core/kernels/image/resize_nearest_neighbor_op.cc).
    """
    grid = "align_corners" if layer.align_corners else "half_pixel" if layer.half_pixel_centers else "asymmetric"
    kept = graph("Slice", graph("Shape", *inputs), (0,), (2,))
    left_out = np.zeros(0, np.float32)  # roi and scales, which opset 11 requires
    graph(
        "Resize",
        *inputs,
        left_out,
        left_out,
        graph("Concat", kept, (layer.height, layer.width), axis=0),
        name=layer.name,
        mode={"nearest": "nearest", "bilinear": "linear"}[layer.method],
        coordinate_transformation_mode=grid,
        nearest_mode="floor" if grid == "asymmetric" else "round_prefer_ceil",
    )


def pad(graph: OnnxGraph, layer: Pad, inputs: Inputs) -> None:
    """Constant border on rows and columns."""
    top, left, bottom, right = layer.pads
    graph("Pad", *inputs, (0, 0, top, left, 0, 0, bottom, right), layer.value, name=layer.name)


def crop(graph: OnnxGraph, layer: Crop, inputs: Inputs) -> None:
    """A window of rows and columns."""
    start, end = (layer.top, layer.left), (layer.top + layer.height, layer.left + layer.width)
    graph("Slice", *inputs, start, end, (2, 3), name=layer.name)


def fake_quantize(graph: OnnxGraph, layer: FakeQuantize, inputs: Inputs) -> None:
    """Step by step as TensorFlow (core/kernels/fake_quant_ops_functor.h), in float32 whatever the network computes in;
    QuantizeLinear would round half to even."""
    floats, graph.floats = graph.floats, "float32"
    (value,) = inputs
    value = value if floats == "float32" else graph.cast(value, "float32")
    low, high, step = np.float32(layer.minimum), np.float32(layer.maximum), np.float32(layer.step)
    zero = np.floor(-low / step + np.float32(0.5))
    levels = graph("Div", graph("Sub", graph("Clip", value, low, high), low), step)
    rounded = graph("Floor", graph("Add", graph("Sub", levels, zero), 0.5))
    if floats == "float32":
        graph("Mul", rounded, step, name=layer.name)
    else:
        graph.cast(graph("Mul", rounded, step), floats, layer.name)
    graph.floats = floats


def clip(graph: OnnxGraph, layer: Clip, inputs: Inputs) -> None:
    """Into minimum..maximum."""
    graph("Clip", *inputs, layer.minimum, layer.maximum, name=layer.name)


KINDS: dict[type, Callable[[OnnxGraph, Any, Inputs], None]] = {
    Activation: activation,
    Add: add,
    Affine: affine,
    AvgPool: avg_pool,
    Clip: clip,
    Concat: concat,
    Conv: conv,
    Crop: crop,
    DepthwiseConv: depthwise_conv,
    FakeQuantize: fake_quantize,
    GlobalAvgPool: global_avg_pool,
    MaxPool: max_pool,
    Mul: mul,
    Pad: pad,
    Resize: resize,
}
"""Layer kind -> the function that writes it."""


def _per_channel(values: Floats) -> Floats:
    """() or (channels,) in a shape that broadcasts over NCHW."""
    return values.reshape(-1, 1, 1) if values.ndim else values
