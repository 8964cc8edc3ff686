"""Layers as TensorFlow nodes: one function a layer kind. The node that makes a layer's value has the layer's name.

A function gets the layer, the nodes of its inputs and the shape (height, width, channels) of the first of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from ssdrt.errors import ModelError
from ssdrt.export.builder import GraphBuilder
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
from ssdrt.statistics import layer_costs

Inputs = tuple[str, ...]
Shape = tuple[int, int, int]


def write_layers(g: GraphBuilder, model: SsdModel, image: str) -> dict[str, str]:
    """Add the nodes of all layers; the node of each value.

    Parameters
    ----------
    image: the node of the normalised network input.

    Raises
    ------
    ModelError: a layer that has no counterpart in TensorFlow, or of a kind that nobody has said how to write.
    """
    shapes: dict[str, Shape] = {IMAGE: (*model.input_size, 3)}
    shapes |= {cost.name: cost.shape for cost in layer_costs(model)}
    nodes = {IMAGE: image}
    for layer in model.layers:
        kind = type(layer)
        if kind not in KINDS:
            raise ModelError(f"no TensorFlow for {kind.__name__} layers: add a function to export/layers.py",
                             node=layer.name)  # fmt: skip
        inputs = tuple(nodes[name] for name in layer.inputs)
        nodes[layer.name] = KINDS[kind](g, layer, inputs, shapes[layer.inputs[0]])
    return nodes


def conv(g: GraphBuilder, layer: Conv | DepthwiseConv, inputs: Inputs, shape: Shape) -> str:
    """Conv2D or DepthwiseConv2dNative, then BiasAdd."""
    op, name = "Conv2D" if isinstance(layer, Conv) else "DepthwiseConv2dNative", _node_name(layer)
    window = (layer.weights.shape[0], layer.weights.shape[1])
    x, padding = _padded(g, layer, inputs, same_pads(shape, window, layer.strides, layer.dilations), 0.0)
    weights = g.variable(layer.weights, f"{name}/weights")
    x = g.op(op, x, weights, name=f"{name}/{op}", strides=_spatial(layer.strides), padding=padding,
             dilations=_spatial(layer.dilations), data_format=b"NHWC")  # fmt: skip
    return g.op("BiasAdd", x, g.variable(layer.bias, f"{name}/biases"), name=name, data_format=b"NHWC")


def max_pool(g: GraphBuilder, layer: MaxPool, inputs: Inputs, shape: Shape) -> str:
    """Padding never wins."""
    x, padding = _padded(g, layer, inputs, same_pads(shape, layer.window, layer.strides), -np.inf)
    return _pool(g, "MaxPool", layer, x, padding)


def avg_pool(g: GraphBuilder, layer: AvgPool, inputs: Inputs, shape: Shape) -> str:
    """TensorFlow leaves padding out of the mean only where it pads itself."""
    same = same_pads(shape, layer.window, layer.strides)
    if any(layer.pads) and layer.pads != same:
        raise ModelError(f"an average of windows with pads {layer.pads}, where TensorFlow pads {same}", node=layer.name)
    return _pool(g, "AvgPool", layer, *_padded(g, layer, inputs, same, 0.0))


def _pool(g: GraphBuilder, op: str, layer: MaxPool | AvgPool, x: str, padding: bytes) -> str:
    return g.op(op, x, name=_node_name(layer), ksize=_spatial(layer.window), strides=_spatial(layer.strides),
                padding=padding, data_format=b"NHWC")  # fmt: skip


def activation(g: GraphBuilder, layer: Activation, inputs: Inputs, shape: Shape) -> str:  # noqa: ARG001
    """hard_sigmoid and hard_swish in the order of Keras and slim: relu6(x + 3), times x, times 1/6."""
    (x,), name = inputs, _node_name(layer)
    single = {"relu": "Relu", "relu6": "Relu6", "sigmoid": "Sigmoid"}
    if layer.function in single:
        return g.op(single[layer.function], x, name=name)
    if layer.function == "swish":
        return g.op("Mul", x, g.op("Sigmoid", x, name=f"{name}/Sigmoid"), name=name)
    gate = g.op("Relu6", g.op("AddV2", x, 3.0, name=f"{name}/add"), name=f"{name}/Relu6")
    if layer.function == "hard_swish":
        gate = g.op("Mul", x, gate, name=f"{name}/mul")
    return g.op("Mul", gate, 1 / 6, name=name)


def affine(g: GraphBuilder, layer: Affine, inputs: Inputs, shape: Shape) -> str:  # noqa: ARG001
    """Mul and AddV2, of which one alone is left out where it would change nothing."""
    (x,), name = inputs, _node_name(layer)
    if not np.any(layer.offset):
        return g.op("Mul", x, layer.scale, name=name)
    if not np.all(layer.scale == 1):
        x = g.op("Mul", x, layer.scale, name=f"{name}/mul")
    return g.op("AddV2", x, layer.offset, name=name)


def add(g: GraphBuilder, layer: Add, inputs: Inputs, shape: Shape) -> str:  # noqa: ARG001
    """TensorFlow broadcasts (n, 1, 1, c) as we need it."""
    return g.op("AddV2", *inputs, name=_node_name(layer))


def mul(g: GraphBuilder, layer: Mul, inputs: Inputs, shape: Shape) -> str:  # noqa: ARG001
    """TensorFlow broadcasts (n, 1, 1, c) as we need it."""
    return g.op("Mul", *inputs, name=_node_name(layer))


def concat(g: GraphBuilder, layer: Concat, inputs: Inputs, shape: Shape) -> str:  # noqa: ARG001
    """Along the channels."""
    return g.op("ConcatV2", *inputs, 3, name=_node_name(layer), N=len(inputs))


def global_avg_pool(g: GraphBuilder, layer: GlobalAvgPool, inputs: Inputs, shape: Shape) -> str:  # noqa: ARG001
    """Mean over rows and columns."""
    return g.op("Mean", *inputs, [1, 2], name=_node_name(layer), keep_dims=True)


def resize(g: GraphBuilder, layer: Resize, inputs: Inputs, shape: Shape) -> str:  # noqa: ARG001
    """The op has every option of the layer."""
    op = "ResizeNearestNeighbor" if layer.method == "nearest" else "ResizeBilinear"
    return g.op(op, *inputs, [layer.height, layer.width], name=_node_name(layer), align_corners=layer.align_corners,
                half_pixel_centers=layer.half_pixel_centers)  # fmt: skip


def pad(g: GraphBuilder, layer: Pad, inputs: Inputs, shape: Shape) -> str:  # noqa: ARG001
    """Pad fills with zeros, PadV2 with anything."""
    return _border(g, inputs[0], layer.pads, layer.value, _node_name(layer))


def crop(g: GraphBuilder, layer: Crop, inputs: Inputs, shape: Shape) -> str:  # noqa: ARG001
    """A Slice of rows and columns."""
    return g.op("Slice", *inputs, [0, layer.top, layer.left, 0], [-1, layer.height, layer.width, -1],
                name=_node_name(layer))  # fmt: skip


def fake_quantize(g: GraphBuilder, layer: FakeQuantize, inputs: Inputs, shape: Shape) -> str:  # noqa: ARG001
    """The op is told the number of bits; a narrow range has one step less."""
    steps = round((layer.maximum - layer.minimum) / layer.step)
    bits = steps.bit_length()
    if not 2 <= bits <= 16 or steps < 2**bits - 2:
        raise ModelError(f"a range of {steps} steps; TensorFlow knows 2^n - 1 and 2^n - 2", node=layer.name)
    return g.op("FakeQuantWithMinMaxVars", *inputs, layer.minimum, layer.maximum, name=_node_name(layer),
                num_bits=bits, narrow_range=steps == 2**bits - 2)  # fmt: skip


def clip(g: GraphBuilder, layer: Clip, inputs: Inputs, shape: Shape) -> str:  # noqa: ARG001
    """Maximum, Minimum or both; a side that is infinite needs none."""
    (x,), name = inputs, _node_name(layer)
    if layer.maximum == np.inf:
        return g.op("Maximum", x, layer.minimum, name=name)
    if layer.minimum != -np.inf:
        x = g.op("Maximum", x, layer.minimum, name=f"{name}/Maximum")
    return g.op("Minimum", x, layer.maximum, name=name)


KINDS: dict[type, Callable[..., str]] = {
    Activation: activation,
    Add: add,
    Affine: affine,
    AvgPool: avg_pool,
    Clip: clip,
    Concat: concat,
    Conv: conv,
    Crop: crop,
    DepthwiseConv: conv,
    FakeQuantize: fake_quantize,
    GlobalAvgPool: global_avg_pool,
    MaxPool: max_pool,
    Mul: mul,
    Pad: pad,
    Resize: resize,
}
"""Layer kind -> the function that writes it."""


def _node_name(layer: Layer) -> str:
    """The layer's name in the characters that TensorFlow allows."""
    name = re.sub(r"[^\w./-]", "_", layer.name, flags=re.ASCII)
    return name if name[:1].isalnum() else f"layer{name}"


def _spatial(pair: Pair) -> tuple[int, int, int, int]:
    return 1, *pair, 1


def same_pads(shape: Shape | Pair, window: Pair, strides: Pair, dilations: Pair = (1, 1)) -> Pads:
    """What TensorFlow's SAME pads: as much as gives ceil(size / stride) windows, the odd pixel below and right.

    Parameters
    ----------
    shape: height and width (and channels) of what the windows slide over.
    """
    before, after = [], []
    for axis in (0, 1):
        size, stride = shape[axis], strides[axis]
        total = max((-(-size // stride) - 1) * stride + (window[axis] - 1) * dilations[axis] + 1 - size, 0)
        before.append(total // 2)
        after.append(total - total // 2)
    return before[0], before[1], after[0], after[1]


def _padded(
    g: GraphBuilder, layer: Conv | DepthwiseConv | MaxPool | AvgPool, inputs: Inputs, same: Pads, border: float
) -> tuple[str, bytes]:
    """What the windows slide over, and the padding attribute: SAME where it pads as the layer does, else VALID."""
    if layer.pads == same:
        return inputs[0], b"SAME"
    if not any(layer.pads):
        return inputs[0], b"VALID"
    return _border(g, inputs[0], layer.pads, border, f"{_node_name(layer)}/Pad"), b"VALID"


def _border(g: GraphBuilder, x: str, pads: Pads, value: float, name: str) -> str:
    top, left, bottom, right = pads
    widths = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
    return g.op("Pad", x, widths, name=name) if value == 0 else g.op("PadV2", x, widths, value, name=name)
