"""Which layers become one step: one function a pattern.

A pattern looks at one layer and says which layers behind it one step computes with it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ssdrt.engines.cuda.emit import SINGLE, add_convolution, add_depthwise, add_head
from ssdrt.engines.cuda.heads import heads_share
from ssdrt.engines.cuda.network import Group, Network
from ssdrt.model import Activation, Add, Affine, Conv, DepthwiseConv, Layer, Pad, Resize


def shared_head(network: Network, layer: Layer, claimed: set[str]) -> Group | None:  # noqa: ARG001
    """Boxes and scores of a map from one product, if that is so for every map."""
    if not heads_share(network):
        return None
    for head in network.model.heads:
        if head.boxes == layer.name:
            return Group((layer, network.layers[head.scores]), add_head)
    return None


def own_head(network: Network, layer: Layer, claimed: set[str]) -> Group | None:  # noqa: ARG001
    """A convolution that makes the boxes or the scores of a map, and nothing else reads it."""
    makes = [name for head in network.model.heads for name in (head.boxes, head.scores) if name == layer.name]
    if not isinstance(layer, Conv) or len(makes) != 1 or network.readers[layer.name]:
        return None
    return Group((layer,), add_head)


def convolution(network: Network, layer: Layer, claimed: set[str]) -> Group | None:
    """A convolution, a sum with something that is there already, an activation, a factor."""
    if not isinstance(layer, Conv):
        return None
    group = Group((layer,), add_convolution)
    return _with_factor(network, _with_activation(network, _with_residual(network, group, claimed), claimed), claimed)


def bordered(network: Network, layer: Layer, claimed: set[str]) -> Group | None:
    """Borders of zeros, one or several, and the convolution behind them, whose own border grows."""
    borders: list[Layer] = []
    behind: Layer | None = layer
    while isinstance(behind, Pad) and behind.value == 0 and behind.name not in claimed:
        borders.append(behind)
        behind = network.only_reader(behind)
    if not borders or behind is None or behind.name in claimed:
        return None
    for pattern in (convolution, depthwise):
        inner = pattern(network, behind, claimed)
        if inner is not None:
            return replace(inner, layers=(*borders, *inner.layers))
    return None


def widened_depthwise(network: Network, layer: Layer, claimed: set[str]) -> Group | None:
    """A depthwise convolution that makes several channels of each, as the dense one it equals; with the 1x1 convolution
    behind it, if nothing stands between, as one (Inception v2's first layer: 7x7x3 to 24 to 64)."""
    if not isinstance(layer, DepthwiseConv) or layer.weights.shape[3] == 1:
        return None
    behind = network.only_reader(layer)
    if isinstance(behind, Conv) and behind.name not in claimed and is_point(behind):
        inner = convolution(network, behind, claimed)
        if inner is not None:
            return replace(inner, layers=(layer, *inner.layers))
    group = Group((layer,), add_convolution)
    return _with_activation(network, group, claimed)


def depthwise(network: Network, layer: Layer, claimed: set[str]) -> Group | None:
    """A depthwise convolution and its activation."""
    if not isinstance(layer, DepthwiseConv) or layer.weights.shape[3] != 1:
        return None
    return _with_activation(network, Group((layer,), add_depthwise), claimed)


def single(network: Network, layer: Layer, claimed: set[str]) -> Group | None:  # noqa: ARG001
    """What no other pattern took: a step of its own."""
    emit = SINGLE.get(type(layer))
    return None if emit is None else Group((layer,), emit)


PATTERNS = (shared_head, own_head, bordered, widened_depthwise, convolution, depthwise, single)
"""Tried one after the other on all layers; what an earlier one took, a later one does not see."""


def is_point(layer: Conv) -> bool:
    """Whether each output pixel depends on the input pixel at its place alone."""
    return layer.weights.shape[:2] == (1, 1) and layer.strides == (1, 1) and not any(layer.pads)


def _with_residual(network: Network, group: Group, claimed: set[str]) -> Group:
    """The sum of what the group makes and another value of the same size, or of half the size and enlarged."""
    last = group.layers[-1]
    behind = network.only_reader(last)
    if not isinstance(behind, Add) or behind.name in claimed:
        return group
    other = next(name for name in behind.inputs if name != last.name)
    if network.shapes[other] != network.shapes[last.name]:
        return group
    layer = network.layers.get(other)
    if isinstance(layer, Resize) and _doubles(network, layer) and network.only_reader(layer) is behind:
        finish = replace(group.finish, upsampling=2)
        return replace(group, layers=(*group.layers, layer, behind), finish=finish, residual=layer.inputs[0])
    return replace(group, layers=(*group.layers, behind), residual=other)


def _doubles(network: Network, layer: Resize) -> bool:
    height, width, _ = network.shapes[layer.inputs[0]]
    return (
        layer.method == "nearest" and not layer.align_corners and (2 * height, 2 * width) == (layer.height, layer.width)
    )


def _with_activation(network: Network, group: Group, claimed: set[str]) -> Group:
    behind = network.only_reader(group.layers[-1])
    if not isinstance(behind, Activation) or behind.name in claimed:
        return group
    finish = replace(group.finish, activation=behind.function)
    return replace(group, layers=(*group.layers, behind), finish=finish)


def _with_factor(network: Network, group: Group, claimed: set[str]) -> Group:
    behind = network.only_reader(group.layers[-1])
    if not isinstance(behind, Affine) or behind.name in claimed or np.ptp(behind.scale) or np.any(behind.offset):
        return group
    finish = replace(group.finish, scale=float(np.ravel(behind.scale)[0]))
    return replace(group, layers=(*group.layers, behind), finish=finish)
