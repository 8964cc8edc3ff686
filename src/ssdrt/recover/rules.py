"""What each op of a feature extractor becomes: one function an op, and their table."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssdrt.errors import ModelError
from ssdrt.graph import Node, Ref
from ssdrt.graph.ops import fake_quant_range
from ssdrt.model import (
    Activation,
    Add,
    Affine,
    AvgPool,
    Clip,
    Concat,
    Conv,
    DepthwiseConv,
    FakeQuantize,
    GlobalAvgPool,
    MaxPool,
    Mul,
    Pad,
    Pads,
    Pair,
    Resize,
)
from ssdrt.recover.importer import Importer, Moved, Rule

MAX_SIDE = 1 << 16
"""Largest window, stride, dilation or padding, in rows or columns."""


def _window(importer: Importer, node: Node, window: Pair, strides: Pair, dilations: Pair) -> tuple[Pads, Pair]:
    """(paddings, output size) of a sliding window. SAME: output ceil(in / stride), the odd pixel below and right."""
    height, width, _ = importer.shapes[importer.source(node)]
    padding = node.text("padding")
    if min(*window, *strides, *dilations) < 1 or max(*window, *strides, *dilations) > MAX_SIDE:
        raise ModelError(f"a window of {window}, strides {strides}, dilations {dilations}", node=node.name)
    if padding == "SAME":
        rows = _same(height, window[0], strides[0], dilations[0])
        columns = _same(width, window[1], strides[1], dilations[1])
        pads = (rows[0], columns[0], rows[1], columns[1])
    elif padding == "VALID":
        pads = (0, 0, 0, 0)
    elif padding == "EXPLICIT" and len(node.integers("explicit_paddings")) == 8:
        e = node.integers("explicit_paddings")
        pads = (e[2], e[4], e[3], e[5])
    else:
        raise ModelError(f"padding {padding!r}", node=node.name)
    size = (
        (height + pads[0] + pads[2] - (window[0] - 1) * dilations[0] - 1) // strides[0] + 1,
        (width + pads[1] + pads[3] - (window[1] - 1) * dilations[1] - 1) // strides[1] + 1,
    )
    if min(size) < 1 or min(pads) < 0 or max(pads) > MAX_SIDE:
        raise ModelError(f"a window of {window} does not fit a {height}x{width} map", node=node.name)
    return pads, size


def _same(size: int, window: int, stride: int, dilation: int) -> Pair:
    total = max((-(-size // stride) - 1) * stride + (window - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def _spatial(node: Node, key: str, default: Pair = (1, 1)) -> Pair:
    if node.text("data_format", "NHWC") != "NHWC":
        raise ModelError(
            f"data format {node.text('data_format')}: ssdrt reads NHWC, which the exporter writes", node=node.name
        )
    values = node.integers(key)
    return (values[1], values[2]) if len(values) == 4 else default


def _convolution(importer: Importer, node: Node) -> None:
    weights = importer.constant(importer.graph.data_inputs(node)[1], node)
    source = importer.source(node)
    channels = importer.shapes[source][2]
    depthwise = node.op == "DepthwiseConv2dNative"
    if weights.ndim != 4 or weights.shape[2] != channels or min(weights.shape) < 1:
        raise ModelError(f"weights of shape {weights.shape} for {channels} channels", node=node.name)
    strides, dilations = _spatial(node, "strides"), _spatial(node, "dilations")
    pads, size = _window(importer, node, (weights.shape[0], weights.shape[1]), strides, dilations)
    out = weights.shape[2] * weights.shape[3] if depthwise else weights.shape[3]
    kind = DepthwiseConv if depthwise else Conv
    layer = kind(node.name, (source,), weights, np.zeros(out, np.float32), strides, pads, dilations)
    importer.emit(layer, (*size, out), Ref(node.name))


def _pool(importer: Importer, node: Node) -> None:
    window, strides = _spatial(node, "ksize"), _spatial(node, "strides")
    source = importer.source(node)
    pads, size = _window(importer, node, window, strides, (1, 1))
    kind = MaxPool if node.op == "MaxPool" else AvgPool
    importer.emit(
        kind(node.name, (source,), window, strides, pads), (*size, importer.shapes[source][2]), Ref(node.name)
    )


def _batch_norm(importer: Importer, node: Node) -> None:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, as one scale and offset a channel (in float64)."""
    _spatial(node, "")
    if node.attributes.get("is_training") is not False:
        raise ModelError("a batch norm in training mode: the graph was not exported for inference", node=node.name)
    gamma, beta, mean, variance = (
        importer.constant(r, node).astype(np.float64) for r in importer.graph.data_inputs(node)[1:5]
    )
    if not gamma.shape == beta.shape == mean.shape == variance.shape:
        raise ModelError(f"a batch norm of {gamma.shape}, {beta.shape}, {mean.shape}, {variance.shape}", node=node.name)
    scale = gamma / np.sqrt(variance + node.number("epsilon", 1e-4))
    _affine(importer, node, scale, beta - mean * scale)


def _affine(importer: Importer, node: Node, scale: NDArray[np.float64], offset: NDArray[np.float64]) -> None:
    variable = importer.variables(node)[0]
    source = importer.layer_value(variable, node)
    channels = importer.shapes[source][2]
    if not {scale.size, offset.size} <= {1, channels}:
        raise ModelError(
            f"a constant of {max(scale.size, offset.size)} elements for {channels} channels", node=node.name
        )
    factors, terms = (np.broadcast_to(v.ravel().astype(np.float32), channels) for v in (scale, offset))
    importer.emit(Affine(node.name, (source,), factors, terms), importer.shapes[source], Ref(node.name))


def _arithmetic(importer: Importer, node: Node) -> None:
    """Add, Sub, Mul, Div: of two feature maps, or of one and a constant (a scalar or one value a channel)."""
    variables = importer.variables(node)
    refs = importer.graph.data_inputs(node)
    if len(variables) == 2 or refs[0] == refs[1]:
        _of_two(importer, node)
        return
    constant = importer.constant(next(r for r in refs if r not in variables), node)
    if (
        isinstance(importer.values[variables[0]], Moved)
        and constant.ndim > 1
        and np.all(constant == 1)
        and node.op == "Mul"
    ):
        importer.move(node)
        return
    if constant.ndim > 1 and constant.size != constant.shape[-1]:
        raise ModelError(f"a constant of shape {constant.shape} that differs over the map", node=node.name)
    value = constant.astype(np.float64)
    one, zero = np.ones_like(value), np.zeros_like(value)
    first = refs[0] in variables
    if node.op in ("Add", "AddV2", "BiasAdd"):
        _affine(importer, node, one, value)
    elif node.op == "Mul":
        _affine(importer, node, value, zero)
    elif node.op == "Sub":
        _affine(importer, node, one if first else -one, -value if first else value)
    elif first:
        _affine(importer, node, 1 / value, zero)
    else:
        raise ModelError("a constant divided by a feature map", node=node.name)


def _of_two(importer: Importer, node: Node) -> None:
    if node.op not in ("Add", "AddV2", "AddN", "Mul") or len(importer.graph.data_inputs(node)) != 2:
        raise ModelError(f"op {node.op} of feature maps; Add and Mul of two are understood", node=node.name)
    a, b = importer.source(node, 0), importer.source(node, 1)
    sizes = {importer.shapes[v][:2] for v in (a, b)} - {(1, 1)}
    if len(sizes) > 1 or importer.shapes[a][2] != importer.shapes[b][2]:
        raise ModelError(f"op {node.op} of maps {importer.shapes[a]} and {importer.shapes[b]}", node=node.name)
    shape = max(importer.shapes[a], importer.shapes[b])
    importer.emit((Mul if node.op == "Mul" else Add)(node.name, (a, b)), shape, Ref(node.name))


def _activation(function: str) -> Rule:
    def rule(importer: Importer, node: Node) -> None:
        source = importer.source(node)
        importer.emit(Activation(node.name, (source,), function), importer.shapes[source], Ref(node.name))  # type: ignore[arg-type]

    return rule


def _clip(importer: Importer, node: Node) -> None:
    """Maximum and Minimum with a constant: one side of a Clip."""
    variable = importer.variables(node)[0]
    a, b = importer.graph.data_inputs(node)
    bound = importer.number(b if a == variable else a, node)
    source = importer.layer_value(variable, node)
    low, high = (bound, np.inf) if node.op == "Maximum" else (-np.inf, bound)
    importer.emit(Clip(node.name, (source,), low, high), importer.shapes[source], Ref(node.name))


def _concat(importer: Importer, node: Node) -> None:
    """Along the channels; zeros joined below or right are a border (exports of 2017 pad so before a stride)."""
    refs = importer.graph.data_inputs(node)
    axis_ref, parts = (refs[-1], refs[:-1]) if node.op == "ConcatV2" else (refs[0], refs[1:])
    axis = importer.integers(axis_ref, node, 1)[0] % 4
    if axis == 3:
        sources = tuple(importer.layer_value(r, node) for r in parts)
        if len({importer.shapes[s][:2] for s in sources}) > 1:
            raise ModelError("maps of different sizes are joined", node=node.name)
        shape = (*importer.shapes[sources[0]][:2], sum(importer.shapes[s][2] for s in sources))
        importer.emit(Concat(node.name, sources), shape, Ref(node.name))
        return
    variable = importer.variables(node)
    zeros = [importer.folder.value(r) for r in parts if r not in variable]
    if len(variable) != 1 or axis == 0 or any(z is None or z.ndim != 4 or np.any(z) for z in zeros):
        raise ModelError(f"values are joined along axis {axis}; only zeros are understood there", node=node.name)
    at = parts.index(variable[0])
    before, after = (
        sum(z.shape[axis] for r in side if (z := importer.folder.value(r)) is not None)
        for side in (parts[:at], parts[at + 1 :])
    )
    _emit_pad(importer, node, variable[0], (before, 0, after, 0) if axis == 1 else (0, before, 0, after), 0.0)


def _pad(importer: Importer, node: Node) -> None:
    refs = importer.graph.data_inputs(node)
    widths = importer.integers(refs[1], node, 8)
    if any(widths[i] for i in (0, 1, 6, 7)) or min(widths) < 0:
        raise ModelError(f"a pad of {widths}; rows and columns can be padded", node=node.name)
    value = importer.number(refs[2], node) if len(refs) > 2 else 0.0
    _emit_pad(importer, node, refs[0], (widths[2], widths[4], widths[3], widths[5]), value)


def _emit_pad(importer: Importer, node: Node, ref: Ref, pads: Pads, value: float) -> None:
    source = importer.layer_value(ref, node)
    height, width, channels = importer.shapes[source]
    shape = (height + pads[0] + pads[2], width + pads[1] + pads[3], channels)
    importer.emit(Pad(node.name, (source,), pads, value), shape, Ref(node.name))


def _resize(importer: Importer, node: Node) -> None:
    source = importer.source(node)
    height, width = importer.integers(importer.graph.data_inputs(node)[1], node, 2)
    layer = Resize(
        node.name,
        (source,),
        height,
        width,
        "nearest" if node.op == "ResizeNearestNeighbor" else "bilinear",
        bool(node.attributes.get("align_corners", False)),
        bool(node.attributes.get("half_pixel_centers", False)),
    )
    importer.emit(layer, (height, width, importer.shapes[source][2]), Ref(node.name))


def _mean(importer: Importer, node: Node) -> None:
    axes = sorted(a % 4 for a in importer.integers(importer.graph.data_inputs(node)[1], node, 2))
    if axes != [1, 2] or not node.attributes.get("keep_dims"):
        raise ModelError(f"a mean over axes {axes}; over rows and columns, kept, is understood", node=node.name)
    source = importer.source(node)
    importer.emit(GlobalAvgPool(node.name, (source,)), (1, 1, importer.shapes[source][2]), Ref(node.name))


def _fake_quantize(importer: Importer, node: Node) -> None:
    refs = importer.graph.data_inputs(node)
    if node.op == "FakeQuantWithMinMaxArgs":
        low, high = node.number("min", -6.0), node.number("max", 6.0)
    else:
        low, high = (importer.number(r, node) for r in refs[1:3])
    narrow = bool(node.attributes.get("narrow_range", False))
    source = importer.source(node)
    try:
        minimum, maximum, step = fake_quant_range(low, high, node.integer("num_bits", 8), narrow)
    except ValueError as error:
        raise ModelError(f"fake quantisation over {error}", node=node.name) from error
    layer = FakeQuantize(node.name, (source,), minimum, maximum, step)
    importer.emit(layer, importer.shapes[source], Ref(node.name))


def _same_value(importer: Importer, node: Node) -> None:
    value = importer.values.get(importer.graph.data_inputs(node)[0])
    if isinstance(value, Moved):
        importer.values[Ref(node.name)] = value
    elif value is not None:
        importer.alias(Ref(node.name), value)


RULES: dict[str, Rule] = {
    "Conv2D": _convolution,
    "DepthwiseConv2dNative": _convolution,
    "MaxPool": _pool,
    "AvgPool": _pool,
    "Mean": _mean,
    "FusedBatchNorm": _batch_norm,
    "FusedBatchNormV2": _batch_norm,
    "FusedBatchNormV3": _batch_norm,
    "BiasAdd": _arithmetic,
    "Add": _arithmetic,
    "AddV2": _arithmetic,
    "AddN": _of_two,
    "Sub": _arithmetic,
    "Mul": _arithmetic,
    "RealDiv": _arithmetic,
    "Div": _arithmetic,
    "Relu": _activation("relu"),
    "Relu6": _activation("relu6"),
    "Sigmoid": _activation("sigmoid"),
    "Maximum": _clip,
    "Minimum": _clip,
    "Concat": _concat,
    "ConcatV2": _concat,
    "Pad": _pad,
    "PadV2": _pad,
    "ResizeNearestNeighbor": _resize,
    "ResizeBilinear": _resize,
    "FakeQuantWithMinMaxVars": _fake_quantize,
    "FakeQuantWithMinMaxArgs": _fake_quantize,
    "Identity": _same_value,
    "StopGradient": _same_value,
    "CheckNumerics": _same_value,
    "PlaceholderWithDefault": _same_value,
}
