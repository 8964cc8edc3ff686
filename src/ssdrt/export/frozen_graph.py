"""`write_frozen_graph`: an `SsdModel` as a frozen_inference_graph.pb that TensorFlow 1 and 2 run."""

from __future__ import annotations

from collections.abc import Sequence

from ssdrt.errors import ModelError
from ssdrt.export.anchors import write_anchors
from ssdrt.export.builder import GraphBuilder, Precision
from ssdrt.export.layers import write_layers
from ssdrt.export.postprocessor import write_postprocessor
from ssdrt.export.preprocessor import has_fixed_size, write_preprocessor
from ssdrt.graph.writer import NodeSpec, write_graph
from ssdrt.model import Crop, Resize, SsdModel

OUTPUTS = ("detection_boxes", "detection_scores", "detection_classes", "num_detections")


def write_frozen_graph(model: SsdModel, weights: Precision = "float32") -> bytes:
    """A serialised GraphDef, from image_tensor (uint8 RGB) to detection_boxes, _scores, _classes and num_detections.

    Parameters
    ----------
    weights: "float16" keeps weights and biases of convolutions in half the bytes and casts them to float32, in which
        everything is computed as before.

    Reading it back gives an equal model: the same layers under the same names, the same facts. Three things come back
    in other words: padding that is not TensorFlow's SAME as a `Pad` layer, swish as sigmoid and product, a two-sided
    `Clip` as two. Names of classes are no part of a frozen graph. Anchors are a constant, unless the network's size
    depends on the picture: then nodes compute them, to 1e-5.

    Raises
    ------
    ModelError: TensorFlow has no counterpart of something in the model, or float16 none of a weight; the message says
        of what.
    GraphError: more than 2 GB.
    """
    _check(model)
    g = GraphBuilder(weights)
    image, true_shapes = write_preprocessor(g, model.preprocessing)
    values = write_layers(g, model, image)
    boxes, scores = [], []
    for level, head in enumerate(model.heads):
        with g.scope(f"BoxPredictor_{level}"):
            batch = g.size(values[head.boxes], 0)
            boxes.append(g.op("Reshape", values[head.boxes], g.stack(batch, -1, 1, 4)))
            scores.append(g.op("Reshape", values[head.scores], g.stack(batch, -1, model.logit_columns)))
    encodings, logits = g.concat(boxes, 1), g.concat(scores, 1)
    encodings = g.op("Squeeze", encodings, squeeze_dims=(2,))
    anchors = write_anchors(g, model, image, [values[head.boxes] for head in model.heads])
    write_postprocessor(g, model, anchors, encodings, logits, image, true_shapes)
    return write_graph(_needed(g.nodes, OUTPUTS))


def _needed(nodes: Sequence[NodeSpec], outputs: Sequence[str]) -> list[NodeSpec]:
    """The nodes that the outputs compute from, as freezing leaves them."""
    inputs = {node.name: node.inputs for node in nodes}
    needed: set[str] = set()
    todo = list(outputs)
    while todo:
        name = todo.pop().removeprefix("^").partition(":")[0]
        if name not in needed:
            needed.add(name)
            todo += inputs[name]
    return [node for node in nodes if node.name in needed]


def _check(model: SsdModel) -> None:
    """Refuse what no graph could say."""
    nms = model.nms
    if nms.clip.value == "before" and nms.soft_nms_sigma.value:
        raise ModelError("boxes are clipped before a soft NMS: those exporters that clip before knew no soft NMS")
    if not has_fixed_size(model.preprocessing.resizer.value):
        for layer in model.layers:
            if isinstance(layer, (Resize, Crop)):
                raise ModelError(
                    f"{type(layer).__name__} to {layer.height}x{layer.width} in a network whose size depends on the "
                    "picture: give the model a fixed_shape resizer",
                    node=layer.name,
                )
