"""Layers joined where the arithmetic allows: batch norm and bias into their convolution, hard-swish as one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from ssdrt.model import Activation, Affine, Conv, DepthwiseConv, Layer, Mul


def fuse(layers: list[Layer], kept: set[str]) -> tuple[Layer, ...]:
    """The layers with every Affine folded that can be, and unread ones dropped; `kept` values keep their names."""
    return tuple(_fold_affine(_hard_swish(layers, kept), kept))


def _reads(layers: list[Layer], kept: set[str]) -> Counter[str]:
    return Counter([name for layer in layers for name in layer.inputs] + list(kept))


def _fold_affine(layers: list[Layer], kept: set[str]) -> list[Layer]:
    """Conv, then Affine that alone reads it: one Conv under the Affine's name."""
    reads = _reads(layers, kept)
    done: dict[str, Layer] = {}
    for layer in layers:
        before = done.get(layer.inputs[0])
        if isinstance(layer, Affine) and before is not None and reads[before.name] == 1:
            joined = _join(before, layer)
            if joined is not None:
                del done[before.name]
                done[layer.name] = joined
                continue
        done[layer.name] = layer
    return list(done.values())


def _join(before: Layer, affine: Affine) -> Layer | None:
    scale, offset = affine.scale.astype(np.float64), affine.offset.astype(np.float64)
    if isinstance(before, Affine):
        return Affine(
            affine.name,
            before.inputs,
            (before.scale * scale).astype(np.float32),
            (before.offset * scale + offset).astype(np.float32),
        )
    if isinstance(before, (Conv, DepthwiseConv)):
        channels = scale.reshape(before.weights.shape[2:]) if isinstance(before, DepthwiseConv) else scale
        # A scale of exactly one (a bias) keeps the array itself: convolutions that share weights go on sharing them.
        weights = before.weights if np.all(scale == 1) else (before.weights * channels).astype(np.float32)
        return replace(
            before, name=affine.name, weights=weights, bias=(before.bias * scale + offset).astype(np.float32)
        )
    return None


def _hard_swish(layers: list[Layer], kept: set[str]) -> list[Layer]:
    """relu6(x + 3) / 6 as one Activation, and x * relu6(x + 3) / 6 in either order of the product and the division."""
    makers = {layer.name: layer for layer in layers}
    out: list[Layer] = []
    for layer in layers:
        gate = _gate_source(makers, layer)
        product = _product_with_gate(makers, layer)
        if gate is not None:
            layer = Activation(layer.name, (gate,), "hard_sigmoid")
        elif product is not None:
            layer = Activation(layer.name, (product,), "hard_swish")
        makers[layer.name] = layer
        out.append(layer)
    return _without_unread(out, kept)


def _is_sixth(layer: Layer | None) -> bool:
    return isinstance(layer, Affine) and bool(np.all(layer.scale == np.float32(1 / 6)) and not np.any(layer.offset))


def _raised_source(makers: dict[str, Layer], name: str) -> str | None:
    """x, if a value is relu6(x + 3)."""
    clip = makers.get(name)
    if not (isinstance(clip, Activation) and clip.function == "relu6"):
        return None
    raised = makers.get(clip.inputs[0])
    if isinstance(raised, Affine) and np.all(raised.scale == 1) and np.all(raised.offset == 3):
        return raised.inputs[0]
    return None


def _gate_source(makers: dict[str, Layer], layer: Layer) -> str | None:
    """x, if a layer makes relu6(x + 3) / 6."""
    return _raised_source(makers, layer.inputs[0]) if _is_sixth(layer) else None


def _product_with_gate(makers: dict[str, Layer], layer: Layer) -> str | None:
    """x, if a layer makes x * hard_sigmoid(x), or (x * relu6(x + 3)) / 6."""
    if isinstance(layer, Mul):
        for x, gate in (layer.inputs, layer.inputs[::-1]):
            maker = makers.get(gate)
            if isinstance(maker, Activation) and maker.function == "hard_sigmoid" and maker.inputs[0] == x:
                return x
    product = makers.get(layer.inputs[0]) if _is_sixth(layer) else None
    if isinstance(product, Mul):
        for x, gate in (product.inputs, product.inputs[::-1]):
            if _raised_source(makers, gate) == x:
                return x
    return None


def _without_unread(layers: list[Layer], kept: set[str]) -> list[Layer]:
    """The layers that a kept value computes from."""
    needed = set(kept)
    out: list[Layer] = []
    for layer in reversed(layers):
        if layer.name in needed:
            needed.update(layer.inputs)
            out.append(layer)
    return out[::-1]
