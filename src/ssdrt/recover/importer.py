"""Nodes become layers one after the other: what each output has become, and what that costs to know.

Ops that only move values (Reshape, Pack, Tile, Slice, ... and a product with ones) are not matched by their pattern:
the indices of their input's elements are sent through them, and what comes out says what they do together: nothing, a
nearest-neighbour enlargement (FPN writes it as Reshape, Mul, Reshape or Pack, Pack, Reshape), or a crop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ssdrt.errors import ModelError
from ssdrt.graph import Graph, Node, Ref
from ssdrt.graph.fold import Folder
from ssdrt.graph.ops import MAX_ELEMENTS, OPS, SHAPE_OPS
from ssdrt.model import IMAGE, Crop, Layer, Pair, Resize
from ssdrt.recover.outline import Outline

Shape = tuple[int, int, int]  # height, width, channels

MAX_MAP = 1 << 29
"""Elements of a feature map: 2 GB, a hundred times those of the largest SSD."""


@dataclass(frozen=True)
class Moved:
    """A value on its way through ops that only move: where it came from, and the source index of each element."""

    source: str
    indices: NDArray[np.float32]  # exact: maps of more than MAX_ELEMENTS, 2^24, are not moved


MOVES = (
    "Reshape", "Squeeze", "ExpandDims", "Transpose", "Pack", "Unpack", "Tile", "Slice", "StridedSlice", "Split",
    "SplitV", "Gather", "GatherV2", "BroadcastTo",
)  # fmt: skip
"""Ops that give every element they get, or some, or some twice, and change none."""


class Importer:
    """Walks the nodes in order; `values` says what each output has become."""

    def __init__(self, parts: Outline, input_size: Pair, rules: dict[str, Rule]) -> None:
        self.rules = rules
        self.graph: Graph = parts.graph
        self.folder = Folder(
            parts.graph, shapes={parts.image: (1, *input_size, 3), parts.network_input: (1, *input_size, 3)}
        )
        self.start = parts.network_input
        self.values: dict[Ref, str | Moved] = {parts.network_input: IMAGE}
        self.shapes: dict[str, Shape] = {IMAGE: (*input_size, 3)}
        self.layers: list[Layer] = []
        self.below = self.graph.descendants([parts.network_input.node])

    def run(self, heads: Sequence[Ref]) -> dict[Ref, str]:
        """Import what the heads compute from; the name of each one's value."""
        above = self.graph.ancestors(head.node for head in heads) & self.below
        for node in self.graph.sorted(above):
            ref = Ref(node.name)
            if ref not in self.values and node.name != self.start.node and not self._is_known(ref):
                self._import(node)
        return {head: self.layer_value(head, self.graph.nodes[head.node]) for head in heads}

    def _is_known(self, ref: Ref) -> bool:
        """Whether a node follows from shapes alone (sizes that are computed from Shape)."""
        return self.folder.value(ref) is not None

    def _import(self, node: Node) -> None:
        if not self.variables(node):
            return  # it computes from sizes; whoever takes it for a value says so
        rule = self.rules.get(node.op)
        if rule is not None:
            rule(self, node)
        elif node.op in MOVES:
            self.move(node)
        elif node.op not in (*SHAPE_OPS, "Assert"):
            known = ", ".join(sorted({*self.rules, *MOVES}))
            raise ModelError(f"op {node.op} is not understood; those that are: {known}", node=node.name)

    def _variable(self, ref: Ref) -> bool:
        return ref in self.values

    # --- reading inputs -------------------------------------------------------------------------------------------

    def variables(self, node: Node) -> list[Ref]:
        """The inputs that depend on the picture's pixels."""
        return [r for r in self.graph.data_inputs(node) if self._variable(r)]

    def constant(self, ref: Ref, node: Node) -> NDArray[np.float32]:
        """A constant input as float32."""
        value = self.folder.value(ref)
        if value is None or value.dtype.kind not in "fiu":
            raise ModelError(f"input {ref.node!r} of op {node.op} is no constant number", node=node.name)
        return np.asarray(value, np.float32)

    def number(self, ref: Ref, node: Node) -> float:
        """A constant input of one element."""
        value = self.constant(ref, node)
        if value.size != 1 or np.isnan(value).any():
            raise ModelError(
                f"input {ref.node!r} of op {node.op}: {value.size} elements or NaN, where one number is understood",
                node=node.name,
            )
        return float(value.item())

    def integers(self, ref: Ref, node: Node, count: int) -> list[int]:
        """A constant input of `count` ints."""
        value = self.folder.value(ref)
        if value is None or value.dtype.kind not in "iu" or value.size != count:
            raise ModelError(f"input {ref.node!r} of op {node.op} is no constant of {count} ints", node=node.name)
        return [int(v) for v in np.ravel(value)]

    def layer_value(self, ref: Ref, node: Node) -> str:
        """The name of a value; one that was moved becomes the layer that moves it."""
        value = self.values.get(ref)
        if value is None:
            raise ModelError(f"input {ref.node!r} of op {node.op} does not follow from the picture", node=node.name)
        if isinstance(value, str):
            return value
        name = _moving_layer(self, value, f"{ref.node}:{ref.output}" if ref.output else ref.node, node)
        self.values[ref] = name
        return name

    def source(self, node: Node, index: int = 0) -> str:
        """The name of the value at one input."""
        return self.layer_value(self.graph.data_inputs(node)[index], node)

    # --- writing layers -------------------------------------------------------------------------------------------

    def emit(self, layer: Layer, shape: Shape, ref: Ref) -> None:
        """Add a layer whose value is one of a node's outputs."""
        if min(shape) < 1 or math.prod(shape) > MAX_MAP:
            raise ModelError(f"a feature map of height, width, channels {shape}", node=ref.node)
        self.layers.append(layer)
        self.shapes[layer.name] = shape
        self.alias(ref, layer.name)

    def alias(self, ref: Ref, name: str) -> None:
        """Let an output be a value that is there already."""
        self.values[ref] = name
        self.folder.give_shape(ref, (1, *self.shapes[name]))

    def move(self, node: Node) -> None:
        """Send element indices through an op that only moves."""
        moved = {}
        source = ""
        for ref in self.variables(node):
            value = self.values[ref]
            if isinstance(value, str):
                value = Moved(value, _numbered(self.shapes[value], node))
            if source and value.source != source:
                raise ModelError(f"op {node.op} mixes two feature maps in a way that is not understood", node=node.name)
            source, moved[ref] = value.source, value.indices
        inputs = [moved.get(r, self.folder.value(r)) for r in self.graph.data_inputs(node)]
        if any(x is None for x in inputs):
            raise ModelError(f"op {node.op} depends on something that is no constant", node=node.name)
        try:
            result = OPS[node.op](node, [np.asarray(x) for x in inputs])
        except (ValueError, IndexError, TypeError, OverflowError) as error:
            raise ModelError(f"op {node.op} cannot be evaluated: {error}", node=node.name) from error
        for i, indices in enumerate(result if isinstance(result, tuple) else (result,)):
            self.values[Ref(node.name, i)] = Moved(source, indices)
            self.folder.give_shape(Ref(node.name, i), indices.shape)


def _numbered(shape: Shape, node: Node) -> NDArray[np.float32]:
    """The index of each element of a feature map, (1, *shape)."""
    if math.prod(shape) > MAX_ELEMENTS:
        raise ModelError(f"op {node.op} moves a map of {shape}, which is too large to follow", node=node.name)
    return np.arange(math.prod(shape), dtype=np.float32).reshape(1, *shape)


def _moving_layer(importer: Importer, moved: Moved, name: str, reader: Node) -> str:
    """The layer that moves elements as `moved` says: none, a nearest enlargement or a crop."""
    height, width, channels = importer.shapes[moved.source]
    indices = moved.indices
    if indices.ndim == 4 and indices.shape[0] == 1 and indices.shape[3] == channels and indices.size:
        new_height, new_width = indices.shape[1:3]
        original = _numbered((height, width, channels), reader)
        if indices.shape == original.shape and np.array_equal(indices, original):
            return moved.source
        layer: Layer | None = None
        if new_height % height == 0 and new_width % width == 0:
            enlarged = original.repeat(new_height // height, 1).repeat(new_width // width, 2)
            if np.array_equal(indices, enlarged):
                layer = Resize(name, (moved.source,), new_height, new_width, "nearest")
        top, left = divmod(int(indices.flat[0]) // channels, width)
        if np.array_equal(indices, original[:, top : top + new_height, left : left + new_width]):
            layer = Crop(name, (moved.source,), top, left, new_height, new_width)
        if layer is not None:
            importer.layers.append(layer)
            importer.shapes[name] = (new_height, new_width, channels)
            return name
    raise ModelError(
        "values are moved in a way that is neither an enlargement nor a crop; "
        f"{importer.shapes[moved.source]} became {indices.shape}",
        node=reader.name,
    )


Rule: TypeAlias = Callable[[Importer, Node], None]
"""Makes the layer of one node."""
