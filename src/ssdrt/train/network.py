"""The torch network of an `SsdModel`: its weights as tensors by name, and one function a layer kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

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
    Pad,
    Pads,
    Resize,
    SsdModel,
)

if TYPE_CHECKING:
    from torch import Tensor

Weights = dict[str, Any]
"""Tensors by LAYER/weights, LAYER/bias, LAYER/scale, LAYER/offset, and LAYER/norm_... of layers that train with a batch
norm. Convolutions (out, in / groups, kh, kw)."""

NORM_EPSILON = 1e-3
NORM_MOMENTUM = 0.03  # torch's, of the new value; TensorFlow's 0.9997 is for runs of 200,000 steps


def weights_of(model: SsdModel, device: Any = "cpu", *, normed: Iterable[str] = ()) -> Weights:
    """The model's weights, float32, each a leaf that takes a gradient.

    Parameters
    ----------
    normed: names of convolutions that get a fresh batch norm, which `to_model` folds in again.
    """
    import torch

    arrays: dict[str, Floats] = {}
    names = set(normed)
    for layer in model.layers:
        if isinstance(layer, (Conv, DepthwiseConv)):
            kernel = layer.weights.transpose(3, 2, 0, 1) if isinstance(layer, Conv) else _by_channel(layer.weights)
            arrays[f"{layer.name}/weights"], arrays[f"{layer.name}/bias"] = kernel, layer.bias
            if layer.name in names:
                one = np.ones(len(layer.bias), np.float32)
                for part, value in (("scale", one), ("mean", 0 * one), ("variance", one)):
                    arrays[f"{layer.name}/norm_{part}"] = value
        elif isinstance(layer, Affine):
            arrays[f"{layer.name}/scale"], arrays[f"{layer.name}/offset"] = layer.scale, layer.offset
    weights = {name: torch.tensor(np.ascontiguousarray(value), device=device) for name, value in arrays.items()}
    for name in learned(weights):
        weights[name].requires_grad_()
    return weights


def learned(weights: Weights) -> list[str]:
    """Names of the weights that gradients change: all but what batch norms measure."""
    return [name for name in weights if not name.endswith(("/norm_mean", "/norm_variance"))]


def to_model(model: SsdModel, weights: Weights) -> SsdModel:
    """The model with these weights instead of its own, batch norms folded in."""
    arrays = {name: value.detach().float().cpu().numpy() for name, value in weights.items()}
    return replace(model, layers=tuple(_with_weights(layer, arrays) for layer in model.layers))


def run_network(model: SsdModel, weights: Weights, pixels: Tensor, *, training: bool = False) -> tuple[Tensor, Tensor]:
    """Box encodings (b, n, 4) and class logits (b, n, columns), background included, before the score converter.

    Parameters
    ----------
    pixels: (b, 3, height, width) float32 RGB 0..255, already resized as the graph does.
    training: batch norms take the batch's own mean and variance.

    Raises
    ------
    ModelError: nobody has said how a kind of layer is computed.
    """
    import torch

    values = {IMAGE: _normalised(model, pixels)}
    for layer in model.layers:
        if type(layer) not in KINDS:
            raise ModelError(
                f"training lacks {type(layer).__name__} layers: add a function to train/network.py", node=layer.name
            )
        values[layer.name] = KINDS[type(layer)](layer, weights, training, *(values[name] for name in layer.inputs))
    boxes = [_rows(values[head.boxes], 4) for head in model.heads]
    logits = [_rows(values[head.scores], model.logit_columns) for head in model.heads]
    return torch.cat(boxes, 1).float(), torch.cat(logits, 1).float()


def _rows(value: Tensor, columns: int) -> Tensor:
    return value.permute(0, 2, 3, 1).reshape(len(value), -1, columns)


def _normalised(model: SsdModel, pixels: Tensor) -> Tensor:
    for step in model.preprocessing.normalisation.value:
        operand = pixels.new_tensor(step.operand).reshape(-1, 1, 1)
        if step.operation == "mul":
            pixels = pixels * operand
        elif step.operation == "add":
            pixels = pixels + operand
        elif step.operation == "sub":
            pixels = pixels - operand
        else:
            pixels = pixels / operand
    return pixels


def _by_channel(weights: Floats) -> Floats:
    """(kh, kw, c, m) as torch's (c * m, 1, kh, kw)."""
    kernels: Floats = weights.transpose(2, 3, 0, 1).reshape(-1, 1, *weights.shape[:2])
    return kernels


def _with_weights(layer: Layer, arrays: dict[str, Floats]) -> Layer:
    if isinstance(layer, Affine):
        return replace(layer, scale=arrays[f"{layer.name}/scale"], offset=arrays[f"{layer.name}/offset"])
    if not isinstance(layer, (Conv, DepthwiseConv)):
        return layer
    kernel, bias = arrays[f"{layer.name}/weights"], arrays[f"{layer.name}/bias"]
    if f"{layer.name}/norm_scale" in arrays:
        scale, mean, variance = (arrays[f"{layer.name}/norm_{part}"] for part in ("scale", "mean", "variance"))
        gain = scale / np.sqrt(variance + np.float32(NORM_EPSILON))
        kernel, bias = kernel * gain[:, None, None, None], bias - mean * gain
    if isinstance(layer, Conv):
        return replace(layer, weights=np.ascontiguousarray(kernel.transpose(2, 3, 1, 0)), bias=bias)
    height, width, channels, multiplier = layer.weights.shape
    kernel = kernel.reshape(channels, multiplier, height, width).transpose(2, 3, 0, 1)
    return replace(layer, weights=np.ascontiguousarray(kernel), bias=bias)


# --- layers: (layer, weights, training, inputs (b, c, h, w)) -> (b, c, h, w) ----------------------------------------


def conv(layer: Conv | DepthwiseConv, weights: Weights, training: bool, x: Tensor) -> Tensor:
    """Both kinds; a depthwise one has a group a channel."""
    from torch.nn import functional

    x, padding = _padding(x, layer.pads)
    groups = layer.weights.shape[2] if isinstance(layer, DepthwiseConv) else 1
    kernel, bias = weights[f"{layer.name}/weights"], weights[f"{layer.name}/bias"]
    scale = weights.get(f"{layer.name}/norm_scale")
    y = functional.conv2d(x, kernel, bias if scale is None else None, layer.strides, padding, layer.dilations, groups)
    if scale is None:
        return y
    mean, variance = weights[f"{layer.name}/norm_mean"], weights[f"{layer.name}/norm_variance"]
    return functional.batch_norm(y, mean, variance, scale, bias, training, NORM_MOMENTUM, NORM_EPSILON)


def activation(layer: Activation, _weights: Weights, _training: bool, x: Tensor) -> Tensor:
    """See `model.Activation`."""
    from torch.nn import functional

    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "relu": functional.relu,
        "relu6": functional.relu6,
        "sigmoid": lambda value: value.sigmoid(),
        "hard_sigmoid": functional.hardsigmoid,
        "hard_swish": functional.hardswish,
        "swish": functional.silu,
    }
    return functions[layer.function](x)


def affine(layer: Affine, weights: Weights, _training: bool, x: Tensor) -> Tensor:
    """x * scale + offset."""
    scale, offset = (weights[f"{layer.name}/{part}"].reshape(-1, 1, 1) for part in ("scale", "offset"))
    y: Tensor = x * scale + offset
    return y


def add(_layer: Add, _weights: Weights, _training: bool, x: Tensor, y: Tensor) -> Tensor:
    """x + y."""
    return x + y


def mul(_layer: Mul, _weights: Weights, _training: bool, x: Tensor, y: Tensor) -> Tensor:
    """x * y."""
    return x * y


def concat(_layer: Concat, _weights: Weights, _training: bool, *inputs: Tensor) -> Tensor:
    """Along the channels."""
    import torch

    return torch.cat(inputs, 1)


def max_pool(layer: MaxPool, _weights: Weights, _training: bool, x: Tensor) -> Tensor:
    """Largest of each window."""
    from torch.nn import functional

    return functional.max_pool2d(_bordered(x, layer.pads, float("-inf")), layer.window, layer.strides)


def avg_pool(layer: AvgPool, _weights: Weights, _training: bool, x: Tensor) -> Tensor:
    """Sum of each window over the number of its positions that are no padding."""
    from torch.nn import functional

    inside = _bordered(x.new_ones(1, 1, *x.shape[2:]), layer.pads)
    total, count = (
        functional.avg_pool2d(value, layer.window, layer.strides) for value in (_bordered(x, layer.pads), inside)
    )
    return total / count


def global_avg_pool(_layer: GlobalAvgPool, _weights: Weights, _training: bool, x: Tensor) -> Tensor:
    """(b, c, 1, 1)."""
    return x.mean((2, 3), keepdim=True)


def resize(layer: Resize, _weights: Weights, _training: bool, x: Tensor) -> Tensor:
    """Columns, then rows, as the reference engine does it."""
    for axis, size in ((3, layer.width), (2, layer.height)):
        x = _resized(layer, x, axis, size)
    return x


def _resized(layer: Resize, x: Tensor, axis: int, size: int) -> Tensor:
    import torch

    last, positions = x.shape[axis] - 1, torch.arange(size, dtype=torch.float32, device=x.device)
    scale = last / (size - 1) if layer.align_corners and size > 1 else x.shape[axis] / size
    shift = 0.5 if layer.half_pixel_centers else 0.0

    def taken(indices: Tensor) -> Tensor:
        return x.index_select(axis, indices.long().clamp(0, last))

    if layer.method == "nearest":
        return taken(torch.floor((positions + shift) * scale + (0.5 if layer.align_corners else 0.0)))
    source = (positions + shift) * scale - shift
    floor = torch.floor(source)
    low, high = taken(floor), taken(floor + 1)
    return low + (high - low) * (source - floor).to(x.dtype).reshape(-1, *[1] * (3 - axis))


def pad(layer: Pad, _weights: Weights, _training: bool, x: Tensor) -> Tensor:
    """Constant border."""
    return _bordered(x, layer.pads, layer.value)


def crop(layer: Crop, _weights: Weights, _training: bool, x: Tensor) -> Tensor:
    """A window of rows and columns."""
    return x[:, :, layer.top : layer.top + layer.height, layer.left : layer.left + layer.width]


def fake_quantize(layer: FakeQuantize, _weights: Weights, _training: bool, x: Tensor) -> Tensor:
    """Rounded; the gradient is that of the clipping, as TensorFlow's is."""
    import torch

    step = float(np.float32(layer.step))
    zero = float(np.rint(np.float32(-layer.minimum) / np.float32(layer.step)))
    clipped = x.clamp(float(np.float32(layer.minimum)), float(np.float32(layer.maximum)))
    rounded = torch.floor((clipped - float(np.float32(layer.minimum))) / step - zero + 0.5) * step
    return clipped + (rounded - clipped).detach()


def clip(layer: Clip, _weights: Weights, _training: bool, x: Tensor) -> Tensor:
    """Into minimum..maximum."""
    return x.clamp(layer.minimum, layer.maximum)


KINDS: dict[type, Callable[..., Any]] = {
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
"""Layer kind -> the function that computes it."""


def _padding(x: Tensor, pads: Pads) -> tuple[Tensor, tuple[int, int]]:
    """What the convolution itself can pad, and the value with the rest of its border."""
    top, left, bottom, right = pads
    return (x, (top, left)) if (top, left) == (bottom, right) else (_bordered(x, pads), (0, 0))


def _bordered(x: Tensor, pads: Pads, value: float = 0.0) -> Tensor:
    from torch.nn import functional

    top, left, bottom, right = pads
    return functional.pad(x, (left, right, top, bottom), value=value) if any(pads) else x
