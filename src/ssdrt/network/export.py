"""An `SsdModel` as an ONNX file."""

from __future__ import annotations

from typing import Literal

from ssdrt.errors import ModelError
from ssdrt.model import IMAGE, SsdModel
from ssdrt.network.int8 import Scales, check_scales
from ssdrt.network.layers import write_layer
from ssdrt.network.onnx_file import IR_VERSIONS, OnnxGraph, Port
from ssdrt.network.tail import window_ports, write_candidates, write_detections, write_heads, write_scores

_OPERATIONS = {"mul": "Mul", "add": "Add", "sub": "Sub", "div": "Div"}


def build_onnx(
    model: SsdModel,
    *,
    pixels: Literal["uint8", "float32"] = "uint8",
    floats: Literal["float32", "float16", "bfloat16"] = "float32",
    tail: Literal["heads", "scores", "candidates", "detections"] = "detections",
    candidates: int = 0,
    opset: int = 17,
    batch: int | None = None,
    scales: Scales | None = None,
) -> bytes:
    """The network as an ONNX file: pixels in, normalisation inside.

    Parameters
    ----------
    pixels: dtype of the input `image` (b, height, width, 3), RGB 0..255, already resized to `model.input_size`.
    floats: type of everything between the normalised pixels and the heads; normalisation, decoding and scores are
        float32 in any case, and so is every float that goes in or out.
    tail: where it ends. "heads": `box_encodings` (b, n, 4), before the box coder, and `class_logits` (b, n, columns),
        background included. "scores": `box_encodings` and `class_scores` (b, n, classes), after the score converter
        and without background. "candidates": both of "scores", and the `candidates` best pairs of anchor and class,
        see `tail.write_candidates`. "detections": TensorFlow's `detection_boxes` (b, max_total, 4), `detection_scores`,
        `detection_classes` and `num_detections`, under the limits of `model.nms`; boxes are yxyx in 0..1 of the
        network input, or of its part `window`, an input of the file when the model pads pictures.
    opset: 11 to 22, which is the first with convolutions of bfloat16.
    batch: b, or None to leave it free.
    scales: of the values that convolutions read in int8 (QuantizeLinear, DequantizeLinear); opset 13 and "float32".

    Raises
    ------
    ModelError: the opset is not written here, a layer has no ONNX form, the detections need soft NMS, or a scale is
    of no value that a convolution reads.
    """
    if opset not in IR_VERSIONS:
        raise ModelError(f"ONNX opset {opset} cannot be written; use {min(IR_VERSIONS)} to {max(IR_VERSIONS)}")
    size = "batch" if batch is None else batch
    inputs = [Port("image", pixels, (size, *model.input_size, 3))]
    inputs += window_ports(model, size) if tail == "detections" else []
    graph = OnnxGraph(inputs)
    image = _write_normalisation(graph, model, pixels, floats)
    graph.floats = floats
    if scales is not None:
        check_scales(model, scales)
        graph.scales = scales
    for layer in model.layers:
        write_layer(graph, layer, tuple(image if name == IMAGE else name for name in layer.inputs))
    write_heads(graph, model)
    graph.floats = "float32"
    if tail != "heads":
        write_scores(graph, model.score_converter)
    if tail == "candidates":
        write_candidates(graph, model, candidates, opset)
    if tail == "detections":
        write_detections(graph, model)
    return graph.to_bytes(_outputs(model, tail, size, candidates), opset)


def _write_normalisation(graph: OnnxGraph, model: SsdModel, pixels: str, floats: str) -> str:
    """The input as the layers read it, NCHW; cast before it is transposed, which TensorRT does not do to uint8."""
    graph.scope = value = "image"
    if pixels == "uint8":
        value = graph.cast(value, "float32")
    for step in model.preprocessing.normalisation.value:
        value = graph(_OPERATIONS[step.operation], value, step.operand)
    if floats != "float32":
        value = graph.cast(value, floats)
    return graph("Transpose", value, perm=(0, 3, 1, 2))


def _outputs(model: SsdModel, tail: str, batch: int | str, candidates: int) -> list[Port]:
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
    ports = [Port("box_encodings", "float32", (batch, rows, 4)), scores]
    if tail == "candidates":
        ports += [
            Port("candidate_boxes", "float32", (batch, candidates, 4)),
            Port("candidate_scores", "float32", (batch, candidates)),
            Port("candidate_indices", "int32", (batch, candidates)),
        ]
    return ports
