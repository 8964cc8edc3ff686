"""Everything between the normalised picture and the heads, as layers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ssdrt.errors import ModelError
from ssdrt.graph import Ref
from ssdrt.model import Layer, Pair
from ssdrt.recover.fusion import fuse
from ssdrt.recover.importer import Importer, Shape
from ssdrt.recover.outline import Outline
from ssdrt.recover.rules import RULES


@dataclass(frozen=True)
class Backbone:
    """The layers, the shape (height, width, channels) of each value, and the value that each head output became."""

    layers: tuple[Layer, ...]
    shapes: dict[str, Shape]
    heads: dict[Ref, str]


def recover_backbone(parts: Outline, input_size: Pair) -> Backbone:
    """Import everything the heads compute from, for one size of network input.

    Raises
    ------
    ModelError: an op that is not understood, with its node and the ops that are; weights that are no numbers.
    """
    importer = Importer(parts, input_size, RULES)
    names = importer.run((*parts.box_heads, *parts.score_heads))
    layers = fuse(importer.layers, set(names.values()))
    for layer in layers:
        weights = (value for value in vars(layer).values() if isinstance(value, np.ndarray))
        if not all(np.isfinite(array).all() for array in weights):
            raise ModelError("weights that are NaN or infinite", node=layer.name)
    return Backbone(layers, importer.shapes, names)
