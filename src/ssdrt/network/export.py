"""An `SsdModel` as an ONNX file."""

from __future__ import annotations

from typing import Literal

from ssdrt.errors import ModelError
from ssdrt.model import IMAGE, SsdModel
from ssdrt.network.layers import write_layer
from ssdrt.network.onnx_file import DATA_TYPES, IR_VERSIONS, OnnxGraph, Port
from ssdrt.network.tail import window_ports, write_detections, write_heads, write_scores

_OPERATIONS = {"mul": "Mul", "add": "Add", "sub": "Sub", "div": "Div"}


def build_onnx(
    model: SsdModel,
    *,
    pixels: Literal["uint8", "float32"] = "uint8",
    tail: Literal["heads", "scores", "detections"] = "detections",
    opset: int = 17,
    batch: int | None = None,
) -> bytes:
    """The network as an ONNX file: pixels in, normalisation inside.

    Parameters
    ----------
    pixels: dtype of the input `image` (b, height, width, 3), RGB 0..255, already resized to `model.input_size`.
    tail: where it ends. "heads": `box_encodings` (b, n, 4), before the box coder, and `class_logits` (b, n, columns),
        background included. "scores": `box_encodings` and `class_scores` (b, n, classes), after the score converter
        and without background. "detections": TensorFlow's `detection_boxes` (b, max_total, 4), `detection_scores`,
        `detection_classes` and `num_detections`, under the limits of `model.nms`; boxes are yxyx in 0..1 of the
        network input, or of its part `window`, an input of the file when the model pads pictures.
    opset: 11 to 21.
    batch: b, or None to leave it free.

    Raises
    ------
    ModelError: the opset is not written here, a layer has no ONNX form, or the detections need soft NMS.
    """
    if opset not in IR_VERSIONS:
        raise ModelError(f"ONNX opset {opset} cannot be written; use {min(IR_VERSIONS)} to {max(IR_VERSIONS)}")
    size = "batch" if batch is None else batch
    inputs = [Port("image", pixels, (size, *model.input_size, 3))]
    inputs += window_ports(model, size) if tail == "detections" else []
    graph = OnnxGraph(inputs)
    image = _write_normalisation(graph, model, pixels)
    for layer in model.layers:
        write_layer(graph, layer, tuple(image if name == IMAGE else name for name in layer.inputs))
    write_heads(graph, model)
    if tail != "heads":
        write_scores(graph, model.score_converter)
    if tail == "detections":
        write_detections(graph, model)
    return graph.to_bytes(_outputs(model, tail, size), opset)


def _write_normalisation(graph: OnnxGraph, model: SsdModel, pixels: str) -> str:
    """The input as the layers read it, NCHW float32."""
    graph.scope = value = "image"
    if pixels == "uint8":
        value = graph("Cast", value, to=DATA_TYPES["float32"])
    for step in model.preprocessing.normalisation.value:
        value = graph(_OPERATIONS[step.operation], value, step.operand)
    return graph("Transpose", value, perm=(0, 3, 1, 2))


def _outputs(model: SsdModel, tail: str, batch: int | str) -> list[Port]:
    rows, classes, total = len(model.anchors.value), model.num_classes.value, model.nms.max_total.value
    if tail == "detections":
        return [
            Port("detection_boxes", "float32", (batch, total, 4)),
            Port("detection_scores", "float32", (batch, total)),
            Port("detection_classes", "float32", (batch, total)),
            Port("num_detections", "float32", (batch,)),
        ]
    scores = Port("class_scores", "float32", (batch, rows, classes))
    if tail == "heads":
        scores = Port("class_logits", "float32", (batch, rows, model.logit_columns))
    return [Port("box_encodings", "float32", (batch, rows, 4)), scores]
