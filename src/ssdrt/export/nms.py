"""BatchMultiClassNonMaxSuppression of one picture as the exporter writes it, early 2020 or mid-2018, as nodes.

`Fields` are parallel rows: boxes (n, 4) yxyx, scores (n,), classes (n,).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ssdrt.export.builder import GraphBuilder

Fields = list[str]


@dataclass(frozen=True)
class NmsOptions:
    """What the exporter takes from the configuration, and what differs between its vintages.

    clip: boxes are cut to the picture "after" the NMS (2019 on) or "before" it (2018: neither soft nor class-agnostic).
    """

    score_threshold: float = 1e-8
    iou_threshold: float = 0.6
    soft_nms_sigma: float = 0.0
    max_per_class: int = 20
    max_total: int = 20
    class_agnostic: bool = False
    clip: Literal["after", "before"] = "after"


def write_nms(
    g: GraphBuilder, options: NmsOptions, classes: int, boxes: str, scores: str, window: str, valid: str
) -> list[str]:
    """Boxes (max_total, 4), scores, classes (max_total,), padded with zeros, and the number of detections.

    Parameters
    ----------
    boxes, scores: (n, 1, 4) and (n, classes) of one picture, of which the first `valid` rows count.
    window: (4,) yxyx, the part of the network input that is picture.
    """
    boxes = g.op("Reshape", g.op("Slice", boxes, [0, 0, 0], g.stack(valid, -1, -1)), [-1, 1, 4])
    scores = g.op("Reshape", g.op("Slice", scores, [0, 0], g.stack(valid, -1)), [-1, classes])
    with g.scope("ClassAgnosticNonMaxSuppression" if options.class_agnostic else "MultiClassNonMaxSuppression"):
        (boxes,) = g.unstack(boxes, 1, axis=1)
        if options.class_agnostic:
            fields = _best_class(g, options, boxes, scores)
        else:
            fields = _each_class(g, options, classes, boxes, scores, window)
        fields = _sort(g, fields)
        number = ""
        if options.clip == "after":
            fields, number = _prune(g, fields, window)
        total = g.op("Minimum", options.max_total, g.size(fields[0], 0))
        fields = g.gather(fields, g.op("Range", 0, total, 1))
        if options.clip == "after":
            number = g.op("Select", g.op("Greater", total, number), number, total)
            fields = g.gather(fields, g.op("Range", 0, number, 1))
    return [*_pad(g, fields, options.max_total), number or g.size(fields[0], 0)]


def _each_class(g: GraphBuilder, options: NmsOptions, classes: int, boxes: str, scores: str, window: str) -> Fields:
    rows = g.size(scores, 0)
    found = []
    for index in range(classes):
        column = g.op("Reshape", g.op("Slice", scores, [0, index], g.stack(rows, 1)), [-1])
        if options.clip == "before":
            kept = _suppress_2018(g, options, [boxes, column], window)
        else:
            indices, kept_scores = _suppress(g, options, boxes, column, options.max_per_class)
            kept = [*g.gather([boxes], indices), kept_scores]
        found.append([*kept, g.op("AddV2", g.op("ZerosLike", kept[1]), float(index))])
    with g.scope("Concatenate"):
        return [g.concat(parts, 0) for parts in zip(*found, strict=True)]


def _best_class(g: GraphBuilder, options: NmsOptions, boxes: str, scores: str) -> Fields:
    best = g.op("Max", scores, [-1])
    classes = g.op("Cast", g.op("ArgMax", scores, -1, output_type="int64"), DstT="float32")
    indices, kept_scores = _suppress(g, options, boxes, best, options.max_total)
    boxes, classes = g.gather([boxes, classes], indices)
    return [boxes, kept_scores, classes]


def _suppress(g: GraphBuilder, options: NmsOptions, boxes: str, scores: str, most: int) -> tuple[str, str]:
    """Indices and scores of the boxes that stay, filled up to `most` rows with index 0 and score -1."""
    limit = g.op("Minimum", most, g.size(boxes, 0))
    kept = g.op("NonMaxSuppressionV5", boxes, scores, limit, options.iou_threshold, options.score_threshold,
                options.soft_nms_sigma, pad_to_max_output_size=False)  # fmt: skip
    count = g.size(kept, 0)
    missing = g.op("Reshape", g.op("Sub", limit, count), [-1])
    indices = g.concat([kept, g.op("Fill", missing, 0, name="zeros")], 0)
    kept_scores = g.concat([f"{kept}:1", g.op("Fill", missing, 0.0, name="zeros")], -1)
    real = g.op("Less", g.op("Range", 0, limit, 1), count)
    nothing = g.op("Mul", -1.0, g.op("Fill", g.op("Reshape", limit, [-1]), 1.0))
    return indices, g.op("Select", real, kept_scores, nothing)


def _suppress_2018(g: GraphBuilder, options: NmsOptions, fields: Fields, window: str) -> Fields:
    """The boxes and scores that stay, cut to the window before they are compared."""
    with g.scope("FilterGreaterThan"):
        fields = _where(g, g.op("Greater", fields[1], options.score_threshold), fields)
    boxes, scores = fields = _clip_to_window(g, fields, window)
    limit = g.op("Minimum", options.max_per_class, g.size(boxes, 0))
    kept = g.op("NonMaxSuppressionV3", boxes, scores, limit, options.iou_threshold, float("-inf"))
    return g.gather(fields, kept)


def _sort(g: GraphBuilder, fields: Fields) -> Fields:
    with g.scope("SortByField"):
        rows, scores = g.size(fields[0], 0), g.op("Size", fields[1])
        same = g.op("Equal", rows, scores)
        check = g.op("Assert", same, b"boxes and scores differ in number", scores, rows, T=("string", "int32", "int32"))
        order = g.op("TopKV2", fields[1], rows, control=check)
        return g.gather(fields, f"{order}:1")


def _prune(g: GraphBuilder, fields: Fields, window: str) -> tuple[Fields, str]:
    """Cut the boxes to the window, drop those with nothing left, count the rest and give it in the window's frame."""
    boxes, scores, classes = _clip_to_window(g, fields, window)
    nothing = g.op("Mul", -1.0, g.op("Fill", g.op("Reshape", g.size(boxes, 0), [-1]), 1.0))
    scores = g.op("Select", g.op("Cast", _area(g, boxes), DstT="bool"), scores, nothing)
    number = g.op("Sum", g.op("Cast", g.op("GreaterEqual", scores, 0.0), DstT="int32"), [0])
    boxes, scores, classes = _sort(g, [boxes, scores, classes])
    return [_change_coordinate_frame(g, boxes, window), scores, classes], number


def _clip_to_window(g: GraphBuilder, fields: Fields, window: str) -> Fields:
    with g.scope("ClipToWindow"):
        y0, x0, y1, x1 = g.split(fields[0], 4, axis=1)
        top, left, bottom, right = g.unstack(window, 4)
        y0, y1 = (g.op("Maximum", g.op("Minimum", y, bottom), top) for y in (y0, y1))
        x0, x1 = (g.op("Maximum", g.op("Minimum", x, right), left) for x in (x0, x1))
        boxes = g.concat([y0, x0, y1, x1], 1)
        return _where(g, g.op("Greater", _area(g, boxes), 0.0), [boxes, *fields[1:]])


def _change_coordinate_frame(g: GraphBuilder, boxes: str, window: str) -> str:
    with g.scope("ChangeCoordinateFrame"):
        top, left, bottom, right = (g.element(window, i) for i in range(4))
        height, width = (g.op("RealDiv", 1.0, g.op("Sub", *pair)) for pair in ((bottom, top), (right, left)))
        y0, x0, y1, x1 = g.split(g.op("Sub", boxes, g.stack(top, left, top, left)), 4, axis=1)
        scaled = ((height, y0), (width, x0), (height, y1), (width, x1))
        return g.concat([g.op("Mul", *pair) for pair in scaled], 1)


def _area(g: GraphBuilder, boxes: str) -> str:
    with g.scope("Area"):
        y0, x0, y1, x1 = g.split(boxes, 4, axis=1)
        return g.op("Squeeze", g.op("Mul", g.op("Sub", y1, y0), g.op("Sub", x1, x0)), squeeze_dims=(1,))


def _where(g: GraphBuilder, keep: str, fields: Fields) -> Fields:
    return g.gather(fields, g.op("Cast", g.op("Reshape", g.op("Where", keep), [-1]), DstT="int32"))


def _pad(g: GraphBuilder, fields: Fields, rows: int) -> Fields:
    with g.scope("PadOrClipBoxList"):
        missing = g.op("Sub", rows, g.size(fields[0], 0))
        boxes = g.op("Pad", fields[0], g.stack([0, 0], g.stack(missing, 0), axis=1))
        return [boxes, *(g.op("Pad", value, g.stack([0], g.stack(missing), axis=1)) for value in fields[1:])]
