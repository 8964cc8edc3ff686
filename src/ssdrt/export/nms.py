"""BatchMultiClassNonMaxSuppression of one picture as the exporter writes it, early 2020 or mid-2018, as nodes.

`Fields` are parallel rows: boxes (n, 4) yxyx, scores (n,), classes (n,).
"""

from __future__ import annotations

from ssdrt.export.builder import GraphBuilder
from ssdrt.model import Nms

Fields = list[str]


def write_nms(
    g: GraphBuilder, nms: Nms, classes: int, boxes: str, scores: str, valid: str, window: str = ""
) -> list[str]:
    """Boxes (max_total, 4), scores, classes (max_total,), padded with zeros, and the number of detections.

    Parameters
    ----------
    boxes, scores: (n, 1, 4) and (n, classes) of one picture, of which the first `valid` rows count.
    window: (4,) yxyx, the part of the network input that is picture; all of it when not given.
    """
    boxes = g.op("Reshape", g.op("Slice", boxes, [0, 0, 0], g.stack(valid, -1, -1)), [-1, 1, 4])
    scores = g.op("Reshape", g.op("Slice", scores, [0, 0], g.stack(valid, -1)), [-1, classes])
    window = window or g.constant([0.0, 0.0, 1.0, 1.0], "window")
    with g.scope("ClassAgnosticNonMaxSuppression" if nms.class_agnostic.value else "MultiClassNonMaxSuppression"):
        (boxes,) = g.unstack(boxes, 1, axis=1)
        if nms.class_agnostic.value:
            fields = _best_class(g, nms, boxes, scores, window)
        else:
            fields = _each_class(g, nms, classes, boxes, scores, window)
        fields = _sort(g, fields)
        if nms.clip.value == "after":
            fields = _prune(g, nms, fields, window)
        number = g.size(fields[0], 0) if nms.clip.value == "before" else _count(g, fields)
        if nms.change_coordinate_frame.value:
            fields = [_change_coordinate_frame(g, fields[0], window), *fields[1:]]
        total = g.op("Minimum", nms.max_total.value, g.size(fields[0], 0))
        fields = g.gather(fields, g.op("Range", 0, total, 1))
        number = g.op("Select", g.op("Greater", total, number), number, total)
        fields = g.gather(fields, g.op("Range", 0, number, 1))
    return [*_pad(g, fields, nms.max_total.value), number]


def _each_class(g: GraphBuilder, nms: Nms, classes: int, boxes: str, scores: str, window: str) -> Fields:
    rows = g.size(scores, 0)
    found = []
    for index in range(classes):
        column = g.op("Reshape", g.op("Slice", scores, [0, index], g.stack(rows, 1)), [-1])
        kept = _suppress(g, nms, [boxes, column], nms.max_per_class.value, window)
        found.append([*kept, g.op("AddV2", g.op("ZerosLike", kept[1]), float(index))])
    with g.scope("Concatenate"):
        return [g.concat(parts, 0) for parts in zip(*found, strict=True)]


def _best_class(g: GraphBuilder, nms: Nms, boxes: str, scores: str, window: str) -> Fields:
    best = g.op("Max", scores, [-1])
    classes = g.op("Cast", g.op("ArgMax", scores, -1, output_type="int64"), DstT="float32")
    return _suppress(g, nms, [boxes, best, classes], nms.max_total.value, window)


def _suppress(g: GraphBuilder, nms: Nms, fields: Fields, most: int, window: str) -> Fields:
    """The rows that stay, filled up to `most` with those of index 0 and score -1."""
    if nms.clip.value == "before":
        return _suppress_2018(g, nms, fields, most, window)
    boxes, scores, *others = fields
    limit = g.op("Minimum", most, g.size(boxes, 0))
    kept = g.op("NonMaxSuppressionV5", boxes, scores, limit, nms.iou_threshold.value, nms.score_threshold.value,
                nms.soft_nms_sigma.value, pad_to_max_output_size=False)  # fmt: skip
    count = g.size(kept, 0)
    missing = g.op("Reshape", g.op("Sub", limit, count), [-1])
    indices = g.concat([kept, g.op("Fill", missing, 0, name="zeros")], 0)
    kept_scores = g.concat([f"{kept}:1", g.op("Fill", missing, 0.0, name="zeros")], -1)
    real = g.op("Less", g.op("Range", 0, limit, 1), count)
    boxes, *others = g.gather([boxes, *others], indices)
    return [boxes, g.op("Select", real, kept_scores, _minus_one(g, limit)), *others]


def _suppress_2018(g: GraphBuilder, nms: Nms, fields: Fields, most: int, window: str) -> Fields:
    """The rows that stay, cut to the window before they are compared."""
    with g.scope("FilterGreaterThan"):
        fields = _where(g, g.op("Greater", fields[1], nms.score_threshold.value), fields)
    fields = _clip_to_window(g, nms, fields, window)
    limit = g.op("Minimum", most, g.size(fields[0], 0))
    kept = g.op("NonMaxSuppressionV3", *fields[:2], limit, nms.iou_threshold.value, float("-inf"))
    return g.gather(fields, kept)


def _sort(g: GraphBuilder, fields: Fields) -> Fields:
    with g.scope("SortByField"):
        rows, scores = g.size(fields[0], 0), g.op("Size", fields[1])
        same = g.op("Equal", rows, scores)
        check = g.op("Assert", same, b"boxes and scores differ in number", scores, rows, T=("string", "int32", "int32"))
        order = g.op("TopKV2", fields[1], rows, control=check)
        return g.gather(fields, f"{order}:1")


def _prune(g: GraphBuilder, nms: Nms, fields: Fields, window: str) -> Fields:
    """Cut the boxes to the window; those with nothing left go last, with score -1."""
    boxes, scores, classes = _clip_to_window(g, nms, fields, window)
    if nms.drop_zero_area.value:
        real = g.op("Cast", _area(g, boxes), DstT="bool")
        scores = g.op("Select", real, scores, _minus_one(g, g.size(boxes, 0)))
    return _sort(g, [boxes, scores, classes])


def _count(g: GraphBuilder, fields: Fields) -> str:
    """How many rows are detections; those that only fill up have score -1."""
    return g.op("Sum", g.op("Cast", g.op("GreaterEqual", fields[1], 0.0), DstT="int32"), [0])


def _minus_one(g: GraphBuilder, rows: str) -> str:
    return g.op("Mul", -1.0, g.op("Fill", g.op("Reshape", rows, [-1]), 1.0))


def _clip_to_window(g: GraphBuilder, nms: Nms, fields: Fields, window: str) -> Fields:
    with g.scope("ClipToWindow"):
        y0, x0, y1, x1 = g.split(fields[0], 4, axis=1)
        top, left, bottom, right = g.unstack(window, 4)
        y0, y1 = (g.op("Maximum", g.op("Minimum", y, bottom), top) for y in (y0, y1))
        x0, x1 = (g.op("Maximum", g.op("Minimum", x, right), left) for x in (x0, x1))
        fields = [g.concat([y0, x0, y1, x1], 1), *fields[1:]]
        if not nms.drop_zero_area.value:
            return fields
        return _where(g, g.op("Greater", _area(g, fields[0]), 0.0), fields)


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
