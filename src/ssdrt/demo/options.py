"""What can be varied about the demo graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class CellAnchors:
    """A feature map cell's anchors: scale (of the input's short side) and aspect ratio (width / height) of each."""

    scales: tuple[float, ...]
    ratios: tuple[float, ...]

    def sizes(self, input_size: tuple[int, int]) -> NDArray[np.float32]:
        """(n, 2) float32 heights and widths, 0..1 of an input of (height, width)."""
        root, scales = np.sqrt(self.ratios), np.array(self.scales)
        return (np.stack([scales / root, scales * root], 1) * min(input_size) / input_size).astype(np.float32)


@dataclass(frozen=True)
class NmsOptions:
    """See `model.Nms`."""

    score_threshold: float = 1e-8
    iou_threshold: float = 0.6
    soft_nms_sigma: float = 0.0
    max_per_class: int = 20
    max_total: int = 20
    class_agnostic: bool = False
    clip: Literal["after", "before"] = "after"


@dataclass(frozen=True)
class PostprocessorOptions:
    """box_scales: of the box coder: y, x, h, w."""

    score_converter: Literal["sigmoid", "softmax"] = "sigmoid"
    box_scales: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    nms: NmsOptions = field(default_factory=NmsOptions)


@dataclass(frozen=True)
class DemoOptions:
    """What tests vary.

    input_size: (height, width) of the network input; multiples of 16 give the boxes that the weights are made for.
    colours: the classes, of `COLOURS`; class ids count from 1.
    cells: anchors of the two feature maps.
    """

    input_size: tuple[int, int] = (96, 128)
    placeholder_shape: tuple[int | None, int | None, int | None, int | None] = (None, None, None, 3)
    colours: tuple[str, ...] = ("red", "green", "blue")
    cells: tuple[CellAnchors, CellAnchors] = (
        CellAnchors((0.1, 0.25, 0.25), (1.0, 2.0, 0.5)),
        CellAnchors((0.5, 0.5, 0.5, 0.5, 0.5, 0.5**0.5), (1.0, 2.0, 0.5, 3.0, 1 / 3, 1.0)),
    )
    postprocessor: PostprocessorOptions = field(default_factory=PostprocessorOptions)
