"""How a picture becomes the network input: placeholder, resizer (found by trying picture sizes), normalisation."""

from __future__ import annotations

import numpy as np

from ssdrt.errors import ModelError
from ssdrt.graph import Graph, Node, Ref
from ssdrt.graph.fold import Folder
from ssdrt.model import Fact, Normalisation, Pair, Preprocessing, Resizer
from ssdrt.preprocess import network_size
from ssdrt.recover.outline import Outline
from ssdrt.recover.refusal import what_it_seems

_METHODS = {
    "ResizeBilinear": "bilinear", "ResizeNearestNeighbor": "nearest", "ResizeBicubic": "bicubic", "ResizeArea": "area",
}  # fmt: skip
MAX_SIDE = 1 << 15
"""Rows or columns of a picture that a placeholder of fixed shape may take."""

_SQUARE, _WIDE = (1000, 1000), (64, 2000)
_PICTURES = (_SQUARE, _WIDE, (2000, 64), (333, 427), (37, 41))
"""Picture sizes (height, width) that tell the resizers apart."""

UNBOUNDED = 1 << 24
"""max_dimension of a keep_aspect_ratio resizer that has none."""


def recover_preprocessing(parts: Outline) -> Preprocessing:
    """The preprocessing, each value with its node.

    Raises
    ------
    ModelError: a resizer or an arithmetic operation that is not understood.
    """
    placeholder = parts.graph.nodes[parts.image.node]
    shape = placeholder.attributes.get("shape")
    dims = tuple(shape) if isinstance(shape, tuple) and len(shape) == 4 else (None,) * 4
    if any(d is not None and not (isinstance(d, int) and 1 <= d <= MAX_SIDE) for d in dims):
        raise ModelError(f"the placeholder takes pictures of shape {dims}", node=placeholder.name)
    if dims[3] not in (None, 3):
        raise ModelError(f"the placeholder takes {dims[3]} channels, not RGB", node=placeholder.name)
    free = dims[1] is None or dims[2] is None
    pictures = _PICTURES if free else ((dims[1], dims[2]),)
    normalisation = _normalisation(parts)
    return Preprocessing(
        Fact(
            (dims[0], dims[1], dims[2], dims[3]),
            placeholder.name,
            f"{placeholder.text('dtype', 'uint8')} {placeholder.op}",
        ),
        _resizer(parts, pictures, normalisation),
        Fact(normalisation, parts.arithmetic[-1].name if parts.arithmetic else "", "arithmetic on the picture"),
    )


def _resizer(parts: Outline, pictures: tuple[Pair, ...], normalisation: tuple[Normalisation, ...]) -> Fact[Resizer]:
    graph = parts.graph
    nodes = [n for n in graph.sorted(graph.ancestors([parts.pixels.node])) if n.op in _METHODS]
    resized, final = {}, {}
    for picture in pictures:
        folder = Folder(graph, shapes={parts.image: (1, *picture, 3)})
        sizes = [size for n in nodes if (size := folder.value(n.data[1])) is not None and size.shape == (2,)]
        resized[picture] = (int(sizes[-1][0]), int(sizes[-1][1])) if sizes else picture
        shape = folder.shape(parts.pixels)
        if shape is None or len(shape) != 4:
            node = _first_unknown(graph, folder, parts.pixels)
            if node.op.startswith("TensorList"):
                raise ModelError(what_it_seems(graph))
            raise ModelError(f"the resizer is not understood: op {node.op}", node=node.name)
        if shape[3] != 3:
            raise ModelError(f"the network takes {shape[3]} channels, not RGB", node=parts.pixels.node)
        final[picture] = (shape[1], shape[2])
    if not nodes:
        return _no_resizer(parts, pictures, final)
    if len(set(resized.values())) == 1:
        resizer, how = Resizer("fixed_shape", *resized[pictures[0]]), "the same size for every picture"
    else:
        resizer, how = _keep_aspect_ratio(resized, final, nodes[0])
    attributes = nodes[0].attributes
    resizer = Resizer(
        resizer.kind,
        resizer.height,
        resizer.width,
        _METHODS[nodes[0].op],  # type: ignore[arg-type]
        bool(attributes.get("align_corners", False)),
        bool(attributes.get("half_pixel_centers", False)),
        resizer.pad,
        _pad_pixels(parts, normalisation) if resizer.pad else (0.0, 0.0, 0.0),
    )
    if any(network_size(resizer, *picture) != size for picture, size in final.items()):
        raise ModelError(
            "the resizer is neither fixed_shape nor keep_aspect_ratio as the Object Detection API computes them",
            node=nodes[0].name,
        )
    return Fact(resizer, nodes[0].name, how)


def _no_resizer(parts: Outline, pictures: tuple[Pair, ...], final: dict[Pair, Pair]) -> Fact[Resizer]:
    if any(final[p] != p for p in pictures):
        raise ModelError("the picture changes its size without a resize op", node=parts.pixels.node)
    if len(pictures) == 1:
        how = "no resize in the graph, whose input has this size; other pictures are resized to it"
        return Fact(Resizer("fixed_shape", *pictures[0]), parts.image.node, how)
    return Fact(Resizer("none"), parts.image.node, "no resize in the graph")


def _keep_aspect_ratio(resized: dict[Pair, Pair], final: dict[Pair, Pair], node: Node) -> tuple[Resizer, str]:
    """min_dimension is what a square becomes; max_dimension the long side of a very long picture."""
    if _SQUARE not in resized:
        raise ModelError("a resizer that depends on the picture in a graph whose input size is fixed", node=node.name)
    shortest, longest = resized[_SQUARE][0], max(resized[_WIDE])
    bounded = longest < shortest * _WIDE[1] // _WIDE[0]
    pad = any(final[p] != resized[p] for p in resized)
    how = "sizes computed by the graph for pictures of five sizes"
    return Resizer("keep_aspect_ratio", shortest, longest if bounded else UNBOUNDED, pad=pad), how


def _pad_pixels(parts: Outline, normalisation: tuple[Normalisation, ...]) -> tuple[float, float, float]:
    """The padding in pixels: where the graph normalises before it pads, the value that normalisation brings to it."""
    value = np.array(_pad_value(parts), np.float64)
    if any(parts.graph.order[n.name] > parts.graph.order[parts.pixels.node] for n in parts.arithmetic):
        return float(value[0]), float(value[1]), float(value[2])
    undo = {"mul": np.divide, "div": np.multiply, "add": np.subtract, "sub": np.add}
    for step in reversed(normalisation):
        value = undo[step.operation](value, step.operand)
    return float(value[0]), float(value[1]), float(value[2])


def _pad_value(parts: Outline) -> tuple[float, float, float]:
    """The constants of the pads: one for all channels, or one for each of the three that are padded apart."""
    graph = parts.graph
    folder = Folder(graph)
    pads = [n for n in graph.sorted(graph.ancestors([parts.pixels.node])) if n.op in ("Pad", "PadV2")]
    values = []
    for n in pads:
        value = folder.value(n.data[2]) if n.op == "PadV2" and len(n.data) > 2 else np.float32(0)
        if value is None or value.shape != () or value.dtype.kind not in "fiu" or not np.isfinite(value):
            raise ModelError("the padding's value is no constant number", node=n.name)
        values.append(float(value))
    if len(values) == 3:
        stack = next((n for n in graph.of("Pack") if {r.node for r in n.data} == {p.name for p in pads}), None)
        by_name = dict(zip((p.name for p in pads), values, strict=True))
        values = [by_name[r.node] for r in stack.data] if stack else values
        return values[0], values[1], values[2]
    return (values[-1],) * 3 if values else (0.0, 0.0, 0.0)


def _normalisation(parts: Outline) -> tuple[Normalisation, ...]:
    folder = Folder(parts.graph)
    steps = []
    for node in parts.arithmetic:
        steps += _step(folder, node)
    return tuple(steps)


def _step(folder: Folder, node: Node) -> list[Normalisation]:
    """One arithmetic node; `constant - pixels` becomes two steps."""
    first = folder.value(node.data[0]) is None
    operand = folder.value(node.data[1] if first else node.data[0])
    if operand is None or operand.dtype.kind not in "fiu" or np.squeeze(operand).shape not in ((), (3,)):
        raise ModelError("the picture is normalised by something that is no constant", node=node.name)
    operand = np.squeeze(operand).astype(np.float32)
    if not np.isfinite(operand).all() or (not operand.all() and node.op in ("Mul", "RealDiv", "Div")):
        raise ModelError(f"the picture is normalised by {operand}", node=node.name)
    if node.op in ("Add", "AddV2", "BiasAdd"):
        return [Normalisation("add", operand)]
    if node.op == "Mul":
        return [Normalisation("mul", operand)]
    if node.op == "Sub":
        return (
            [Normalisation("sub", operand)]
            if first
            else [Normalisation("mul", np.array(-1, np.float32)), Normalisation("add", operand)]
        )
    if not first:
        raise ModelError("a constant divided by the pixels", node=node.name)
    return [Normalisation("div", operand)]


def _first_unknown(graph: Graph, folder: Folder, ref: Ref) -> Node:
    """The first node on the way to `ref` whose shape does not follow from the picture's."""
    nodes = graph.sorted(graph.ancestors([ref.node]))
    return next(
        (n for n in nodes if n.op != "Placeholder" and folder.shape(Ref(n.name)) is None), graph.nodes[ref.node]
    )
