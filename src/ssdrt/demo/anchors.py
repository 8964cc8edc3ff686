"""The anchor generator of the exporter (MultipleGridAnchorGenerator), as numbers and as nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssdrt.demo.builder import GraphBuilder


@dataclass(frozen=True)
class CellAnchors:
    """A feature map cell's anchors: scale (of the input's short side) and aspect ratio (width / height) of each."""

    scales: tuple[float, ...]
    ratios: tuple[float, ...]

    def sizes(self, input_size: tuple[int, int]) -> NDArray[np.float32]:
        """(n, 2) float32 heights and widths, 0..1 of an input of (height, width)."""
        root, scales = np.sqrt(self.ratios), np.array(self.scales)
        return (np.stack([scales / root, scales * root], 1) * min(input_size) / input_size).astype(np.float32)


def write_anchors(g: GraphBuilder, image: str, feature_maps: Sequence[str], cells: Sequence[CellAnchors]) -> str:
    """Nodes that compute the anchors, (n, 4) yxyx, from the shapes of the feature maps and of the network input."""
    grids = [(g.size(value, 1), g.size(value, 2)) for value in feature_maps]
    side = [g.size(image, 1), g.size(image, 2)]
    with g.scope("MultipleGridAnchorGenerator"):
        height, width = (g.op("Cast", size, DstT="float32") for size in side)
        short = g.op("Minimum", height, width)
        base = g.op("RealDiv", short, height), g.op("RealDiv", short, width)
        levels = [_level(g, grid, base, cell) for grid, cell in zip(grids, cells, strict=True)]
        levels = [g.op("Identity", level) for level in levels]
    with g.scope("Concatenate"):
        return g.concat(levels, 0)


def _level(g: GraphBuilder, grid: tuple[str, str], base: tuple[str, str], cell: CellAnchors) -> str:
    """The anchors of one feature map, (n, 4), rows y, x, anchor."""
    root = g.op("Sqrt", cell.ratios)
    heights = g.op("Mul", g.op("RealDiv", cell.scales, root), base[0])
    widths = g.op("Mul", g.op("Mul", cell.scales, root), base[1])
    x, y = _meshgrid(g, _centres(g, grid[1]), _centres(g, grid[0]), ranks=(1, 1))
    all_widths, all_x = _meshgrid(g, widths, x, ranks=(1, 2))
    all_heights, all_y = _meshgrid(g, heights, y, ranks=(1, 2))
    centres = g.op("Reshape", g.stack(all_y, all_x, axis=3), [-1, 2])
    sizes = g.op("Reshape", g.stack(all_heights, all_widths, axis=3), [-1, 2])
    corner = g.op("Sub", centres, g.op("Mul", 0.5, sizes))
    return g.concat([corner, g.op("AddV2", centres, g.op("Mul", 0.5, sizes))], 1)


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
