"""Where the parts of an SSD lie in a graph: found by what computes from what, never by names.

The only convolutions below which no other convolution lies are the heads. Those an Exp computes from (the box coder's
exponentials of height and width) predict boxes; the others that reach the scores of the NMS predict classes. Above the
only convolution above which no other lies is the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

from ssdrt.errors import ModelError
from ssdrt.graph import Graph, Node, Ref
from ssdrt.graph.ops import SHAPE_OPS
from ssdrt.recover.refusal import what_it_seems

MAX_HEADS = 64
"""Feature maps of one detector; SSDs have five to eight."""

CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")
NMS_OPS = (
    "NonMaxSuppression", "NonMaxSuppressionV2", "NonMaxSuppressionV3", "NonMaxSuppressionV4", "NonMaxSuppressionV5",
    "CombinedNonMaxSuppression",
)  # fmt: skip
ARITHMETIC = ("Mul", "Sub", "Add", "AddV2", "RealDiv", "Div", "Cast", "Identity", "BiasAdd")
BORDERS = ("Pad", "PadV2", "Concat", "ConcatV2")
VARIABLES = ("Variable", "VariableV2", "VarHandleOp", "ReadVariableOp")
_CHANNELWISE = (
    "FakeQuantWithMinMaxVars",
    "FakeQuantWithMinMaxArgs",
    "FusedBatchNorm",
    "FusedBatchNormV2",
    "FusedBatchNormV3",
)
_BEFORE_FIRST = (*ARITHMETIC, *BORDERS, *_CHANNELWISE)
_AFTER_HEAD = (*ARITHMETIC, *_CHANNELWISE, "Relu", "Relu6", "Maximum", "Minimum")


@dataclass(frozen=True)
class Outline:
    """Outputs and nodes that the other recoverers start from."""

    graph: Graph
    image: Ref  # the batch of uint8 pictures
    pixels: Ref  # of the network input's size
    arithmetic: tuple[Node, ...]  # before the resizer (exports from mid-2020) and after it, in order
    network_input: Ref  # normalised
    box_heads: tuple[Ref, ...]
    score_heads: tuple[Ref, ...]
    exponentials: tuple[Node, ...]  # of the box coder
    nms: tuple[Node, ...]


def outline(graph: Graph) -> Outline:
    """Find the parts.

    Raises
    ------
    ModelError: a part is missing; the message says what the graph seems to be instead.
    """
    nms = tuple(graph.of(*NMS_OPS))
    if not nms or graph.of("CropAndResize") or any(n.op.startswith("_Fused") for n in graph.nodes.values()):
        raise ModelError(what_it_seems(graph))
    boxes_side = graph.ancestors(graph.data_inputs(n)[0].node for n in nms)
    scores_side = graph.ancestors(graph.data_inputs(n)[1].node for n in nms)
    exponentials = tuple(n for n in graph.of("Exp") if n.name in boxes_side)
    if not exponentials:
        raise ModelError(
            "the boxes are not decoded by exponentials: ssdrt knows the Faster R-CNN box coder, which SSDs use",
            node=nms[0].name,
        )
    if any(graph.nodes[name].op in VARIABLES for name in boxes_side):
        raise ModelError(what_it_seems(graph))
    boxes_of = graph.ancestors(n.name for n in exponentials)
    first, last = _first_and_last_convolutions(graph, boxes_side | scores_side)
    box_heads = [n for n in last if n.name in boxes_of]
    score_heads = [n for n in last if n.name in scores_side and n.name not in boxes_of]
    if not 1 <= len(box_heads) <= MAX_HEADS or len(box_heads) != len(score_heads):
        raise ModelError(
            f"{len(box_heads)} convolutions predict boxes, {len(score_heads)} predict classes: no SSD that ssdrt knows",
            node=nms[0].name,
        )
    pixels, arithmetic, network_input = _network_input(graph, first)
    return Outline(
        graph,
        _image(graph, pixels),
        pixels,
        arithmetic,
        network_input,
        tuple(_head_output(graph, n) for n in box_heads),
        tuple(_head_output(graph, n) for n in score_heads),
        exponentials,
        nms,
    )


def _first_and_last_convolutions(graph: Graph, within: set[str]) -> tuple[list[Node], list[Node]]:
    """Convolutions with none above them, and those with none below them, among the nodes `within`."""
    above: dict[str, bool] = {}
    for node in graph.sorted(within):
        sources = [graph.nodes[r.node] for r in graph.data_inputs(node)]
        above[node.name] = any(s.op in CONVOLUTIONS or above[s.name] for s in sources)
    below: dict[str, bool] = {}
    for node in reversed(graph.sorted(within)):
        readers = [n for n in graph.readers[node.name] if n.name in below]
        below[node.name] = any(n.op in CONVOLUTIONS or below[n.name] for n in readers)
    convolutions = [n for n in graph.sorted(within) if n.op in CONVOLUTIONS]
    return [n for n in convolutions if not above[n.name]], [n for n in convolutions if not below[n.name]]


def _network_input(graph: Graph, first: list[Node]) -> tuple[Ref, tuple[Node, ...], Ref]:
    """(pixels, the arithmetic on them, the normalised network input), walking up from the first convolution."""
    if not first:
        raise ModelError("no convolution computes from a picture")
    values = _picture_values(graph, first[0])
    chain: list[Node] = []
    ref = graph.data_inputs(first[0])[0]
    while True:
        node = graph.nodes[ref.node]
        sources = [r for r in graph.data_inputs(node) if r.node in values]
        if node.op not in _BEFORE_FIRST or len(sources) != 1 or node.text("SrcT", "float32") != "float32":
            break
        chain.append(node)
        ref = sources[0]
    pixels = ref
    above = graph.ancestors([pixels.node]) & values
    arithmetic = [n for n in graph.sorted(above) if n.op in ARITHMETIC and n.text("T", "") == "float32"]
    for node in reversed(chain):
        if node.op not in ARITHMETIC:
            break
        arithmetic.append(node)
        ref = Ref(node.name)
    return pixels, tuple(n for n in arithmetic if n.op not in ("Cast", "Identity")), ref


def _picture_values(graph: Graph, reader: Node) -> set[str]:
    """The nodes above `reader` that hold values of the picture, not only sizes computed from its Shape."""
    values: set[str] = set()
    for node in graph.sorted(graph.ancestors([reader.name])):
        from_values = any(ref.node in values for ref in graph.data_inputs(node))
        if node.op == "Placeholder" or (from_values and node.op not in SHAPE_OPS):
            values.add(node.name)
    return values


def _image(graph: Graph, pixels: Ref) -> Ref:
    """The placeholder of the pictures; in a graph that decodes files itself, the decoded picture."""
    above = graph.sorted(graph.ancestors([pixels.node]))
    placeholders = [n for n in above if n.op == "Placeholder"]
    if not placeholders:
        raise ModelError(what_it_seems(graph))
    if len(placeholders) != 1:
        raise ModelError(f"the picture comes from {len(placeholders)} placeholders, not from one")
    if placeholders[0].text("dtype") != "string":
        return Ref(placeholders[0].name)
    casts = [n for n in above if n.op == "Cast" and n.text("SrcT") == "uint8" and n.text("DstT") == "float32"]
    if not casts:
        raise ModelError("the graph decodes its pictures in a way that ssdrt does not know", node=placeholders[0].name)
    return graph.data_inputs(casts[-1])[0]


def _head_output(graph: Graph, node: Node) -> Ref:
    """A head's prediction: after bias, batch norm and fake quantisation, before it is reshaped."""
    while True:
        readers = [n for n in graph.readers[node.name] if n.op not in ("Shape", "ShapeN")]
        if len(readers) != 1 or readers[0].op not in _AFTER_HEAD:
            return Ref(node.name)
        node = readers[0]
