"""The order of the heads, and the tail of the graph as a function of what they predict.

Nothing behind the heads is matched by its shape. `Tail` runs the graph's own nodes from given predictions to any point,
and the recoverers compare what comes out with what their reading of it says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssdrt.errors import ModelError
from ssdrt.graph import Graph, Node, Ref
from ssdrt.graph.fold import Folder
from ssdrt.model import Head, Pair
from ssdrt.recover.backbone import Backbone
from ssdrt.recover.outline import Outline

Floats = NDArray[np.float32]

MAX_PREDICTIONS = 12_500_000
"""Class logits of one picture: those of 137,000 anchors and 91 classes, two and a half times the largest SSD's."""


@dataclass(frozen=True)
class Tail:
    """The graph behind the heads, heads sorted as their rows stand in the predictions."""

    graph: Graph
    box_heads: tuple[Ref, ...]
    score_heads: tuple[Ref, ...]
    shapes: dict[Ref, tuple[int, int, int]]  # of the heads: height, width, channels
    rows: int  # anchors
    columns: int  # of the class scores, background included
    given: dict[Ref, tuple[int, ...]]  # shapes that the tail computes from besides: the picture's, the network input's

    def run(self, encodings: Floats, logits: Floats | None = None) -> Folder:
        """A Folder in which the heads predict `encodings` (rows, 4) and `logits` (rows, columns), or no logits."""
        values = self._split(self.box_heads, encodings)
        if logits is not None:
            values |= self._split(self.score_heads, logits)
        return Folder(self.graph, values, self.given)

    def _split(self, heads: tuple[Ref, ...], rows: Floats) -> dict[Ref, Floats]:
        values, at = {}, 0
        for ref in heads:
            height, width, channels = self.shapes[ref]
            count = height * width * channels // rows.shape[1]
            values[ref] = rows[at : at + count].reshape(1, height, width, channels)
            at += count
        return values


def recover_heads(parts: Outline, backbone: Backbone, input_size: Pair) -> tuple[tuple[Head, ...], Tail]:
    """Sort the heads by the rows they fill, and check that the rows run y, x, anchor.

    Raises
    ------
    ModelError: predictions that are put together in another way.
    """
    shapes = {ref: backbone.shapes[name] for ref, name in backbone.heads.items()}
    size = (1, *input_size, 3)
    given: dict[Ref, tuple[int, ...]] = {parts.image: size, parts.network_input: size}
    given |= _feature_map_shapes(parts, backbone)
    boxes = _sorted_heads(parts.graph, parts.box_heads, shapes, given)
    scores = _sorted_heads(parts.graph, parts.score_heads, shapes, given)
    rows = sum(math.prod(shapes[ref]) for ref in boxes) // 4
    columns = sum(math.prod(shapes[ref]) for ref in scores) // max(rows, 1)
    heads = []
    for box, score in zip(boxes, scores, strict=True):
        height, width, channels = shapes[box]
        if channels % 4 or shapes[score] != (height, width, channels // 4 * columns):
            raise ModelError(
                f"a head of {channels} box encodings and {shapes[score][2]} scores: not 4 and {columns} an anchor",
                node=box.node,
            )
        heads.append(Head(backbone.heads[box], backbone.heads[score], height, width, channels // 4))
    return tuple(heads), Tail(parts.graph, boxes, scores, shapes, rows, columns, given)


def _feature_map_shapes(parts: Outline, backbone: Backbone) -> dict[Ref, tuple[int, ...]]:
    """The shapes of feature maps that the anchor generator asks for."""
    return {Ref(name): (1, *shape) for name, shape in backbone.shapes.items() if name in parts.graph.nodes}


def _sorted_heads(
    graph: Graph, heads: tuple[Ref, ...], shapes: dict[Ref, tuple[int, int, int]], given: dict[Ref, tuple[int, ...]]
) -> tuple[Ref, ...]:
    """Number every element of every head, let the graph join them, and read the order off the result."""
    starts, count = {}, 0
    for ref in heads:
        starts[count] = ref
        count += math.prod(shapes[ref])
    if count > MAX_PREDICTIONS:
        raise ModelError(f"{count} predictions for one picture, more than any SSD makes", node=heads[0].node)
    # Scaled to -0.5..0.5, so that a sigmoid on the way (some predictors convert scores themselves) can be undone.
    numbers = np.arange(count) / count - 0.5
    values = {ref: numbers[at : at + math.prod(shapes[ref])].reshape(1, *shapes[ref]) for at, ref in starts.items()}
    joined = _join(graph, heads)
    value = Folder(graph, values, given).value(Ref(joined.name))
    if value is None or value.size != count or value.dtype.kind != "f":
        raise ModelError("the heads' predictions are joined in a way that is not understood", node=joined.name)
    left = value.ravel()
    if left.min() > 0:
        left = np.log(left / (1 - left))
    order: list[Ref] = []
    while left.size:
        first = round((float(left[0]) + 0.5) * count) if np.isfinite(left[0]) else -1
        head = starts.pop(first, None)
        size = math.prod(shapes[head]) if head is not None else 0
        numbered = numbers[first : first + size]
        if head is None or size > left.size or not abs(left[:size] - numbered).max() < 0.4 / count:
            raise ModelError("the heads' rows do not run y, x, anchor", node=joined.name)
        order.append(head)
        left = left[size:]
    return tuple(order)


def _join(graph: Graph, heads: tuple[Ref, ...]) -> Node:
    """The first node that computes from every head; with one head, the head itself."""
    marks = {ref.node: 1 << i for i, ref in enumerate(heads)}
    for node in graph.sorted(graph.descendants(marks)):
        mark = marks.get(node.name, 0)
        for ref in graph.data_inputs(node):
            mark |= marks.get(ref.node, 0)
        if mark == (1 << len(heads)) - 1:
            return node
        marks[node.name] = mark
    raise ModelError("the heads' predictions are never joined", node=heads[0].node)
