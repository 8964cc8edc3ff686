"""A narrower model: of every value's channels the strongest, with their weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdrt.errors import ModelError
from ssdrt.model import IMAGE, Add, Affine, Concat, Conv, DepthwiseConv, Layer, Mul, SsdModel

LEAST = 8  # channels that a value keeps, as MobileNet's min_depth
FULL = 32  # channels of the first convolution of a MobileNet of depth 1

Channels = NDArray[np.int64]


def with_depth(model: SsdModel, depth: float) -> SsdModel:
    """The model as wide as a MobileNet of this depth multiplier, by the channels with the largest weights.

    Its scores are worthless until it is trained; its weights are a better start than random ones.

    Raises
    ------
    ModelError: the model is narrower than that, or its channels are joined or multiplied.
    """
    first = next((layer for layer in model.layers if isinstance(layer, Conv)), None)
    if first is None:
        raise ModelError("the model has no convolution")
    ratio = depth * FULL / first.weights.shape[3]
    if ratio > 1:
        raise ModelError(
            f"--depth {depth:g} is wider than the first model ({first.weights.shape[3] / FULL:g}): channels can be "
            "left out, not added"
        )
    return model if ratio == 1 else _narrower(model, ratio)


def _narrower(model: SsdModel, ratio: float) -> SsdModel:
    ends = {name for head in model.heads for name in (head.boxes, head.scores)}
    group = _groups(model)
    strength: dict[str, NDArray[np.float64]] = {}
    for layer in model.layers:
        if isinstance(layer, Conv):
            norms = np.abs(layer.weights).sum((0, 1, 2), dtype=np.float64)
            strength[group[layer.name]] = strength.get(group[layer.name], 0) + norms
    whole = {group[IMAGE]} | {group[name] for name in ends}
    kept = {
        name: np.arange(len(norms)) if name in whole else _strongest(norms, ratio) for name, norms in strength.items()
    }
    kept[group[IMAGE]] = np.arange(3)
    layers = tuple(_cut(layer, kept[group[layer.inputs[0]]], kept[group[layer.name]]) for layer in model.layers)
    return replace(model, digest="", layers=layers)


def _strongest(norms: NDArray[np.float64], ratio: float) -> Channels:
    count = min(len(norms), max(round(len(norms) * ratio), LEAST))
    return np.sort(np.argsort(-norms, kind="stable")[:count])


def _groups(model: SsdModel) -> dict[str, str]:
    """Of every value the name that all values share whose channels must be left out together."""
    parent: dict[str, str] = {IMAGE: IMAGE}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for layer in model.layers:
        if isinstance(layer, Concat) or (isinstance(layer, DepthwiseConv) and layer.weights.shape[3] != 1):
            raise ModelError(f"--depth cannot follow the channels through a {type(layer).__name__}", node=layer.name)
        parent[layer.name] = layer.name if isinstance(layer, Conv) else root(layer.inputs[0])
        if isinstance(layer, (Add, Mul)):
            parent[root(layer.inputs[1])] = root(layer.inputs[0])
    return {name: root(name) for name in parent}


def _cut(layer: Layer, ins: Channels, outs: Channels) -> Layer:
    if isinstance(layer, Conv):
        return replace(layer, weights=layer.weights[:, :, ins][..., outs], bias=layer.bias[outs])
    if isinstance(layer, DepthwiseConv):
        return replace(layer, weights=layer.weights[:, :, outs], bias=layer.bias[outs])
    if isinstance(layer, Affine):
        parts: dict[str, Any] = {"scale": layer.scale, "offset": layer.offset}
        return replace(layer, **{name: value[outs] if value.ndim else value for name, value in parts.items()})
    return layer
