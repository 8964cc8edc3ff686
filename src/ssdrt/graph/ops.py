"""What TensorFlow's ops compute, in numpy: those that stand outside the convolutions of a detection graph.

`OPS[op](node, inputs)` gives an array, or a tuple of them for an op of several outputs. Source: the op's page in
tensorflow.org/api_docs/python/tf/raw_ops. `SHAPED_BY` says which inputs an output's shape depends on by value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ssdrt.graph.nodes import Node
from ssdrt.graph.tensor import Tensor

Array: TypeAlias = NDArray[Any]
Result: TypeAlias = "Array | tuple[Array, ...]"
Op: TypeAlias = Callable[[Node, list[Array]], Result]

MAX_ELEMENTS = 1 << 24
"""Largest array that folding makes: 184,000 anchors of 91 classes, three times those of the largest SSD."""

MAX_GROWN = 1 << 21
"""Largest array that is made of smaller ones: four times the coordinates of as many anchors, and their indices."""


MAX_PARTS = 10_000
"""Outputs of one node, and elements of an input that is a shape, axes or sizes: more than any data set has classes."""


class TooLarge(ValueError):
    """An array that no detection graph needs."""


def bounded(shape: Any, limit: int = MAX_ELEMENTS) -> tuple[int, ...]:
    """`shape` as ints, if an array of it may be made."""
    dims = tuple(int(d) for d in np.atleast_1d(shape))
    if any(d < 0 for d in dims) or math.prod(dims) > limit or len(dims) > 32:
        raise TooLarge(f"an array of shape {dims[:8]}")
    return dims


def _grown(shape: Any, *sources: Array) -> tuple[int, ...]:
    """`bounded` of an op that may give more elements than it gets: four times as many, or `MAX_GROWN`."""
    return bounded(shape, min(MAX_ELEMENTS, max(MAX_GROWN, 4 * max(a.size for a in sources))))


def _const(node: Node, _: list[Array]) -> Array:
    value = node.attributes.get("value")
    if not isinstance(value, Tensor):
        raise ValueError("a Const without a value")
    return value.array()


def _same(_: Node, x: list[Array]) -> Array:
    return x[0]


def _unary(function: Callable[[Array], Array]) -> Op:
    return lambda _, x: function(x[0])


def _binary(function: Callable[[Array, Array], Array]) -> Op:
    def run(_: Node, x: list[Array]) -> Array:
        _grown(np.broadcast_shapes(x[0].shape, x[1].shape), *x)
        return function(x[0], x[1])

    return run


def _divide(x: Array, y: Array) -> Array:
    """Div: floats divide, integers truncate towards zero."""
    if np.issubdtype(x.dtype, np.floating):
        return x / y
    return np.trunc(x / y).astype(x.dtype)


def _reduce(function: Callable[..., Array]) -> Op:
    def run(node: Node, x: list[Array]) -> Array:
        axis = tuple(int(a) for a in np.atleast_1d(x[1]))
        return function(x[0], axis=axis, keepdims=bool(node.attributes.get("keep_dims", False)))

    return run


def _arg(function: Callable[..., Array]) -> Op:
    return lambda node, x: function(x[0], axis=int(x[1])).astype(node.text("output_type", "int64"))


def _shape(node: Node, x: list[Array]) -> Array:
    return np.array(x[0].shape, node.text("out_type", "int32"))


def _pack(node: Node, x: list[Array]) -> Array:
    bounded([sum(a.size for a in x)])
    return np.stack(x, axis=node.integer("axis"))


def _unpack(node: Node, x: list[Array]) -> Result:
    bounded(x[0].shape[node.integer("axis")], MAX_PARTS)
    return tuple(np.moveaxis(x[0], node.integer("axis"), 0))


def _concat(values: list[Array], axis: Array) -> Array:
    bounded([sum(a.size for a in values)])
    return np.concatenate(values, axis=int(axis))


def _split(node: Node, x: list[Array]) -> Result:
    bounded(node.integer("num_split", 1), MAX_PARTS)
    return tuple(np.split(x[1], node.integer("num_split", 1), axis=int(x[0])))


def _split_v(_: Node, x: list[Array]) -> Result:
    return tuple(np.split(x[0], np.cumsum(x[1])[:-1], axis=int(x[2])))


def _slice(_: Node, x: list[Array]) -> Array:
    ends = [None if s < 0 else b + s for b, s in zip(x[1], x[2], strict=True)]
    return x[0][tuple(slice(int(b), None if e is None else int(e)) for b, e in zip(x[1], ends, strict=True))]


def _strided_slice(node: Node, x: list[Array]) -> Array:
    index: list[Any] = []
    masks = {m: node.integer(f"{m}_mask") for m in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}
    for i, (begin, end, stride) in enumerate(zip(*(a.tolist() for a in x[1:4]), strict=True)):
        bit = 1 << i
        if masks["ellipsis"] & bit:
            index.append(Ellipsis)
        elif masks["new_axis"] & bit:
            index.append(None)
        elif masks["shrink_axis"] & bit:
            index.append(begin)
        else:
            index.append(slice(None if masks["begin"] & bit else begin, None if masks["end"] & bit else end, stride))
    result: Array = x[0][tuple(index)]
    return result


def _gather(_: Node, x: list[Array]) -> Array:
    axis = int(x[2]) if len(x) > 2 else 0
    _grown([x[0].size // max(x[0].shape[axis], 1) * max(x[1].size, 1)], *x[:2])
    return np.take(x[0], x[1], axis=axis)


def _reshape(_: Node, x: list[Array]) -> Array:
    return x[0].reshape(tuple(int(d) for d in x[1]))


def _squeeze(node: Node, x: list[Array]) -> Array:
    return np.squeeze(x[0], axis=node.integers("squeeze_dims") or None)


def _tile(_: Node, x: list[Array]) -> Array:
    _grown([s * int(m) for s, m in zip(x[0].shape, x[1], strict=True)], x[0])
    return np.tile(x[0], tuple(int(m) for m in x[1]))


def _range(_: Node, x: list[Array]) -> Array:
    start, limit, delta = (a.item() for a in x)
    bounded([max(0, math.ceil((limit - start) / delta))], MAX_GROWN)
    return np.arange(start, limit, delta, dtype=x[0].dtype)


def _pad(_: Node, x: list[Array]) -> Array:
    widths = [(int(a), int(b)) for a, b in x[1]]
    _grown([s + a + b for s, (a, b) in zip(x[0].shape, widths, strict=True)], x[0])
    return np.pad(x[0], widths, constant_values=x[2] if len(x) > 2 else 0)


def _cast(node: Node, x: list[Array]) -> Array:
    dtype = node.text("DstT", "float32")
    return x[0].astype("float32" if dtype in ("float16", "bfloat16") else dtype, copy=False)


def _select(node: Node, x: list[Array]) -> Array:
    """SelectV2 broadcasts its condition; that of Select may also be one a row."""
    rows = node.op == "Select" and x[0].ndim not in (0, x[1].ndim)
    condition = x[0].reshape(-1, *[1] * (x[1].ndim - 1)) if rows else x[0]
    _grown(np.broadcast_shapes(condition.shape, x[1].shape, x[2].shape), *x)
    return np.where(condition, x[1], x[2])


def _softmax(_: Node, x: list[Array]) -> Array:
    powers: Array = np.exp(x[0] - x[0].max(axis=-1, keepdims=True))
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers


def _sigmoid(x: Array) -> Array:
    result: Array = np.exp(-x)
    result += 1
    return np.reciprocal(result, out=result)


def _resize(_: Node, x: list[Array]) -> Array:
    """Only the shape: pictures are resized by preprocess.py."""
    height, width = (int(d) for d in x[1])
    return np.broadcast_to(np.float32(0), (x[0].shape[0], height, width, x[0].shape[3]))


def fake_quant_range(minimum: float, maximum: float, bits: int, narrow: bool) -> tuple[float, float, float]:
    """(minimum, maximum, step) after TensorFlow's nudge, which makes zero exactly representable.

    Source: tensorflow/core/kernels/fake_quant_ops_functor.h, Nudge.
    """
    if not 2 <= bits <= 16 or not math.isfinite(maximum - minimum):
        raise ValueError(f"{bits} bits from {minimum} to {maximum}")
    low, high = (1 if narrow else 0), (1 << bits) - 1
    step = np.float32(np.float32(maximum) - np.float32(minimum)) / np.float32(high - low)
    if not step > 0:
        raise ValueError(f"a range from {minimum} to {maximum}")
    zero = np.float32(low) - np.float32(minimum) / step
    nudged = low if zero < low else high if zero > high else math.floor(float(zero) + 0.5)
    return float(np.float32(low - nudged) * step), float(np.float32(high - nudged) * step), float(step)


def fake_quantize(x: Array, minimum: Array, maximum: Array, step: Array) -> Array:
    """x rounded to multiples of `step`, zero exactly on one of them. Source: fake_quant_ops_functor.h."""
    zero = np.floor(-minimum / step + np.float32(0.5))
    return np.asarray(np.floor((np.clip(x, minimum, maximum) - minimum) / step - zero + np.float32(0.5)) * step)


def _fake_quant(node: Node, x: list[Array]) -> Array:
    """FakeQuantWithMinMaxVars and ...PerChannel: the range is one number, or one a channel (last axis)."""
    bits, narrow = node.integer("num_bits", 8), bool(node.attributes.get("narrow_range", False))
    bounded(x[1].shape, MAX_PARTS)
    pairs = zip(x[1].ravel(), x[2].ravel(), strict=True)
    ranges = np.array([fake_quant_range(float(a), float(b), bits, narrow) for a, b in pairs], np.float32)
    minimum, maximum, step = (column.reshape(x[1].shape) for column in ranges.T)
    return fake_quantize(x[0], minimum, maximum, step)


def _dequantize(node: Node, x: list[Array]) -> Array:
    """8-bit weights (quint8) back to float32, modes MIN_COMBINED and MIN_FIRST. Source: dequantize_op.cc."""
    if x[0].dtype != np.uint8:
        raise ValueError("only quint8 is read")
    low, high = np.float32(x[1]), np.float32(x[2])
    step = (high - low) / np.float32(255)
    if node.text("mode", "MIN_COMBINED") == "MIN_FIRST" and step:
        low = np.float32(np.round(low / step) * step)
    return np.asarray(x[0].astype(np.float32) * step + low)


_RESIZES = ("ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic", "ResizeArea")
_SAME = (
    "Identity", "Enter", "Exit", "StopGradient", "PreventGradient", "CheckNumerics", "PlaceholderWithDefault",
    "Snapshot",
)  # fmt: skip

ELEMENTWISE: dict[str, Op] = {
    "ZerosLike": _unary(np.zeros_like),
    "OnesLike": _unary(np.ones_like),
    "Cast": _cast,
    "Add": _binary(np.add),
    "AddV2": _binary(np.add),
    "BiasAdd": _binary(np.add),
    "Sub": _binary(np.subtract),
    "Mul": _binary(np.multiply),
    "RealDiv": _binary(np.divide),
    "Div": _binary(_divide),
    "FloorDiv": _binary(np.floor_divide),
    "FloorMod": _binary(np.mod),
    "Mod": _binary(np.fmod),
    "Maximum": _binary(np.maximum),
    "Minimum": _binary(np.minimum),
    "Pow": _binary(np.power),
    "Greater": _binary(np.greater),
    "GreaterEqual": _binary(np.greater_equal),
    "Less": _binary(np.less),
    "LessEqual": _binary(np.less_equal),
    "Equal": _binary(np.equal),
    "NotEqual": _binary(np.not_equal),
    "LogicalAnd": _binary(np.logical_and),
    "LogicalOr": _binary(np.logical_or),
    "LogicalNot": _unary(np.logical_not),
    "Sqrt": _unary(np.sqrt),
    "Rsqrt": _unary(lambda x: (1 / np.sqrt(x)).astype(x.dtype)),
    "Square": _unary(np.square),
    "Exp": _unary(np.exp),
    "Log": _unary(np.log),
    "Neg": _unary(np.negative),
    "Abs": _unary(np.abs),
    "Reciprocal": _unary(np.reciprocal),
    "Round": _unary(np.rint),
    "Floor": _unary(np.floor),
    "Ceil": _unary(np.ceil),
    "Relu": _unary(lambda x: np.maximum(x, 0)),
    "Relu6": _unary(lambda x: np.clip(x, 0, 6)),
    "Sigmoid": _unary(_sigmoid),
}
"""Ops of which every element of the result follows from one element of each input."""

OPS: dict[str, Op] = ELEMENTWISE | {
    "Dequantize": _dequantize,
    "Const": _const,
    "Shape": _shape,
    "ShapeN": lambda node, x: tuple(np.array(a.shape, node.text("out_type", "int32")) for a in x),
    "Size": lambda node, x: np.array(x[0].size, node.text("out_type", "int32")),
    "Rank": lambda _, x: np.array(x[0].ndim, np.int32),
    "TensorArrayReadV3": lambda _, x: x[0][0],
    "TensorArrayGatherV3": lambda _, x: x[0][None],
    "Pack": _pack,
    "Unpack": _unpack,
    "Concat": lambda _, x: _concat(x[1:], x[0]),
    "ConcatV2": lambda _, x: _concat(x[:-1], x[-1]),
    "Split": _split,
    "SplitV": _split_v,
    "Slice": _slice,
    "StridedSlice": _strided_slice,
    "Gather": _gather,
    "GatherV2": _gather,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "ExpandDims": lambda _, x: np.expand_dims(x[0], int(x[1])),
    "Transpose": lambda _, x: np.transpose(x[0], tuple(int(a) for a in x[1])),
    "Tile": _tile,
    "BroadcastTo": lambda _, x: np.broadcast_to(x[0], bounded(x[1])),
    "Fill": lambda _, x: np.broadcast_to(x[1], bounded(x[0])),
    "Range": _range,
    "Pad": _pad,
    "PadV2": _pad,
    "Select": _select,
    "SelectV2": _select,
    "Softmax": _softmax,
    "Sum": _reduce(np.sum),
    "Max": _reduce(np.max),
    "Min": _reduce(np.min),
    "Mean": _reduce(np.mean),
    "Prod": _reduce(np.prod),
    "All": _reduce(np.all),
    "Any": _reduce(np.any),
    "ArgMax": _arg(np.argmax),
    "ArgMin": _arg(np.argmin),
    "FakeQuantWithMinMaxVars": _fake_quant,
    "FakeQuantWithMinMaxVarsPerChannel": _fake_quant,
    **dict.fromkeys(_RESIZES, _resize),
    **dict.fromkeys(_SAME, _same),
}

SHAPED_BY: dict[str, tuple[int, ...]] = {
    "Concat": (0,), "ConcatV2": (-1,), "Split": (0,), "SplitV": (1, 2), "Slice": (1, 2), "StridedSlice": (1, 2, 3),
    "GatherV2": (2,), "Reshape": (1,), "ExpandDims": (1,), "Transpose": (1,), "Tile": (1,), "BroadcastTo": (1,),
    "Fill": (0,), "Range": (0, 1, 2), "Pad": (1,), "PadV2": (1,), "Sum": (1,), "Max": (1,), "Min": (1,), "Mean": (1,),
    "Prod": (1,), "All": (1,), "Any": (1,), "ArgMax": (1,), "ArgMin": (1,), "ResizeBilinear": (1,),
    "ResizeNearestNeighbor": (1,), "ResizeBicubic": (1,), "ResizeArea": (1,),
}  # fmt: skip
"""Inputs whose values, not only shapes, decide the output's shape."""

VIEWS = (
    *_SAME, *_RESIZES, "TensorArrayReadV3", "TensorArrayGatherV3", "Reshape", "Squeeze", "ExpandDims", "Transpose",
    "Slice", "StridedSlice", "Unpack", "Split", "SplitV", "BroadcastTo",
)  # fmt: skip
"""Ops that make no array of their own, so that their inputs may be larger than `MAX_ELEMENTS`."""

SHAPE_OPS = ("Shape", "ShapeN", "Size", "Rank")
"""Ops whose output is known as soon as the input's shape is."""
