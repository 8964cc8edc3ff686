"""TensorRT's SSD plugins in numpy, layout for layout and quirk for quirk: GridAnchor, FlattenConcat, NMS.

Source: the published behaviour of NVIDIA/TensorRT 5.1 to 8.6 (plugin/gridAnchorPlugin, flattenConcat, nmsPlugin). Boxes
are (xmin, ymin, xmax, ymax) here, as the plugins have them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdrt.errors import ModelError
from ssdrt.legacy.uff import UffNode
from ssdrt.postprocess import sigmoid

Floats = NDArray[np.float32]

MAX_TOP_K = 4096
"""Candidates of one class that NMS_TRT can hold: 512 threads of 8."""

MAX_ANCHORS = 1 << 20  # of a file; the largest SSD known has 51,150

VARIANCE = (0.1, 0.1, 0.2, 0.2)


@dataclass(frozen=True)
class GridAnchor:
    """Parameters of GridAnchor_TRT and GridAnchorRect_TRT. maps: (height, width) of each feature map."""

    min_size: float
    max_size: float
    aspect_ratios: tuple[float, ...]
    maps: tuple[tuple[int, int], ...]
    variance: tuple[float, ...] = VARIANCE


def grid_anchor_of(node: UffNode) -> GridAnchor:
    """The parameters that a node holds.

    Raises
    ------
    ModelError: one is missing or impossible.
    """
    sizes, count = node.get("featureMapShapes", ()), node.get("numLayers", 0)
    rect = node.operation == "_GridAnchorRect_TRT"
    maps = tuple(zip(sizes[::2], sizes[1::2], strict=False)) if rect else tuple((size, size) for size in sizes)
    found = GridAnchor(
        node.get("minSize", 0.0), node.get("maxSize", 0.0), node.get("aspectRatios", ()), maps, node.get("variance", ())
    )
    cells = sum(height * width for height, width in maps)
    if len(maps) != count or count < 2 or min(map(min, maps)) < 1 or cells * len(found.aspect_ratios) > MAX_ANCHORS:
        raise ModelError(f"{count} layers and feature maps {list(sizes)[:12]}", node=node.id)
    if len(found.variance) != 4 or len(found.aspect_ratios) < 3 or not min(found.aspect_ratios) > 0:
        raise ModelError("aspect ratios or variance that the plugin cannot compute with", node=node.id)
    return found


def grid_anchors(p: GridAnchor) -> list[Floats]:
    """The outputs, one a feature map: (2, height * width * anchors * 4, 1), corners and then variances.

    The first map has three anchors a cell, of scale 0.1, min_size and min_size; the others one of each aspect ratio,
    and a square one whose scale is the geometric mean of this map's and the next one's, 1 behind the last. Nothing is
    clipped.
    """
    count = len(p.maps)
    scales = [p.min_size + (p.max_size - p.min_size) * k / (count - 1) for k in range(count)] + [1.0]
    outputs = []
    for k, (height, width) in enumerate(p.maps):
        if k == 0:
            pairs = list(zip((0.1, scales[0], scales[0]), p.aspect_ratios, strict=False))
        else:
            pairs = [(scales[k], ratio) for ratio in p.aspect_ratios]
            pairs.append(((scales[k] * scales[k + 1]) ** 0.5, 1.0))
        halves = np.array([(s * r**0.5 / 2, s / r**0.5 / 2) for s, r in pairs])
        y, x = np.indices((height, width))
        centres = np.stack(((x + 0.5) / width, (y + 0.5) / height), -1)[:, :, None]
        corners = np.concatenate((centres - halves, centres + halves), -1)
        outputs.append(prior_tensor(corners.reshape(-1, 4).astype(np.float32), p.variance))
    return outputs


def prior_tensor(anchors_xyxy: Floats, variance: tuple[float, ...]) -> Floats:
    """(2, n * 4, 1) of anchors (n, 4): what NMS_TRT reads as its priors."""
    variances = np.tile(np.array(variance, np.float32), len(anchors_xyxy))
    return np.stack((anchors_xyxy.ravel(), variances))[:, :, None]


def flatten_concat(inputs: list[Floats]) -> Floats:
    """FlattenConcat_TRT along axis 1: (n, elements, 1, 1), each picture's inputs one after the other as they lie."""
    return np.concatenate([one.reshape(len(one), -1) for one in inputs], 1)[:, :, None, None]


@dataclass(frozen=True)
class NmsPlugin:
    """Parameters of NMS_TRT; the defaults are what its creator sets, or what SSDs use."""

    num_classes: int  # background included
    top_k: int
    keep_top_k: int
    confidence_threshold: float
    nms_threshold: float
    input_order: tuple[int, int, int] = (0, 2, 1)  # positions of loc, conf and prior
    background: int = 0  # class to skip, -1 for none
    conf_sigmoid: bool = True
    normalized: bool = True
    variance_in_target: bool = False
    code_type: int = 3  # TF_CENTER: ty, tx, th, tw


def nms_of(node: UffNode) -> NmsPlugin:
    """The parameters that a node holds.

    Raises
    ------
    ModelError: values that NMS_TRT refuses or does not compute with.
    """
    order = node.get("inputOrder", (0, 2, 1))
    if sorted(order) != [0, 1, 2] or len(node.inputs) != 3:
        raise ModelError(f"NMS_TRT with {len(node.inputs)} inputs in the order {list(order)[:8]}", node=node.id)
    plugin = NmsPlugin(
        node.get("numClasses", 0),
        node.get("topK", 0),
        node.get("keepTopK", 0),
        node.get("confidenceThreshold", 0.0),
        node.get("nmsThreshold", 0.0),
        order,
        node.get("backgroundLabelId", 0),
        bool(node.get("confSigmoid", 1)),
        bool(node.get("isNormalized", 1)),
        bool(node.get("varianceEncodedInTarget", 0)),
        node.get("codeType", 3),
    )
    if plugin.code_type != 3 or not node.get("shareLocation", 1):
        raise ModelError("NMS_TRT with another box coder than TensorFlow's (codeType 3, shareLocation 1)", node=node.id)
    if not 0 < plugin.keep_top_k <= plugin.top_k <= MAX_TOP_K or plugin.num_classes < 1:
        raise ModelError(
            f"NMS_TRT needs keepTopK <= topK <= {MAX_TOP_K}, not {plugin.keep_top_k} and {plugin.top_k}", node=node.id
        )
    return plugin


def nms(p: NmsPlugin, inputs: tuple[Floats, Floats, Floats]) -> tuple[Floats, Floats]:
    """NMS_TRT of one picture.

    Parameters
    ----------
    inputs: loc (n * 4,), conf (n * num_classes,) and prior (2, n * 4, 1) at the positions `input_order` says; the
        shapes' trailing ones do not matter.

    Returns
    -------
    (1, keep_top_k, 7): image id, label, score, xmin, ymin, xmax, ymax, clipped to 0..1; unused rows have label -1. And
    (1, 1, 1), the number of detections, its int32 bits in a float32.

    Raises
    ------
    ModelError: sizes that do not fit each other.
    """
    loc, conf, prior = (inputs[i] for i in p.input_order)
    count = prior.size // 8
    if prior.shape[0] != 2 or loc.size != 4 * count or conf.size != p.num_classes * count:
        raise ModelError(
            f"NMS_TRT gets {loc.size} box encodings, {conf.size} scores and priors of shape {prior.shape}: they do not "
            f"fit each other with {p.num_classes} classes in input order {list(p.input_order)}"
        )
    boxes = _decoded(loc.reshape(count, 4), prior.reshape(2, count, 4), p.variance_in_target)
    scores = conf.reshape(count, p.num_classes)
    scores = sigmoid(scores) if p.conf_sigmoid else scores
    found = [
        (float(scores[i, label]), label, i)
        for label in range(p.num_classes)
        if label != p.background
        for i in _kept(p, boxes, scores[:, label])
    ]
    found.sort(key=lambda one: -one[0])  # stable, as the radix sort is
    found = found[: p.keep_top_k]
    rows = np.zeros((1, p.keep_top_k, 7), np.float32)
    rows[:, :, 1] = -1
    for row, (score, label, i) in zip(rows[0], found, strict=False):
        row[1:] = (label, score, *np.clip(boxes[i], 0, 1))
    return rows, np.array(len(found), np.int32).view(np.float32).reshape(1, 1, 1)


def _decoded(encodings: Floats, prior: Floats, variance_in_target: bool) -> Floats:
    """Boxes (n, 4) xyxy of (ty, tx, th, tw); not clipped. The variances stand in the order x, y, w, h."""
    low, high = prior[0, :, :2], prior[0, :, 2:]
    sizes = high - low
    centres = (low + high) / 2
    variances = np.ones_like(prior[1]) if variance_in_target else prior[1]
    with np.errstate(over="ignore", invalid="ignore"):
        centres = variances[:, :2] * encodings[:, 1::-1] * sizes + centres
        halves = np.exp(variances[:, 2:] * encodings[:, 3:1:-1]) * sizes / 2
        boxes: Floats = np.concatenate((centres - halves, centres + halves), 1)
    return boxes


def _kept(p: NmsPlugin, boxes: Floats, scores: Floats) -> list[int]:
    """Indices that survive one class: the best top_k above the threshold, then greedy suppression."""
    order = np.argsort(-scores, kind="stable")[: p.top_k]
    order = order[scores[order] > np.float32(p.confidence_threshold)]
    kept: list[int] = []
    grow = 0 if p.normalized else 1
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(int(best))
        order = rest[~(_iou(boxes[best], boxes[rest], grow) > np.float32(p.nms_threshold))]
    return kept


def _iou(box: Floats, boxes: Floats, grow: int) -> Floats:
    """Intersection over union; boxes in pixels (not normalised) are one longer than their corners say."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]) + grow
        shared = np.where((sides > 0).all(1), sides.prod(1), 0)
        area: Any = (box[2:] - box[:2] + grow).prod()
        areas = (boxes[:, 2:] - boxes[:, :2] + grow).prod(1)
        overlap: Floats = shared / (area + areas - shared)
    return overlap
