"""Anchors: a constant; or, where the network's size depends on the picture, the exporter's generator, as nodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ssdrt.errors import ModelError
from ssdrt.export.builder import GraphBuilder
from ssdrt.export.preprocessor import has_fixed_size
from ssdrt.model import Floats, SsdModel

TOLERANCE = 1e-5
"""How far anchors of a grid, 0..1, may lie from the model's: 0.003 pixels of an input of 300."""


def write_anchors(g: GraphBuilder, model: SsdModel, image: str, feature_maps: Sequence[str]) -> str:
    """(n, 4) yxyx.

    Parameters
    ----------
    image, feature_maps: nodes that have the size of the network input and of each head's grid of cells.

    Raises
    ------
    ModelError: the network's size depends on the picture, and the anchors are no grids that could do so, too.
    """
    if has_fixed_size(model.preprocessing.resizer.value):
        with g.scope("MultipleGridAnchorGenerator"):
            levels = [g.constant(level, "anchors") for level in _levels(model)]
    else:
        levels = _generate(g, image, feature_maps, [_cell_sizes(model, level) for level in range(len(model.heads))])
    with g.scope("Concatenate"):
        return g.concat(levels, 0)


def _levels(model: SsdModel) -> list[Floats]:
    """The anchors of each head."""
    counts = [head.height * head.width * head.anchors_per_cell for head in model.heads]
    return np.split(model.anchors.value, np.cumsum(counts)[:-1])


def _cell_sizes(model: SsdModel, level: int) -> Floats:
    """Height and width (anchors_per_cell, 2) of a head's anchors, 1 being the short side of the network input."""
    head = model.heads[level]
    anchors = _levels(model)[level].reshape(head.height, head.width, -1, 4).astype(np.float64)
    size = (anchors[..., 2:] - anchors[..., :2]).mean((0, 1))
    y, x = (np.arange(head.height) + 0.5) / head.height, (np.arange(head.width) + 0.5) / head.width
    centres = np.stack(np.meshgrid(y, x, indexing="ij"), 2)[:, :, None]
    if np.abs(anchors - np.concatenate([centres - size / 2, centres + size / 2], 3)).max() > TOLERANCE:
        raise ModelError(
            "the network's size depends on the picture, but the anchors are no grid of equal cells: "
            "give the model a fixed_shape resizer",
            node=model.anchors.node,
        )
    relative: Floats = (size * model.input_size / min(model.input_size)).astype(np.float32)
    return relative


def _generate(g: GraphBuilder, image: str, feature_maps: Sequence[str], sizes: Sequence[Floats]) -> list[str]:
    """MultipleGridAnchorGenerator: the anchors of each feature map, from the shapes of these and of the input."""
    grids = [(g.size(value, 1), g.size(value, 2)) for value in feature_maps]
    side = [g.size(image, 1), g.size(image, 2)]
    with g.scope("MultipleGridAnchorGenerator"):
        height, width = (g.op("Cast", size, DstT="float32") for size in side)
        short = g.op("Minimum", height, width)
        base = g.op("RealDiv", short, height), g.op("RealDiv", short, width)
        levels = [_level(g, grid, base, size) for grid, size in zip(grids, sizes, strict=True)]
        return [g.op("Identity", level) for level in levels]


def _level(g: GraphBuilder, grid: tuple[str, str], base: tuple[str, str], sizes: Floats) -> str:
    """The anchors of one feature map, (n, 4), rows y, x, anchor."""
    heights, widths = (g.op("Mul", sizes[:, axis], base[axis]) for axis in (0, 1))
    x, y = _meshgrid(g, _centres(g, grid[1]), _centres(g, grid[0]), ranks=(1, 1))
    all_widths, all_x = _meshgrid(g, widths, x, ranks=(1, 2))
    all_heights, all_y = _meshgrid(g, heights, y, ranks=(1, 2))
    centres = g.op("Reshape", g.stack(all_y, all_x, axis=3), [-1, 2])
    all_sizes = g.op("Reshape", g.stack(all_heights, all_widths, axis=3), [-1, 2])
    corner = g.op("Sub", centres, g.op("Mul", 0.5, all_sizes))
    return g.concat([corner, g.op("AddV2", centres, g.op("Mul", 0.5, all_sizes))], 1)


def _centres(g: GraphBuilder, count: str) -> str:
    """Centres of the cells along one side, 0..1."""
    stride = g.op("RealDiv", 1.0, g.op("Cast", count, DstT="float32"))
    steps = g.op("Cast", g.op("Range", 0, count, 1), DstT="float32")
    return g.op("AddV2", g.op("Mul", steps, stride), g.op("Mul", 0.5, stride))


def _meshgrid(g: GraphBuilder, x: str, y: str, ranks: tuple[int, int]) -> tuple[str, str]:
    """x and y repeated over each other; the axes of y come first. ranks: theirs."""
    with g.scope("Meshgrid"):
        x_shape = g.concat([[1] * ranks[1], g.op("Shape", x)], 0)
        y_shape = g.concat([g.op("Shape", y), [1] * ranks[0]], 0)
        tiled = [g.op("Tile", g.op("Reshape", x, x_shape), y_shape), g.op("Tile", g.op("Reshape", y, y_shape), x_shape)]
    return tiled[0], tiled[1]
