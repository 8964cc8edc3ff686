"""A `.uff` detector as an `SsdModel`, so that it runs on any engine: the converter's way back.

The nodes between `Input` and the heads become TensorFlow's again and go through the same importer as a frozen graph.
The rest is read from the plugins' fields.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ssdrt.errors import GraphError, ModelError
from ssdrt.graph import Graph, Node, Ref
from ssdrt.graph.tensor import Tensor
from ssdrt.legacy.binary import read_uff, write_uff
from ssdrt.legacy.converter import ORDERS
from ssdrt.legacy.facts import KEY, facts_of
from ssdrt.legacy.plugins import NmsPlugin, grid_anchor_of, grid_anchors, nms_of
from ssdrt.legacy.uff import Data, Uff, UffNode, checked_nodes, constant
from ssdrt.model import BoxCoder, Fact, Floats, Head, LabelMap, Nms, Pair, Preprocessing, ScoreConverter, SsdModel
from ssdrt.recover.backbone import Backbone, recover_backbone
from ssdrt.recover.outline import Outline

PASSED_OVER = ("Reshape", "Squeeze", "Flatten", "Identity", "Softmax")
"""What may stand between a head and FlattenConcat; none of it moves an element in memory."""

Nodes = dict[str, UffNode]


def read_model(path: str | Path) -> SsdModel:
    """The detector in a `.uff` file.

    Raises
    ------
    GraphError: the file is damaged or no UFF.
    ModelError: it is no SSD that ends in NMS_TRT, or holds something that is not understood; with the node.
    """
    return model_of(read_uff(path))


def model_of(uff: Uff) -> SsdModel:
    """The detector in a UFF, see `read_model`."""
    nodes = checked_nodes(uff)
    found = [node for node in nodes.values() if node.operation == "_NMS_TRT"]
    if len(found) != 1:
        raise ModelError(f"{len(found)} NMS_TRT plugins in this .uff: no SSD detector that ssdrt can run")
    node, plugin = found[0], nms_of(found[0])
    loc, conf, prior = (nodes[node.inputs[i]] for i in plugin.input_order)
    box_heads, box_way = _heads(nodes, loc)
    score_heads, score_way = _heads(nodes, conf)
    if "Softmax" in box_way:
        raise ModelError("a softmax of box encodings", node=loc.id)
    image, size = _input(nodes)
    backbone = _backbone(uff, nodes, image, size, (*box_heads, *score_heads))
    heads = _joined(backbone, plugin, box_heads, score_heads)
    anchors, box_coder = _anchors(uff, nodes, prior)
    rows = sum(head.height * head.width * head.anchors_per_cell for head in heads)
    if rows != len(anchors.value):
        raise ModelError(f"{rows} predictions and {len(anchors.value)} anchors", node=node.id)
    preprocessing, label_offset, labels = _outside(uff, image, size)
    return SsdModel(
        hashlib.sha256(write_uff(uff)).hexdigest(),
        size,
        preprocessing,
        backbone.layers,
        heads,
        anchors,
        box_coder,
        _score_converter(node, plugin, "Softmax" in score_way),
        Fact(plugin.num_classes - (plugin.background == 0), node.id, "numClasses"),
        _nms(node, plugin, preprocessing.resizer.value.pad),
        label_offset,
        labels,
    )


def _outside(uff: Uff, image: str, size: Pair) -> tuple[Preprocessing, Fact[int], Fact[LabelMap]]:
    """What stands outside the network: preprocessing, label offset, labels."""
    text = uff.extra_fields[KEY].value if KEY in uff.extra_fields else None
    how = "written into the file by ssdrt" if text else "a .uff does not say; what SSDs usually take"
    try:
        resizer, normalisation, offset, labels = facts_of(text, size)
    except (ValueError, TypeError) as error:
        raise GraphError(f"the facts that ssdrt put into this .uff are damaged: {error}") from error
    preprocessing = Preprocessing(
        Fact((1, *size, 3), image, "Input"), Fact(resizer, "", how), Fact(normalisation, "", how)
    )
    return preprocessing, Fact(offset, "", how), Fact(labels, "", how)


def _score_converter(node: UffNode, plugin: NmsPlugin, softmax: bool) -> ScoreConverter:
    if (softmax and plugin.conf_sigmoid) or plugin.background not in (0, -1):
        raise ModelError("scores in a form that ssdrt does not know", node=node.id)
    return ScoreConverter(
        Fact("sigmoid" if plugin.conf_sigmoid else "softmax" if softmax else "identity", node.id, "confSigmoid"),
        Fact(1.0, ""),
        Fact("sliced_after" if plugin.background == 0 else "none", node.id, "backgroundLabelId"),
    )


def _nms(node: UffNode, plugin: NmsPlugin, padded: bool) -> Nms:
    """NMS_TRT as it computes; the window is the picture's part of a padded input, as in `detect.py`."""
    return Nms(
        score_threshold=Fact(plugin.confidence_threshold, node.id, "confidenceThreshold"),
        iou_threshold=Fact(plugin.nms_threshold, node.id, "nmsThreshold"),
        max_per_class=Fact(plugin.top_k, node.id, "topK"),
        max_total=Fact(plugin.keep_top_k, node.id, "keepTopK"),
        class_agnostic=Fact(False, node.id),
        soft_nms_sigma=Fact(0.0, node.id),
        clip=Fact("after", node.id, "NMS_TRT clips what it returns"),
        clip_to_image=Fact(padded, node.id),
        change_coordinate_frame=Fact(padded, node.id),
        drop_zero_area=Fact(padded, node.id),
    )


# --- the parts ------------------------------------------------------------------------------------------------------


def head_of(nodes: Nodes, name: str) -> tuple[str, list[str]]:
    """(the head that an input of FlattenConcat comes from, the operations in between)."""
    way: list[str] = []
    node = nodes[name]
    while node.operation in PASSED_OVER and node.inputs and len(way) < len(nodes):
        way.append(node.operation)
        node = nodes[node.inputs[0]]
    return node.id, way + ["Softmax"] * _joins_softmaxes(nodes, node)


def _joins_softmaxes(nodes: Nodes, node: UffNode) -> bool:
    """Whether a softmax was taken of each anchor apart, as ssdrt writes it."""
    return node.operation == "Concat" and all(nodes[name].operation == "Softmax" for name in node.inputs)


def _heads(nodes: Nodes, source: UffNode) -> tuple[tuple[str, ...], list[str]]:
    joint, way = head_of(nodes, source.id)
    node = nodes[joint]
    if node.operation != "_FlattenConcat_TRT":
        raise ModelError(f"NMS_TRT reads {node.operation!r}; FlattenConcat_TRT was expected", node=node.id)
    found = [head_of(nodes, name) for name in node.inputs]
    return tuple(name for name, _ in found), way + [op for _, ops in found for op in ops]


def _input(nodes: Nodes) -> tuple[str, Pair]:
    """The only Input and its (height, width); its shape is CHW or HWC behind the batch."""
    inputs = [node for node in nodes.values() if node.operation == "Input"]
    shape: tuple[int, ...] = inputs[0].get("shape", ()) if len(inputs) == 1 else ()
    sizes = shape[2:] if len(shape) == 4 and shape[1] == 3 else shape[1:3] if len(shape) == 4 and shape[3] == 3 else ()
    if len(sizes) != 2 or min(sizes) < 1 or max(sizes) > 8192:
        raise ModelError(f"{len(inputs)} inputs, of shape {list(shape)[:8]}: one picture of known size was expected")
    return inputs[0].id, (sizes[0], sizes[1])


def _backbone(uff: Uff, nodes: Nodes, image: str, size: Pair, heads: tuple[str, ...]) -> Backbone:
    todo, seen, back = list(heads), set[str](), list[Node]()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        node = nodes[name]
        if node.operation not in BACK:
            raise ModelError(f"operation {node.operation!r}; those understood: {', '.join(sorted(BACK))}", node=name)
        if name in heads and _joins_softmaxes(nodes, node):
            node = replace(node, inputs=tuple(nodes[each].inputs[0] for each in node.inputs))
        back += BACK[node.operation](uff, node)
        todo += node.inputs
    if image not in seen:
        raise ModelError("the heads do not compute from the picture", node=image)
    refs = tuple(Ref(name) for name in heads)
    start = Ref(image)
    outline = Outline(Graph(back), start, start, (), start, refs, (), (), ())
    return recover_backbone(outline, size)


def _joined(
    backbone: Backbone, plugin: NmsPlugin, box_heads: tuple[str, ...], score_heads: tuple[str, ...]
) -> tuple[Head, ...]:
    heads = []
    for box, score in zip(box_heads, score_heads, strict=False):
        boxes, scores = backbone.heads[Ref(box)], backbone.heads[Ref(score)]
        height, width, channels = backbone.shapes[boxes]
        if channels % 4 or backbone.shapes[scores] != (height, width, channels // 4 * plugin.num_classes):
            raise ModelError(
                f"heads of shape {backbone.shapes[boxes]} and {backbone.shapes[scores]} do not fit "
                f"{plugin.num_classes} classes",
                node=box,
            )
        heads.append(Head(boxes, scores, height, width, channels // 4))
    if len(box_heads) != len(score_heads) or not heads:
        raise ModelError(f"{len(box_heads)} box heads and {len(score_heads)} class heads")
    return tuple(heads)


def _anchors(uff: Uff, nodes: Nodes, prior: UffNode) -> tuple[Fact[Floats], BoxCoder]:
    """Anchors and the scales of the box coder, from GridAnchor or a constant in its layout."""
    node = prior
    while node.operation in ("Concat", "Identity") and len(node.inputs) == 1:
        node = nodes[node.inputs[0]]
        if node is prior:
            break
    if node.operation in ("_GridAnchor_TRT", "_GridAnchorRect_TRT"):
        tensor, how = np.concatenate(grid_anchors(grid_anchor_of(node)), 1), "computed as GridAnchor_TRT does"
    elif node.operation == "Const":
        tensor, how = constant(uff, node).astype(np.float32), "a constant of this file"
    else:
        raise ModelError(f"anchors from operation {node.operation!r}, not GridAnchor_TRT or a constant", node=node.id)
    if tensor.ndim < 2 or tensor.size % 8 or tensor.size == 0 or tensor.shape[0] != 2 or not np.isfinite(tensor).all():
        raise ModelError(f"anchors of shape {tensor.shape}", node=node.id)
    corners, variances = tensor.reshape(2, -1, 4)
    if (variances != variances[0]).any() or (variances <= 0).any():
        raise ModelError("variances that differ from anchor to anchor", node=node.id)
    anchors = np.ascontiguousarray(corners[:, [1, 0, 3, 2]])
    x, y, w, h = (float(np.float32(1 / v)) for v in variances[0].tolist())
    return Fact(anchors, node.id, how), BoxCoder(Fact((y, x, h, w), node.id, "1 / variance"))


# --- operations back to TensorFlow's --------------------------------------------------------------------------------

Back = Callable[[Uff, UffNode], list[Node]]


def _node(node: UffNode, op: str, **attributes: Any) -> list[Node]:
    return [Node(node.id, op, node.inputs, attributes)]


def _plain(op: str) -> Back:
    return lambda _, node: _node(node, op)


def _const(uff: Uff, node: UffNode) -> list[Node]:
    array = constant(uff, node)
    content = memoryview(uff.referenced_data[node.get("values")].value)
    return _node(node, "Const", value=Tensor(array.dtype.name, array.shape, content, np.empty(0, array.dtype), 0))


def _with_integers(node: UffNode, op: str, name: str, values: Any, **attributes: Any) -> list[Node]:
    """A node whose last input is a constant that UFF keeps in a field."""
    array = np.array(values, np.int32)
    extra = f"{node.id}/{name}"
    tensor = Tensor("int32", array.shape, memoryview(array.astype("<i4").tobytes()), np.empty(0, np.int32), 0)
    return [
        Node(node.id, op, (*node.inputs, extra), {**attributes, "N": len(node.inputs)}),
        Node(extra, "Const", (), {"value": tensor}),
    ]


def _window(uff: Uff, node: UffNode) -> dict[str, Any]:
    """Attributes of a convolution or pool, of NHWC data and HWIO weights."""
    names = ("N+C", "+CK")[: 2 if node.operation == "Conv" else 1]
    expected = Data("dim_orders_list", tuple({-1: ORDERS[name]} for name in names))
    if uff.referenced_data.get(node.get("inputs_orders"), expected) != expected:
        raise ModelError("data that is not NHWC, or weights that are not HWIO", node=node.id)
    attributes: dict[str, Any] = {}
    for key, name in (("strides", "strides"), ("dilation", "dilations"), ("kernel", "ksize")):
        values = node.get(key)
        if values is not None and len(values) == 2:
            attributes[name] = (1, *values, 1)
    padding = node.get("padding")
    if node.get("implicit_padding") == "same":
        return {**attributes, "padding": b"SAME"}
    if padding is not None and len(padding) == 2:
        return {
            **attributes,
            "padding": b"EXPLICIT",
            "explicit_paddings": (0, 0, *np.repeat(padding, 2).tolist(), 0, 0),
        }
    return {**attributes, "padding": b"VALID"}


def _convolution(uff: Uff, node: UffNode) -> list[Node]:
    groups = node.get("number_groups", 1)
    return _node(node, "DepthwiseConv2dNative" if groups > 1 else "Conv2D", **_window(uff, node))


def _pool(uff: Uff, node: UffNode) -> list[Node]:
    return _node(node, "MaxPool" if node.get("func") == "max" else "AvgPool", **_window(uff, node))


def _batch_norm(_: Uff, node: UffNode) -> list[Node]:
    return _node(node, "FusedBatchNorm", is_training=False, epsilon=node.get("epsilon", 1e-4))


_FUNCTIONS = {
    "Binary": {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "RealDiv", "min": "Minimum", "max": "Maximum"},
    "Unary": {name: name.capitalize() for name in ("neg", "exp", "log", "abs", "sqrt", "rsqrt", "square")},
    "Activation": {"relu": "Relu", "relu6": "Relu6", "sigmoid": "Sigmoid"},
    "Reduce": {"mean": "Mean"},
}


def _function(_: Uff, node: UffNode) -> list[Node]:
    functions = _FUNCTIONS[node.operation]
    op = functions.get(str(node.get("func")))
    if op is None:
        known = ", ".join(functions)
        raise ModelError(f"{node.operation} of function {node.get('func')!r}; those understood: {known}", node=node.id)
    if node.operation == "Reduce":  # NVIDIA's parser keeps the reduced axes, whatever the field says
        return _with_integers(node, op, "axes", node.get("axes", ()), keep_dims=True)
    return _node(node, op)


BACK: dict[str, Back] = {
    "Input": _plain("Placeholder"),
    "Identity": _plain("Identity"),
    "Pad": _plain("Pad"),
    "Const": _const,
    "Conv": _convolution,
    "Pool": _pool,
    "BatchNorm": _batch_norm,
    "Concat": lambda _, node: _with_integers(node, "ConcatV2", "axis", node.get("axis", 3)),
    **dict.fromkeys(_FUNCTIONS, _function),
}
"""UFF operation -> the TensorFlow nodes it stands for."""
