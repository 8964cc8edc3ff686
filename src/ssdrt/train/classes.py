"""Another list of classes for a model: heads that predict it, with the columns of the classes that it knew."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ssdrt.model import Conv, Fact, Floats, LabelMap, Layer, SsdModel

RARE = 0.01
"""Score that a new class starts with everywhere, so that the first steps are not spent on the background."""


def with_classes(model: SsdModel, names: Sequence[str], seed: int) -> SsdModel:
    """The model for these classes, ids from 1 (from 0 if the model counts so).

    A class whose name the model knows keeps its weights, and so its scores, when scores are sigmoids; others start
    with small random weights.
    """
    random = np.random.default_rng(seed)
    old = {name: number - model.label_offset.value for number, name in model.labels.value.names.items()}
    background = model.score_converter.background.value != "none"
    columns = [0] * background + [old[name] + background if name in old else None for name in names]
    heads = {head.scores: head for head in model.heads}
    layers: list[Layer] = []
    for layer in model.layers:
        if isinstance(layer, Conv) and layer.name in heads:
            per_cell = heads[layer.name].anchors_per_cell
            layers.append(_with_columns(layer, per_cell, columns, random))
        else:
            layers.append(layer)
    numbers = {model.label_offset.value + index: name for index, name in enumerate(names)}
    return replace(
        model,
        digest="",
        layers=tuple(layers),
        num_classes=Fact(len(names), "", "trained"),
        labels=Fact(LabelMap(numbers), "", "trained"),
    )


def kept_classes(model: SsdModel, names: Sequence[str]) -> list[tuple[int, int]]:
    """(index among the names, index in the model) of every class that the model knows by its name."""
    old = {name: number - model.label_offset.value for number, name in model.labels.value.names.items()}
    return [(index, old[name]) for index, name in enumerate(names) if name in old]


def _with_columns(layer: Conv, per_cell: int, columns: Sequence[int | None], random: np.random.Generator) -> Conv:
    kernel, bias = layer.weights, layer.bias
    kernel = kernel.reshape(*kernel.shape[:3], per_cell, -1)
    bias = bias.reshape(per_cell, -1)
    new_kernel: Floats = random.normal(0, 0.01, (*kernel.shape[:4], len(columns))).astype(np.float32)
    new_bias = np.full((per_cell, len(columns)), -math.log((1 - RARE) / RARE), np.float32)
    for new, column in enumerate(columns):
        if column is not None:
            new_kernel[..., new], new_bias[:, new] = kernel[..., column], bias[:, column]
    return replace(layer, weights=new_kernel.reshape(*kernel.shape[:3], -1), bias=new_bias.ravel())
