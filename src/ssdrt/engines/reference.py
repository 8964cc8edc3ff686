"""The reference engine: numpy alone, float32, one function a layer kind. The oracle of the other engines."""

from __future__ import annotations

import threading
from collections.abc import Callable

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
    Floats,
    GlobalAvgPool,
    Layer,
    MaxPool,
    Mul,
    Normalisation,
    Pad,
    Pads,
    Pair,
    Resize,
    SsdModel,
)
from ssdrt.postprocess import convert_scores, sigmoid


def unavailable() -> None:
    """It runs wherever numpy does."""
    return


def precisions() -> tuple[str, ...]:
    """float32 alone."""
    return ("fp32",)


def fingerprint() -> str:
    """There is no plan that could depend on anything."""
    return "numpy"


def build(model: SsdModel, precision: str) -> bytes:  # noqa: ARG001
    """There is nothing to prepare."""
    return b""


def load(model: SsdModel, plan: bytes, precision: str, streams: int) -> ReferenceEngine:  # noqa: ARG001
    """The model is all it takes; numpy shares the processor out as it likes."""
    return ReferenceEngine(model)


class ReferenceEngine:
    """Runs the layers one after the other; values are dropped after their last reader.

    One picture at a time: numpy's products use all cores, and two at once came to a tenth of the speed of one.
    """

    def __init__(self, model: SsdModel, run: Callable[..., Floats] | None = None) -> None:
        """run: what computes a layer instead of `run_layer`, with the same arguments."""
        self._model, self._run = model, run or run_layer
        self._turn = threading.Lock()
        last_reader = {name: layer.name for layer in model.layers for name in layer.inputs}
        kept = {name for head in model.heads for name in (head.boxes, head.scores)}
        self._dropped: dict[str, list[str]] = {}
        for name, reader in last_reader.items():
            if name not in kept:
                self._dropped.setdefault(reader, []).append(name)

    def infer(self, pixels: Floats) -> tuple[Floats, Floats]:
        """Box encodings (b, n, 4) and class scores (b, n, classes), see `engines.base.Engine`."""
        with self._turn:
            values = {IMAGE: normalise(pixels, self._model.preprocessing.normalisation.value)}
            for layer in self._model.layers:
                values[layer.name] = self._run(layer, *(values[name] for name in layer.inputs))
                for name in self._dropped.get(layer.name, ()):
                    del values[name]
            return self._joined(values)

    def _joined(self, values: dict[str, Floats]) -> tuple[Floats, Floats]:
        heads, converter = self._model.heads, self._model.score_converter
        columns = self._model.logit_columns
        boxes = [values[head.boxes].reshape(len(values[head.boxes]), -1, 4) for head in heads]
        logits = [values[head.scores].reshape(len(values[head.scores]), -1, columns) for head in heads]
        scores = convert_scores(
            np.concatenate(logits, 1), converter.function.value, converter.logit_scale.value, converter.background.value
        )
        return np.concatenate(boxes, 1), scores

    def close(self) -> None:
        """Nothing is held that needs freeing."""


def normalise(pixels: Floats, steps: tuple[Normalisation, ...]) -> Floats:
    """Pixels (b, height, width, 3) 0..255 as the first layers read them, rounded to float32 after each step."""
    functions: dict[str, np.ufunc] = {"mul": np.multiply, "add": np.add, "sub": np.subtract, "div": np.divide}
    for step in steps:
        pixels = functions[step.operation](pixels, step.operand, dtype=np.float32)
    return pixels


def run_layer(layer: Layer, *inputs: Floats) -> Floats:
    """The value (n, height, width, channels) that a layer makes of its inputs.

    Raises
    ------
    ModelError: nobody has said how this kind of layer is computed.
    """
    kind = type(layer)
    if kind not in KINDS:
        raise ModelError(
            f"the reference engine lacks {kind.__name__} layers: add a function to engines/reference.py",
            node=layer.name,
        )
    return KINDS[kind](layer, *inputs)


def conv(layer: Conv, x: Floats) -> Floats:
    """One product of all windows, as rows, with the weights, as a matrix."""
    kernel, channels = layer.weights.shape[:2], layer.weights.shape[3]
    windows = _windows(_padded(x, layer.pads), kernel, layer.strides, layer.dilations)
    n, height, width = windows.shape[:3]
    products = windows.reshape(n * height * width, -1) @ layer.weights.reshape(-1, channels)
    products += layer.bias
    return products.reshape(n, height, width, channels)


def depthwise_conv(layer: DepthwiseConv, x: Floats) -> Floats:
    """The sum over kernel positions of the shifted input times that position's weights."""
    height, width, channels, multiplier = layer.weights.shape
    weights = layer.weights.reshape(height, width, channels * multiplier)
    x = _padded(np.repeat(x, multiplier, -1), layer.pads)
    windows = _windows(x, (height, width), layer.strides, layer.dilations)
    total = np.tile(layer.bias, (*windows.shape[:3], 1))
    for row, column in np.ndindex(height, width):
        total += windows[:, :, :, row, column] * weights[row, column]
    return total


def activation(layer: Activation, x: Floats) -> Floats:
    """hard_sigmoid and hard_swish in the order of TensorFlow's graphs: relu6(x + 3), times x, times 1/6."""
    if layer.function == "relu":
        return np.maximum(x, 0)
    if layer.function == "relu6":
        return np.clip(x, 0, 6)
    if layer.function == "sigmoid":
        return sigmoid(x)
    if layer.function == "swish":
        return x * sigmoid(x)
    gate = np.clip(x + 3, 0, 6)
    gated: Floats = (x * gate if layer.function == "hard_swish" else gate) * np.float32(1 / 6)
    return gated


def affine(layer: Affine, x: Floats) -> Floats:
    """x * scale + offset."""
    return x * layer.scale + layer.offset


def add(layer: Add, x: Floats, y: Floats) -> Floats:  # noqa: ARG001
    """x + y."""
    return x + y


def mul(layer: Mul, x: Floats, y: Floats) -> Floats:  # noqa: ARG001
    """x * y."""
    return x * y


def concat(layer: Concat, *inputs: Floats) -> Floats:  # noqa: ARG001
    """Along the channels."""
    return np.concatenate(inputs, -1)


def max_pool(layer: MaxPool, x: Floats) -> Floats:
    """Largest of each window."""
    largest: Floats = _windows(_padded(x, layer.pads, -np.inf), layer.window, layer.strides).max((3, 4))
    return largest


def avg_pool(layer: AvgPool, x: Floats) -> Floats:
    """Sum of each window over the number of its positions that are no padding."""
    inside = _padded(np.ones((1, *x.shape[1:3], 1), np.float32), layer.pads)
    counts: Floats = _windows(inside, layer.window, layer.strides).sum((3, 4))
    totals: Floats = _windows(_padded(x, layer.pads), layer.window, layer.strides).sum((3, 4))
    return totals / counts


def global_avg_pool(layer: GlobalAvgPool, x: Floats) -> Floats:  # noqa: ARG001
    """(n, 1, 1, c)."""
    mean: Floats = x.mean((1, 2), keepdims=True)
    return mean


def resize(layer: Resize, x: Floats) -> Floats:
    """Columns, then rows (TensorFlow's core/kernels/image/resize_{nearest_neighbor,bilinear}_op.cc)."""
    for axis, size in ((2, layer.width), (1, layer.height)):
        x = _resized(layer, x, axis, size)
    return x


def _resized(layer: Resize, x: Floats, axis: int, size: int) -> Floats:
    last, positions = x.shape[axis] - 1, np.arange(size, dtype=np.float32)
    scale = np.float32(last / (size - 1) if layer.align_corners and size > 1 else x.shape[axis] / size)
    shift = np.float32(0.5 if layer.half_pixel_centers else 0)
    if layer.method == "nearest":
        rounding = np.float32(0.5 if layer.align_corners else 0)
        return _taken(x, np.floor((positions + shift) * scale + rounding), axis)
    source = (positions + shift) * scale - shift
    floor = np.floor(source)
    low, high = _taken(x, floor, axis), _taken(x, floor + 1, axis)
    blend: Floats = (source - floor).reshape(-1, *[1] * (3 - axis))
    return low + (high - low) * blend


def _taken(x: Floats, indices: Floats, axis: int) -> Floats:
    """Rows or columns of x; indices outside stand for the nearest inside."""
    taken: Floats = x.take(np.clip(indices, 0, x.shape[axis] - 1).astype(int), axis)
    return taken


def pad(layer: Pad, x: Floats) -> Floats:
    """Constant border."""
    return _padded(x, layer.pads, layer.value)


def crop(layer: Crop, x: Floats) -> Floats:
    """A window of rows and columns."""
    return x[:, layer.top : layer.top + layer.height, layer.left : layer.left + layer.width]


def fake_quantize(layer: FakeQuantize, x: Floats) -> Floats:
    """Step by step as TensorFlow (core/kernels/fake_quant_ops_functor.h)."""
    low, high, half = np.float32(layer.minimum), np.float32(layer.maximum), np.float32(0.5)
    step = np.float32(layer.step)
    zero = np.floor(-low / step + half)
    rounded: Floats = np.floor((np.clip(x, low, high) - low) / step - zero + half) * step
    return rounded


def clip(layer: Clip, x: Floats) -> Floats:
    """Into minimum..maximum."""
    return np.clip(x, np.float32(layer.minimum), np.float32(layer.maximum))


KINDS: dict[type, Callable[..., Floats]] = {
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
"""Layer kind -> the function that computes it."""


def _padded(x: Floats, pads: Pads, value: float = 0) -> Floats:
    top, left, bottom, right = pads
    border = ((0, 0), (top, bottom), (left, right), (0, 0))
    return np.pad(x, border, constant_values=value) if any(pads) else x


def _windows(x: Floats, kernel: Pair, strides: Pair, dilations: Pair = (1, 1)) -> Floats:
    """View (n, out height, out width, kernel height, kernel width, channels) of all positions of a sliding window."""
    rows, columns = ((size - 1) * gap + 1 for size, gap in zip(kernel, dilations, strict=True))
    windows = np.lib.stride_tricks.sliding_window_view(x, (rows, columns), axis=(1, 2))
    windows = windows[:, :: strides[0], :: strides[1], :, :: dilations[0], :: dilations[1]]
    channels_last: Floats = windows.transpose(0, 1, 2, 4, 5, 3)
    return channels_last
