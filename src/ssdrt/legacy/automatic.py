"""The surgery without a script: what TensorRT cannot run is replaced by plugins, all of it read from the `SsdModel`.

Between the normalised picture (`Input`) and the heads the graph's own nodes stay. What follows from constants alone
becomes a constant, so most of the old recipes' fix-ups have nothing left to fix. Everything else is new: reshaped
heads, FlattenConcat_TRT, anchors, NMS_TRT.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ssdrt.errors import ModelError
from ssdrt.graph import Graph, Node, Ref
from ssdrt.graph.fold import Folder
from ssdrt.graph.tensor import Tensor
from ssdrt.legacy.plugins import MAX_TOP_K, GridAnchor, grid_anchors, prior_tensor
from ssdrt.model import Conv, Fact, Head, SsdModel
from ssdrt.recover.backbone import recover_backbone
from ssdrt.recover.outline import outline

Target = Literal["trt6", "trt8"]
"""TensorRT 5 and 6 with libflattenconcat.so, or 7 to 8.6 with their own FlattenConcat_TRT."""

ANCHOR_TOLERANCE = 1e-4  # of the input's size: 0.03 pixels of 300

_PASSED_OVER = ("Identity", "StopGradient", "CheckNumerics", "PlaceholderWithDefault", "Snapshot")
_RENAMED = {
    "AddV2": "Add", "FusedBatchNormV2": "FusedBatchNorm", "FusedBatchNormV3": "FusedBatchNorm", "RealDiv": "Div",
}  # fmt: skip
_TRUNK_OPS = (
    "Conv2D", "DepthwiseConv2dNative", "BiasAdd", "FusedBatchNorm", "Relu", "Relu6", "Sigmoid", "Add", "Sub", "Mul",
    "Div", "Maximum", "Minimum", "MaxPool", "AvgPool", "ConcatV2", "Pad", "Mean",
)  # fmt: skip


def plugin_graph(graph: Graph, model: SsdModel, target: Target) -> list[Node]:
    """The nodes of the graph that the converter writes; its output is `NMS`.

    Parameters
    ----------
    model: what was recovered from `graph`, for the input size that the file is for.

    Raises
    ------
    ModelError: the limit of UFF or of a plugin that stops this graph, with the node.
    """
    _refuse(model)
    parts = outline(graph)
    shapes = recover_backbone(parts, model.input_size).shapes
    trunk = _Trunk(graph, parts.network_input, shapes)
    softmax = model.score_converter.function.value == "softmax"
    ends = [name for head in model.heads for name in (head.boxes, trunk.read_by(head) if softmax else head.scores)]
    nodes = list(trunk.nodes(ends))
    height, width = model.input_size
    nodes.append(Node("Input", "Placeholder", (), {"dtype": "float32", "shape": (1, 3, height, width)}))
    boxes, scores = [], []
    for head in model.heads:
        rows = head.height * head.width * head.anchors_per_cell
        boxes.append(_reshaped(nodes, head.boxes, (rows, 1, 4)))
        logits = _softmax(nodes, trunk, model, head) if softmax else head.scores
        scores.append(_reshaped(nodes, logits, (rows, model.logit_columns)))
    flatten: dict[str, Any] = {"axis_u_int": 1, "ignoreBatch_u_int": 0} if target == "trt8" else {}
    nodes.append(Node("concat_box_loc", "FlattenConcat_TRT", tuple(boxes), {"dtype": "float32", **flatten}))
    nodes.append(Node("concat_box_conf", "FlattenConcat_TRT", tuple(scores), {"dtype": "float32", **flatten}))
    nodes += _priors(model, target)
    nodes.append(Node("NMS", "NMS_TRT", ("concat_box_loc", "concat_priorbox", "concat_box_conf"), _nms(model)))
    return nodes


def _refuse(model: SsdModel) -> None:
    """What NMS_TRT cannot do."""
    nms, converter = model.nms, model.score_converter
    limits: list[tuple[Fact[Any], bool, str]] = [
        (nms.class_agnostic, nms.class_agnostic.value, "NMS over all classes together"),
        (nms.soft_nms_sigma, nms.soft_nms_sigma.value > 0, "soft NMS"),
        (converter.logit_scale, converter.logit_scale.value != 1, "logits that are scaled"),
        (nms.max_total, nms.max_total.value > MAX_TOP_K, f"more than {MAX_TOP_K} detections"),
    ]
    for fact, wrong, what in limits:
        if wrong:
            raise ModelError(f"NMS_TRT has no {what}: this graph cannot go through UFF", node=fact.node)


def differences(model: SsdModel) -> list[str]:
    """What TensorRT does otherwise than this graph, one sentence each."""
    nms = model.nms
    found = []
    if model.score_converter.function.value == "softmax":
        found.append(
            "TensorRT 8.6's UFF parser took the softmax over the wrong dimension, and the form that is written now has "
            "not been run there: compare the scores before you rely on them"
        )
    if nms.clip.value == "before":
        found.append("NMS_TRT clips boxes after the suppression, the graph before: it may keep others at the borders")
    if nms.max_per_class.value < nms.max_total.value:
        found.append(f"NMS_TRT has no limit of boxes a class; the graph's, {nms.max_per_class.value}, is lost")
    if len(model.anchors.value) > MAX_TOP_K:
        found.append(f"NMS_TRT looks at {MAX_TOP_K} candidates of a class, the graph at {len(model.anchors.value)}")
    resizer = model.preprocessing.resizer.value
    if resizer.kind != "fixed_shape" and not resizer.pad:
        height, width = model.input_size
        found.append(
            f"the input's size depends on the picture; this .uff is for {height}x{width}, others are stretched"
        )
    return found


def _constant(name: str, array: NDArray[Any]) -> Node:
    content = memoryview(array.astype(array.dtype.newbyteorder("<"), order="C").tobytes())
    tensor = Tensor(array.dtype.name, array.shape, content, np.empty(0, array.dtype), 0)
    return Node(name, "Const", (), {"dtype": array.dtype.name, "value": tensor})


# --- the trunk ------------------------------------------------------------------------------------------------------


@dataclass
class _Trunk:
    """The nodes between the network input and the heads, as the converter and TensorRT take them."""

    graph: Graph
    network_input: Ref
    shapes: dict[str, tuple[int, int, int]]  # (height, width, channels) of every value

    def __post_init__(self) -> None:
        self.folder = Folder(self.graph)

    def nodes(self, ends: list[str]) -> Iterator[Node]:
        """Each once, those named first."""
        todo = list(ends)
        seen = {"Input"}
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            for node in self._rewritten(self.graph.nodes[name]):
                yield node
                todo += [text for text in node.inputs if text in self.graph.nodes]

    def convolution(self, head: Head) -> Node:
        """The Conv2D that class logits come from.

        Raises
        ------
        ModelError: they come from something else.
        """
        node = self.graph.nodes[head.scores]
        while node.op in ("BiasAdd", "Add", "AddV2", *_PASSED_OVER):
            node = self.graph.nodes[self.graph.data_inputs(node)[0].node]
        if node.op != "Conv2D":
            raise ModelError(f"a softmax of what {node.op} computes, where a convolution was expected", node=node.name)
        return node

    def read_by(self, head: Head) -> str:
        """What that Conv2D reads."""
        return self._source(self.graph.data_inputs(self.convolution(head))[0])

    def _rewritten(self, node: Node) -> list[Node]:
        value = self.folder.value(Ref(node.name))
        if value is not None:
            return [_constant(node.name, value)]
        op = _RENAMED.get(node.op, node.op)
        inputs = tuple(self._source(ref) for ref in self.graph.data_inputs(node))
        if op not in _TRUNK_OPS:
            raise ModelError(
                f"op {node.op} between the picture and the heads: TensorRT's UFF parser has nothing for it",
                node=node.name,
            )
        if op == "ConcatV2":
            border = self._border(node)
            if border is not None:
                data, widths = border
                paddings = _constant(f"{node.name}/paddings", np.array(widths, np.int32))
                return [Node(node.name, "Pad", (self._source(data), paddings.name), {}), paddings]
        if op == "Mean":
            # The parser's Reduce changes the order of the dimensions; a pool over the whole map does not.
            height, width, _ = self.shapes[inputs[0]]
            window: dict[str, Any] = {"ksize": (1, height, width, 1), "strides": (1, 1, 1, 1), "padding": b"VALID"}
            return [Node(node.name, "AvgPool", inputs[:1], window)]
        return [Node(node.name, op, inputs, node.attributes)]

    def _source(self, ref: Ref) -> str:
        """The name of what a node reads: identities, and joints with nothing, are looked through."""
        while ref != self.network_input:
            node = self.graph.nodes[ref.node]
            border = self._border(node) if node.op == "ConcatV2" else None
            if node.op in _PASSED_OVER and self.folder.value(ref) is None:
                ref = self.graph.data_inputs(node)[0]
            elif border is not None and not np.any(border[1]):
                ref = border[0]
            else:
                return ref.node
        return "Input"

    def _border(self, node: Node) -> tuple[Ref, list[list[int]]] | None:
        """What a Concat adds zeros to and how many, as exports of 2017 pad: (value, before and after of each axis)."""
        *parts, axis_ref = self.graph.data_inputs(node)
        values = [self.folder.value(ref) for ref in parts]
        axis = self.folder.value(axis_ref)
        unknown = [i for i, value in enumerate(values) if value is None]
        if axis is None or len(unknown) != 1 or any(value is not None and np.any(value) for value in values):
            return None
        at, where = unknown[0], int(axis) % 4
        widths = [[0, 0] for _ in range(4)]
        for i, value in enumerate(values):
            if value is not None:
                widths[where][i > at] += value.shape[where]
        return parts[at], widths


# --- heads, anchors, NMS --------------------------------------------------------------------------------------------


def _reshaped(nodes: list[Node], source: str, shape: tuple[int, ...], name: str = "Reshape") -> str:
    """Rows of a head, y, x, anchor. All sizes are given: the parser takes no unknown one beside the batch."""
    reshaped = f"{source}/{name}"
    nodes.append(Node(reshaped, "Reshape", (source, f"{reshaped}/shape"), {}))
    nodes.append(_constant(f"{reshaped}/shape", np.array((-1, *shape), np.int32)))
    return reshaped


def _softmax(nodes: list[Node], trunk: _Trunk, model: SsdModel, head: Head) -> str:
    """Scores of a head as one map, in the order of its logits. NMS_TRT knows the sigmoid alone.

    Each anchor gets a convolution of its own, whose channels are the classes. Where the node does not say that these
    come first, TensorRT 8.6's parser turns the map to height, width, channels and takes the softmax over the height.
    """
    layer = next((one for one in model.layers if one.name == head.scores), None)
    if not isinstance(layer, Conv):
        raise ModelError("a softmax of logits that are no convolution", node=head.scores)
    conv, source, columns = trunk.convolution(head), trunk.read_by(head), model.logit_columns
    kept = ("strides", "padding", "dilations", "data_format")
    attributes = {key: conv.attributes[key] for key in kept if key in conv.attributes}
    found = []
    for anchor in range(head.anchors_per_cell):
        name, part = f"{head.scores}/anchor_{anchor}", slice(anchor * columns, (anchor + 1) * columns)
        nodes.append(_constant(f"{name}/weights", layer.weights[..., part]))
        nodes.append(_constant(f"{name}/biases", layer.bias[part]))
        nodes.append(Node(f"{name}/Conv2D", "Conv2D", (source, f"{name}/weights"), attributes))
        nodes.append(Node(name, "BiasAdd", (f"{name}/Conv2D", f"{name}/biases"), {}))
        nodes.append(Node(f"{name}/Softmax", "Softmax", (name,), {"data_format": "NCHW"}))
        found.append(f"{name}/Softmax")
    joint = f"{head.scores}/Softmax"
    nodes.append(_constant(f"{joint}/axis", np.array(3, np.int32)))
    nodes.append(Node(joint, "ConcatV2", (*found, f"{joint}/axis"), {}))
    return joint


def _nms(model: SsdModel) -> dict[str, Any]:
    """NMS_TRT's parameters, all of them: what is not sent is left over from the plugin built before.

    TensorFlow's cap of boxes a class counts what is kept; topK counts candidates, so all anchors may be.
    """
    nms, converter = model.nms, model.score_converter
    return {
        "dtype": "float32",
        "shareLocation_u_int": 1,
        "varianceEncodedInTarget_u_int": 0,
        "backgroundLabelId_u_int": -1 if converter.background.value == "none" else 0,
        "confidenceThreshold_u_float": _single(max(nms.score_threshold.value, -1e30)),
        "nmsThreshold_u_float": _single(nms.iou_threshold.value),
        "topK_u_int": max(min(len(model.anchors.value), MAX_TOP_K), nms.max_total.value),
        "keepTopK_u_int": nms.max_total.value,
        "numClasses_u_int": model.logit_columns,
        "inputOrder_u_ilist": (0, 2, 1),
        "confSigmoid_u_int": int(converter.function.value == "sigmoid"),
        "isNormalized_u_int": 1,
        "codeType_u_int": 3,
    }


def _single(value: float) -> float:
    return float(np.float32(value))


def variance(model: SsdModel) -> tuple[float, ...]:
    """The box coder's scales as NMS_TRT's variances, in the order x, y, w, h."""
    y, x, h, w = model.box_coder.scales.value
    return tuple(_single(1 / scale) for scale in (x, y, w, h))


def _priors(model: SsdModel, target: Target) -> list[Node]:
    """concat_priorbox: from the plugin where it makes these anchors, else the anchors themselves."""
    fitted = fit_grid_anchor(model)
    if fitted is None or (target == "trt6" and any(height != width for height, width in fitted.maps)):
        anchors = np.ascontiguousarray(model.anchors.value[:, [1, 0, 3, 2]])
        return [_constant("concat_priorbox", prior_tensor(anchors, variance(model)))]
    rect = any(height != width for height, width in fitted.maps)
    sizes = [size for pair in fitted.maps for size in (pair if rect else pair[:1])]
    attributes: dict[str, Any] = {
        "dtype": "float32",
        "numLayers_u_int": len(fitted.maps),
        "minSize_u_float": _single(fitted.min_size),
        "maxSize_u_float": _single(fitted.max_size),
        "aspectRatios_u_flist": tuple(_single(ratio) for ratio in fitted.aspect_ratios),
        "variance_u_flist": fitted.variance,
        "featureMapShapes_u_ilist": tuple(sizes),
    }
    op = "GridAnchorRect_TRT" if rect else "GridAnchor_TRT"
    # The plugin does not look at its input, but the parser fails on a plugin that has none.
    return [
        _constant("AnchorInput", np.ones(2, np.float32)),
        Node("GridAnchor", op, ("AnchorInput",), attributes),
        Node("concat_priorbox", "ConcatV2", ("GridAnchor",), {"axis": 2}),
    ]


def fit_grid_anchor(model: SsdModel) -> GridAnchor | None:
    """Parameters with which GridAnchor makes the graph's anchors, within 1e-4; None when there are none."""
    cells = [head.anchors_per_cell for head in model.heads]
    if len(cells) < 2 or cells[0] != 3 or len(set(cells[1:])) != 1 or cells[1] < 4:
        return None
    starts = np.cumsum([0] + [head.height * head.width * head.anchors_per_cell for head in model.heads])
    sizes = model.anchors.value[:, 2:] - model.anchors.value[:, :2]
    scales = np.sqrt(sizes.prod(1))
    ratios = sizes[starts[1] : starts[1] + cells[1] - 1, 1] / sizes[starts[1] : starts[1] + cells[1] - 1, 0]
    for digits in (4, 9):  # as a configuration has them, or as they are
        found = GridAnchor(
            round(float(scales[1]), digits),
            round(float(scales[starts[-2]]), digits),
            tuple(round(float(ratio), digits) for ratio in ratios),
            tuple((head.height, head.width) for head in model.heads),
            variance(model),
        )
        made = np.concatenate([one[0, :, 0].reshape(-1, 4) for one in grid_anchors(found)])
        if np.abs(made[:, [1, 0, 3, 2]] - model.anchors.value).max() <= ANCHOR_TOLERANCE:
            return found
    return None
