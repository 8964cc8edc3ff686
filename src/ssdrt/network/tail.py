"""From the heads to scores, and on to detections, as ONNX nodes.

Values: box_encodings (b, n, 4) and class_logits (b, n, columns) come from the heads, class_scores (b, n, classes) from
the score converter, boxes (b, n, 4) yxyx from the box coder.
"""

from __future__ import annotations

import numpy as np

from ssdrt.errors import ModelError
from ssdrt.model import BoxCoder, Floats, Nms, ScoreConverter, SsdModel
from ssdrt.network.onnx_file import DATA_TYPES, OnnxGraph, Operand, Port

REJECTED = -1.0
"""Score of a candidate that was suppressed or lies outside, as in TensorFlow's own code; real ones are 0 at least."""

MOST_GROUPS = 20
"""In which the pairs of the best anchors are sorted, each with at least twice as many as are wanted of it: H200, 400 of
1,917 anchors and 90 classes with TensorRT 8.6: 43 us, 92 us in one group, 345 us all pairs at once."""


def write_heads(graph: OnnxGraph, model: SsdModel) -> None:
    """All heads' rows in the order of the anchors: box_encodings and class_logits, float32 from here on."""
    _join(graph, "box_encodings", [head.boxes for head in model.heads], 4)
    _join(graph, "class_logits", [head.scores for head in model.heads], model.logit_columns)


def _join(graph: OnnxGraph, name: str, maps: list[str], columns: int) -> None:
    """(b, anchors_per_cell * columns, height, width) maps as the rows of one (b, n, columns) value."""
    graph.scope = name
    rows = [graph("Reshape", graph("Transpose", value, perm=(0, 2, 3, 1)), (0, -1, columns)) for value in maps]
    if graph.floats == "float32":
        graph("Concat", *rows, name=name, axis=1)
    else:
        graph.cast(graph("Concat", *rows, axis=1), "float32", name)


def write_scores(graph: OnnxGraph, converter: ScoreConverter) -> None:
    """class_logits -> class_scores."""
    graph.scope = "class_scores"
    scores = "class_logits"
    if converter.logit_scale.value != 1:
        scores = graph("Div", scores, converter.logit_scale.value)
    if converter.background.value == "sliced_before":
        scores = _without_background(graph, scores)
    if converter.function.value == "sigmoid":
        scores = graph("Sigmoid", scores)
    elif converter.function.value == "softmax":
        scores = graph("Softmax", scores, axis=2)
    if converter.background.value == "sliced_after":
        scores = _without_background(graph, scores)
    graph("Identity", scores, name="class_scores")


def _without_background(graph: OnnxGraph, values: str) -> str:
    return graph("Slice", values, (1,), (np.iinfo(np.int64).max,), (2,))


def write_candidates(graph: OnnxGraph, model: SsdModel, count: int, opset: int) -> None:
    """box_encodings and class_scores -> the `count` best (anchor, class) pairs of all, equal scores in any order.

    candidate_boxes (b, count, 4) yxyx, as they come out of the box coder; candidate_scores (b, count), best first;
    candidate_indices (b, count) int32, anchor * classes + class.
    """
    graph.scope = "boxes"
    boxes = _decode(graph, model.box_coder, model.anchors.value)
    graph.scope = "candidates"
    anchor = write_best_pairs(graph, len(model.anchors.value), model.num_classes.value, count, opset)
    corners = graph("Expand", graph("Reshape", anchor, (0, -1, 1)), (1, 1, 4))
    graph("GatherElements", boxes, corners, name="candidate_boxes", axis=1)


def write_best_pairs(graph: OnnxGraph, anchors: int, classes: int, count: int, opset: int) -> str:
    """class_scores (b, anchors, classes) -> candidate_scores, candidate_indices; and the anchor of each, int64.

    TensorRT sorts a row with one block of threads, which takes longer than the network where all pairs are one row.
    So the best `count` anchors by their best score come first: a pair of another anchor has as many that are at least
    as good before it. Of their pairs, the best of each group; of those, the best of all. An anchor of which some scores
    are NaN and some are not may be missed.
    """
    columns = np.array(classes, np.int64)
    if anchors <= count or classes == 1:
        flat = graph("Reshape", "class_scores", (0, -1))
        graph.node("TopK", (flat, (count,)), ("candidate_scores", "candidates:index"), {"axis": 1})
        graph.cast("candidates:index", "int32", "candidate_indices")
        return graph("Div", "candidates:index", columns)
    if opset < 18:
        best = graph("ReduceMax", "class_scores", axes=(2,), keepdims=0)
    else:
        best = graph("ReduceMax", "class_scores", (2,), keepdims=0)
    graph.node("TopK", (best, (count,)), ("candidates:best", "candidates:rows"), {"axis": 1})
    wide = graph("Expand", graph("Reshape", "candidates:rows", (0, -1, 1)), (1, 1, classes))
    scores = graph("GatherElements", "class_scores", wide, axis=1)
    index = _best_in_groups(graph, scores, count, classes)
    row = graph("Div", index, columns)
    column = graph("Sub", index, graph("Mul", row, columns))
    anchor = graph("GatherElements", "candidates:rows", row, axis=1)
    graph.cast(graph("Add", graph("Mul", anchor, columns), column), "int32", "candidate_indices")
    return anchor


def _best_in_groups(graph: OnnxGraph, scores: str, count: int, classes: int) -> str:
    """scores (b, count, classes) -> candidate_scores; and where they are in a row of count * classes."""
    groups = max(one for one in range(1, MOST_GROUPS + 1) if count % one == 0 and (one == 1 or 2 * one <= classes))
    if groups == 1:
        flat = graph("Reshape", scores, (0, -1))
        graph.node("TopK", (flat, (count,)), ("candidate_scores", "candidates:index"), {"axis": 1})
        return "candidates:index"
    size = count // groups * classes
    parts = graph("Reshape", scores, (0, groups, size))
    graph.node("TopK", (parts, (count,)), ("candidates:few", "candidates:place"), {"axis": 2})
    starts = (np.arange(groups, dtype=np.int64) * size)[None, :, None]
    places = graph("Reshape", graph("Add", "candidates:place", starts), (0, -1))
    few = graph("Reshape", "candidates:few", (0, -1))
    graph.node("TopK", (few, (count,)), ("candidate_scores", "candidates:second"), {"axis": 1})
    return graph("GatherElements", places, "candidates:second", axis=1)


def window_ports(model: SsdModel, batch: int | str) -> list[Port]:
    """The input that detections need when pictures are padded: where the picture lies in the network input.

    window (b, 4) float32: yxyx in 0..1 of the network input.
    """
    needed = model.nms.clip_to_image.value and model.preprocessing.resizer.value.pad
    return [Port("window", "float32", (batch, 4))] if needed else []


def write_detections(graph: OnnxGraph, model: SsdModel) -> None:
    """box_encodings and class_scores -> detection_boxes, detection_scores, detection_classes, num_detections.

    TensorFlow's BatchMultiClassNonMaxSuppression (core/post_processing.py of the Object Detection API), ties included:
    both NonMaxSuppression and TopK prefer the lower index, and candidates are laid out by class, then anchor.

    Raises
    ------
    ModelError: soft NMS, which standard ONNX has no operation for.
    """
    nms = model.nms
    if nms.soft_nms_sigma.value:
        raise ModelError("ONNX has no soft NMS: export the heads alone (--heads-only)", node=nms.soft_nms_sigma.node)
    graph.scope = "boxes"
    low, high = _window(graph, model)
    raw = _decode(graph, model.box_coder, model.anchors.value)
    boxes = raw if nms.clip.value == "never" else graph("Min", graph("Max", raw, low), high)
    scores, classes = _candidates(graph, nms)
    graph.scope = "nms"
    kept = _has_area(graph, boxes) if nms.drop_zero_area.value and nms.clip.value != "never" else ""
    if kept and nms.clip.value == "before":
        scores = graph("Where", kept, scores, REJECTED)
    survivors = _suppress(graph, nms, boxes if nms.clip.value == "before" else raw, scores)
    if kept and nms.clip.value == "after":
        survivors = graph("Where", kept, survivors, REJECTED)
    if isinstance(low, str) and nms.change_coordinate_frame.value:
        boxes = graph("Mul", graph("Sub", boxes, low), graph("Reciprocal", graph("Sub", high, low)))
    _best(graph, model, boxes, survivors, classes)


def _window(graph: OnnxGraph, model: SsdModel) -> tuple[Operand, Operand]:
    """Least and greatest (y, x, y, x) of a clipped box, (4,) or (b, 1, 4)."""
    if not window_ports(model, 1):
        return np.zeros(4, np.float32), np.ones(4, np.float32)
    low, high = (graph("Gather", "window", corner, axis=1) for corner in ((0, 1, 0, 1), (2, 3, 2, 3)))
    return graph("Reshape", low, (0, 1, 4)), graph("Reshape", high, (0, 1, 4))


def _decode(graph: OnnxGraph, coder: BoxCoder, anchors: Floats) -> str:
    """box_encodings -> boxes, with the roundings of core/box_coders/faster_rcnn_box_coder.py."""
    sizes = anchors[:, 2:] - anchors[:, :2]
    encodings = graph("Div", "box_encodings", np.array(coder.scales.value, np.float32))
    shifts, stretches = (graph("Slice", encodings, (start,), (start + 2,), (2,)) for start in (0, 2))
    centres = graph("Add", graph("Mul", shifts, sizes), anchors[:, :2] + sizes / 2)
    halves = graph("Div", graph("Mul", graph("Exp", stretches), sizes), 2)
    return graph("Concat", graph("Sub", centres, halves), graph("Add", centres, halves), name="boxes", axis=2)


def _candidates(graph: OnnxGraph, nms: Nms) -> tuple[str, str]:
    """Scores (b, classes, n); class-agnostic: the best ones (b, 1, n) and their classes (b, n)."""
    graph.scope = "candidates"
    if not nms.class_agnostic.value:
        return graph("Transpose", "class_scores", perm=(0, 2, 1)), ""
    graph.node("TopK", ("class_scores", (1,)), ("candidates:best", "candidates:class"), {"axis": 2})
    return graph("Transpose", "candidates:best", perm=(0, 2, 1)), graph("Reshape", "candidates:class", (0, -1))


def _has_area(graph: OnnxGraph, boxes: str) -> str:
    """Whether each box has an area, (b, 1, n) bool."""
    top, left, bottom, right = (graph("Gather", boxes, np.array(index, np.int64), axis=2) for index in range(4))
    area = graph("Mul", graph("Sub", bottom, top), graph("Sub", right, left))
    return graph("Reshape", graph("Greater", area, 0), (0, 1, -1))


def _suppress(graph: OnnxGraph, nms: Nms, boxes: str, scores: str) -> str:
    """`scores` (b, classes, n) of the candidates that NMS selects, REJECTED elsewhere."""
    most = nms.max_total.value if nms.class_agnostic.value else nms.max_per_class.value
    limits = (most,), nms.iou_threshold.value, nms.score_threshold.value
    selected = graph("NonMaxSuppression", boxes, scores, *limits)  # (s, 3): picture, class, anchor
    nothing = graph("ConstantOfShape", graph("Shape", scores), value=np.array([REJECTED], np.float32))
    return graph("ScatterND", nothing, selected, graph("GatherND", scores, selected))


def _best(graph: OnnxGraph, model: SsdModel, boxes: str, survivors: str, classes: str) -> None:
    """The max_total best of all classes as TensorFlow's four outputs; missing rows are 0 (class: the label offset)."""
    graph.scope = "detections"
    total, anchors = model.nms.max_total.value, len(model.anchors.value)
    flat = graph("Reshape", survivors, (0, -1))
    lacking = total - anchors * (1 if classes else model.num_classes.value)
    if lacking > 0:
        flat = graph("Pad", flat, (0, 0, 0, lacking), REJECTED)
    graph.node("TopK", (flat, (total,)), ("detections:scores", "detections:index"), {"axis": 1})
    missing = graph("Less", "detections:scores", 0)
    anchor = graph("Mod", "detections:index", np.array(anchors, np.int64))
    corners = graph("Expand", graph("Reshape", anchor, (0, -1, 1)), (1, 1, 4))
    found = graph("GatherElements", boxes, corners, axis=1)
    if classes:
        category = graph("GatherElements", classes, anchor, axis=1)
    else:
        category = graph("Div", "detections:index", np.array(anchors, np.int64))
    index = graph("Where", missing, 0, graph("Cast", category, to=DATA_TYPES["float32"]))
    graph("Where", graph("Reshape", missing, (0, -1, 1)), 0, found, name="detection_boxes")
    graph("Where", missing, 0, "detections:scores", name="detection_scores")
    graph("Add", index, model.label_offset.value, name="detection_classes")
    # A sum as a product with ones: ReduceSum's axes are an attribute or an input, depending on the opset.
    graph("MatMul", graph("Where", missing, 0, 1), np.ones(total, np.float32), name="num_detections")
