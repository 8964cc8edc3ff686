"""A model for another size of network input: paddings, feature maps and anchors follow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ssdrt.errors import ModelError
from ssdrt.export.layers import same_pads
from ssdrt.model import IMAGE, AvgPool, Conv, Crop, DepthwiseConv, Fact, Floats, Head, MaxPool, Pair, Resize, SsdModel
from ssdrt.statistics import Shape, layer_costs


def with_size(model: SsdModel, size: int) -> SsdModel:
    """The model for pictures resized to size x size; anchors keep their size relative to the picture.

    Raises
    ------
    ModelError: something in the model has a size of its own.
    """
    if model.input_size == (size, size):
        return model
    fixed = next((layer for layer in model.layers if isinstance(layer, (Resize, Crop))), None)
    if fixed is not None:
        raise ModelError(f"--size: the model has a {type(fixed).__name__} to a size of its own", node=fixed.name)
    before = _shapes(model)
    layers: list[Any] = []
    for layer in model.layers:
        if isinstance(layer, (Conv, DepthwiseConv, MaxPool, AvgPool)):
            window, dilations = _window(layer)
            old = before[layer.inputs[0]]
            if layer.pads == same_pads(old, window, layer.strides, dilations):
                so_far = replace(model, layers=tuple(layers), input_size=(size, size))
                new = _shapes(so_far)[layer.inputs[0]]
                layer = replace(layer, pads=same_pads(new, window, layer.strides, dilations))
        layers.append(layer)
    resized = replace(model, layers=tuple(layers), input_size=(size, size))
    shapes = _shapes(resized)
    heads = tuple(replace(one, height=shapes[one.boxes][0], width=shapes[one.boxes][1]) for one in model.heads)
    resizer = model.preprocessing.resizer.value
    shape = model.preprocessing.input.value
    free = (shape[0], shape[1] and size, shape[2] and size, shape[3])
    return replace(
        resized,
        digest="",
        heads=heads,
        anchors=Fact(_anchors(model, heads), "", "of another network size"),
        preprocessing=replace(
            model.preprocessing,
            input=replace(model.preprocessing.input, value=free),
            resizer=Fact(replace(resizer, kind="fixed_shape", height=size, width=size, pad=False), "", "--size"),
        ),
    )


def _shapes(model: SsdModel) -> dict[str, Shape]:
    return {IMAGE: (*model.input_size, 3), **{cost.name: cost.shape for cost in layer_costs(model)}}


def _window(layer: Conv | DepthwiseConv | MaxPool | AvgPool) -> tuple[Pair, Pair]:
    if isinstance(layer, (Conv, DepthwiseConv)):
        return (layer.weights.shape[0], layer.weights.shape[1]), layer.dilations
    return layer.window, (1, 1)


def _anchors(model: SsdModel, heads: tuple[Head, ...]) -> Floats:
    """Those of each cell of the old feature maps, around the centres of the new ones' cells."""
    rows, start = [], 0
    for old, new in zip(model.heads, heads, strict=True):
        count = old.height * old.width * old.anchors_per_cell
        boxes = model.anchors.value[start : start + count].reshape(old.height, old.width, -1, 4)
        start += count
        away = boxes - _centres(old)
        if not np.allclose(away, away[:1, :1], atol=1e-4):
            raise ModelError("--size: the model's anchors do not lie around the centres of its cells")
        rows.append((_centres(new) + away[:1, :1]).reshape(-1, 4))
    return np.concatenate(rows).astype(np.float32)


def _centres(head: Head) -> Floats:
    """(height, width, 1, 4): y, x, y, x of the cells' centres."""
    y, x = ((np.arange(side) + 0.5) / side for side in (head.height, head.width))
    grid = np.stack(np.meshgrid(y, x, indexing="ij"), 2)[:, :, None]
    return np.tile(grid, 2).astype(np.float32)
