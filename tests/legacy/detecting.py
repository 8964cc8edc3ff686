"""What TensorRT would find with a `.uff`: the layers on the reference engine, the rest by the plugins' references."""

import numpy as np

from ssdrt.detections import Detections
from ssdrt.engines.reference import normalise, run_layer
from ssdrt.legacy.plugins import flatten_concat, grid_anchor_of, grid_anchors, nms, nms_of
from ssdrt.legacy.reader import model_of
from ssdrt.legacy.uff import checked_nodes, constant
from ssdrt.preprocess import to_network


def detect(uff, picture) -> Detections:
    """Everything from the file, nothing from the graph it was made of."""
    model, nodes = model_of(uff), checked_nodes(uff)
    plugin = nms_of(nodes["NMS"])
    pixels = to_network(picture, model.preprocessing.resizer.value)[None]
    values = {"image": normalise(pixels, model.preprocessing.normalisation.value)}
    for layer in model.layers:
        values[layer.name] = run_layer(layer, *(values[name] for name in layer.inputs))
    loc = flatten_concat([values[head.boxes] for head in model.heads])
    conf = flatten_concat([softmax(model, values[head.scores]) for head in model.heads])
    prior = nodes[nodes["NMS"].inputs[plugin.input_order[2]]]
    if prior.operation == "Const":
        anchors = constant(uff, prior)
    else:
        anchors = np.concatenate(grid_anchors(grid_anchor_of(nodes[prior.inputs[0]])), 1)
    by_role = (loc, conf, anchors)
    rows, count = nms(plugin, tuple(by_role[plugin.input_order.index(i)] for i in range(3)))
    rows = rows[0, : int(count.view(np.int32).item())]
    height, width = picture.shape[:2]
    scale = np.array([width, height, width, height], np.float32)
    classes = rows[:, 1].astype(np.int64)
    return Detections(rows[:, 3:] * scale, rows[:, 2], classes, classes.astype(str), width, height)


def softmax(model, logits):
    """The Softmax that the file holds before FlattenConcat, if it holds one."""
    if model.score_converter.function.value != "softmax":
        return logits
    rows = logits.reshape(-1, model.logit_columns)
    powers = np.exp(rows - rows.max(1, keepdims=True))
    return (powers / powers.sum(1, keepdims=True)).reshape(logits.shape)


def golden(record, photo, width, height, above=0.0) -> Detections:
    """What TensorFlow recorded."""
    scores = record[f"{photo}/detection_scores"]
    kept = scores > above
    scale = np.array([width, height, width, height], np.float32)
    boxes = record[f"{photo}/detection_boxes"][kept][:, [1, 0, 3, 2]] * scale
    classes = record[f"{photo}/detection_classes"][kept].astype(np.int64)
    return Detections(boxes, scores[kept], classes, classes.astype(str), width, height)
