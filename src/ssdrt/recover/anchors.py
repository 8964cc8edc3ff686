"""Anchors and box coder: the graph's own decoder, run on predictions of which the answer says what they are."""

from __future__ import annotations

import numpy as np

from ssdrt.errors import ModelError
from ssdrt.graph import Graph, Node, Ref
from ssdrt.graph.fold import Folder
from ssdrt.model import BoxCoder, Fact, Floats
from ssdrt.postprocess import decode_boxes
from ssdrt.recover.heads import Tail
from ssdrt.recover.outline import Outline


def recover_anchors(parts: Outline, tail: Tail) -> tuple[Fact[Floats], BoxCoder]:
    """The anchors (n, 4) yxyx and the scales of the box coder, proved on random encodings.

    Raises
    ------
    ModelError: the decoder does not compute what a Faster R-CNN box coder does.
    """
    graph = parts.graph
    corners = _decoded(parts)
    zeros = tail.run(np.zeros((tail.rows, 4), np.float32))
    anchors = _anchors(graph, parts, zeros, tail.rows)
    if anchors is None:
        # An optimiser has folded the corners away: encodings of zero decode to the anchors, to rounding.
        at_rest = _as_rows(_need(zeros, corners), tail.rows).astype(np.float32)
        anchors = Fact(np.ascontiguousarray(at_rest), corners.name, "what encodings of zero decode to")
    scales = _scales(graph, parts, corners, zeros, tail)
    generator = np.random.default_rng(0)
    encodings = generator.normal(0, 2, (tail.rows, 4)).astype(np.float32)
    decoded = _as_rows(_need(tail.run(encodings), corners), tail.rows)
    expected = decode_boxes(encodings, anchors.value, scales.value)
    error = np.abs(decoded - expected).max()
    if not (np.isfinite(expected).all() and error <= 1e-4 * max(1.0, float(np.abs(expected).max()))):
        raise ModelError(
            f"the boxes are not decoded as a Faster R-CNN box coder does: {error:.2g} off", node=corners.name
        )
    return anchors, BoxCoder(scales)


def _decoded(parts: Outline) -> Node:
    """Where ymin, xmin, ymax, xmax are put together: the first Pack of four below the exponentials."""
    below = parts.graph.descendants(n.name for n in parts.exponentials)
    packs = [n for n in parts.graph.sorted(below) if n.op == "Pack" and len(n.data) == 4]
    if not packs:
        raise ModelError("the decoded coordinates are never put together", node=parts.exponentials[0].name)
    return packs[0]


def _as_rows(value: Floats, rows: int) -> Floats:
    """Coordinates (4, n), (4, 1, n), ... as (n, 4)."""
    if value.shape[:1] != (4,) or value.size != 4 * rows:
        raise ModelError(f"decoded coordinates of shape {value.shape} for {rows} anchors")
    return np.asarray(value.reshape(4, rows).T)


def _anchors(graph: Graph, parts: Outline, folder: Folder, rows: int) -> Fact[Floats] | None:
    """The corners that the anchors' centres and sizes are computed from: the four-way Unpack above the exponentials'
    constant factors."""
    factors = [ref for exp in parts.exponentials for node in graph.readers[exp.name] for ref in graph.data_inputs(node)]
    above = graph.ancestors(ref.node for ref in factors if ref.node not in {n.name for n in parts.exponentials})
    for node in reversed(graph.sorted(above)):
        if node.op != "Unpack" or node.integer("num") != 4:
            continue
        value = folder.value(graph.data_inputs(node)[0])
        if value is not None and value.size == 4 * rows:
            corners = np.moveaxis(value, node.integer("axis"), 0)
            anchors = np.ascontiguousarray(corners.reshape(4, rows).T, np.float32)
            if np.isfinite(anchors).all():
                source = _origin(graph, node)
                return Fact(anchors, source.name, "evaluated")
    return None


def _origin(graph: Graph, node: Node) -> Node:
    """The node that made the anchors, above what only arranges them."""
    while node.op in ("Unpack", "Transpose", "Reshape", "Tile", "ExpandDims", "Identity") and graph.data_inputs(node):
        node = graph.nodes[graph.data_inputs(node)[0].node]
    return node


def _scales(
    graph: Graph, parts: Outline, corners: Node, zeros: Folder, tail: Tail
) -> Fact[tuple[float, float, float, float]]:
    """How far encodings of one move and stretch the boxes; the exact constants are the divisors next to them."""
    base = _centres(_as_rows(_need(zeros, corners), tail.rows))
    moved = _centres(_as_rows(_need(tail.run(np.ones((tail.rows, 4), np.float32)), corners), tail.rows))
    effects = [(moved[i] - base[i]) / base[2 + i] for i in (0, 1)] + [np.log(moved[i] / base[i]) for i in (2, 3)]
    found = [float(1 / np.median(effect)) for effect in effects]
    decoder = graph.descendants(r.node for r in tail.box_heads) & graph.ancestors([corners.name])
    divisors = [n for n in graph.sorted(decoder) if n.op in ("RealDiv", "Div", "Mul")]
    constants = {
        float(1 / v if n.op == "Mul" else v): n.name  # float32: 1 / 0.1 is 10
        for n in divisors
        for r in n.data
        if (v := zeros.value(r)) is not None and v.ndim == 0
    }
    exact, nodes = [], []
    for value in found:
        near = [c for c in constants if abs(c - value) <= 1e-3 * abs(value)]
        exact.append(near[0] if near else float(f"{value:.6g}"))  # float32 measures no better
        nodes += [constants[near[0]]] if near else []
    node = nodes[0] if nodes else parts.exponentials[0].name
    return Fact((exact[0], exact[1], exact[2], exact[3]), node, "divisors of ty, tx, th, tw")


def _need(folder: Folder, node: Node) -> Floats:
    value = folder.value(Ref(node.name))
    if value is None:
        raise ModelError("the box decoder cannot be evaluated", node=node.name)
    return value


def _centres(boxes: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """(ycentre, xcentre, height, width), each (n,) float64."""
    ymin, xmin, ymax, xmax = boxes.T.astype(np.float64)
    return (ymin + ymax) / 2, (xmin + xmax) / 2, ymax - ymin, xmax - xmin
