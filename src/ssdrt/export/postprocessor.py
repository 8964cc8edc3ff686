"""The exporter's Postprocessor: box coder, score converter, NMS of each picture and the four outputs, as nodes."""

from __future__ import annotations

from collections.abc import Sequence

from ssdrt.export.builder import GraphBuilder
from ssdrt.export.loop import map_pictures
from ssdrt.export.nms import write_nms
from ssdrt.export.preprocessor import has_fixed_size
from ssdrt.model import ScoreConverter, SsdModel

_CONVERTERS = {"sigmoid": "Sigmoid", "softmax": "Softmax", "identity": "Identity"}


def write_postprocessor(
    g: GraphBuilder, model: SsdModel, anchors: str, encodings: str, logits: str, image: str, true_shapes: str
) -> None:
    """Nodes up to detection_boxes, detection_scores, detection_classes and num_detections.

    Parameters
    ----------
    anchors, encodings, logits: (n, 4), (batch, n, 4) and (batch, n, logit_columns).
    image: the network input.
    true_shapes: (batch, 3) int32, height, width, channels of each picture in the network input.
    """
    rows = model.nms.max_total.value
    with g.scope("Postprocessor"):
        boxes = g.op("ExpandDims", _decode_batch(g, anchors, encodings, model.box_coder.scales.value), 2)
        scores = _convert_scores(g, model.score_converter, logits)
        windows = [_windows(g, model, image, true_shapes)] if model.nms.clip_to_image.value else []
        with g.scope("BatchMultiClassNonMaxSuppression"):
            valid = g.op("Mul", g.op("Fill", g.stack(g.size(boxes, 0)), 1), g.size(boxes, 1))
            found = map_pictures(
                g,
                [boxes, scores, valid, *windows],
                [("float32", (rows, 4)), ("float32", (rows,)), ("float32", (rows,)), ("int32", ())],
                lambda *picture: write_nms(g, model.nms, model.num_classes.value, *picture),
            )
        number = g.op("Cast", found[3], DstT="float32")
    class_ids = g.op("AddV2", found[2], float(model.label_offset.value))
    for name, value in (("boxes", found[0]), ("scores", found[1]), ("classes", class_ids)):
        g.op("Identity", value, name=f"detection_{name}")
    g.op("Identity", number, name="num_detections")


def _convert_scores(g: GraphBuilder, converter: ScoreConverter, logits: str) -> str:
    """(batch, n, classes) of (batch, n, logit_columns)."""
    background = converter.background.value
    scores = g.op("RealDiv", logits, converter.logit_scale.value, name="scale_logits")
    if background == "sliced_before":
        scores = g.op("Slice", scores, [0, 0, 1], [-1, -1, -1])
    scores = g.op(_CONVERTERS[converter.function.value], scores, name="convert_scores")
    scores = g.op("Identity", scores, name="raw_box_scores")
    return g.op("Slice", scores, [0, 0, 1], [-1, -1, -1]) if background == "sliced_after" else scores


def _decode_batch(g: GraphBuilder, anchors: str, encodings: str, scales: Sequence[float]) -> str:
    """(batch, n, 4) boxes; the batch is folded into the rows and unfolded again."""
    encodings = g.op("Identity", encodings, name="raw_box_encodings")
    batch, count = g.size(encodings, 0), g.size(encodings, 1)
    tiled = g.op("Tile", g.op("ExpandDims", anchors, 0), g.stack(batch, 1, 1))
    boxes = _decode(g, g.op("Reshape", tiled, [-1, 4]), g.op("Reshape", encodings, [-1, 4]), scales)
    return g.op("Identity", g.op("Reshape", boxes, g.stack(batch, count, 4)), name="raw_box_locations")


def _decode(g: GraphBuilder, anchors: str, encodings: str, scales: Sequence[float]) -> str:
    """(n, 4) yxyx of anchors and encodings (n, 4), as object_detection/box_coders/faster_rcnn_box_coder.py."""
    with g.scope("Decode"):
        with g.scope("get_center_coordinates_and_sizes"):
            top, left, bottom, right = g.unstack(g.op("Transpose", anchors, [1, 0]), 4)
            width, height = g.op("Sub", right, left), g.op("Sub", bottom, top)
            y, x = (g.op("AddV2", a, g.op("RealDiv", size, 2.0)) for a, size in ((top, height), (left, width)))
        parts = g.unstack(g.op("Transpose", encodings, [1, 0]), 4)
        ty, tx, th, tw = (g.op("RealDiv", part, scale) for part, scale in zip(parts, scales, strict=True))
        new_width, new_height = g.op("Mul", g.op("Exp", tw), width), g.op("Mul", g.op("Exp", th), height)
        new_y, new_x = g.op("AddV2", g.op("Mul", ty, height), y), g.op("AddV2", g.op("Mul", tx, width), x)
        sides = ((new_y, new_height), (new_x, new_width))
        low = [g.op("Sub", centre, g.op("RealDiv", size, 2.0)) for centre, size in sides]
        high = [g.op("AddV2", centre, g.op("RealDiv", size, 2.0)) for centre, size in sides]
        return g.op("Transpose", g.stack(*low, *high), [1, 0])


def _windows(g: GraphBuilder, model: SsdModel, image: str, true_shapes: str) -> str:
    """(batch, 4): the part of the network input that is picture, yxyx in 0..1."""
    height, width, _ = g.unstack(g.op("Cast", true_shapes, DstT="float32"), 3, axis=1)
    fixed = has_fixed_size(model.preprocessing.resizer.value)
    far = []
    for axis, side in enumerate((height, width)):
        full = model.input_size[axis] if fixed else g.size(image, 1 + axis)
        far.append(g.op("RealDiv", side, g.op("Cast", full, DstT="float32")))
    return g.stack(g.op("ZerosLike", height), g.op("ZerosLike", width), *far, axis=1)
