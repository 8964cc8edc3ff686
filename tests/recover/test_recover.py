"""The whole recovery: every fact of every variant of the demo graph, and files that are no SSD."""

import hashlib
import re
from dataclasses import replace

import numpy as np
import pytest

from build import VARIANTS, const, demo_bytes, demo_graph, graph_of, node
from ssdrt.errors import ModelError
from ssdrt.graph.writer import NodeSpec, Shape
from ssdrt.labels import COCO
from ssdrt.model import IMAGE, Conv, DepthwiseConv
from ssdrt.recover import recover
from surgery import Surgery, exported


@pytest.mark.parametrize("name", VARIANTS)
def test_facts_are_those_the_graph_was_written_with(name):
    options = VARIANTS[name]
    model = recover(demo_graph(options))
    height, width = options.input_size
    assert model.digest == hashlib.sha256(demo_bytes(options)).hexdigest()
    assert model.input_size == options.input_size
    assert model.preprocessing.input.value == options.placeholder_shape
    resizer = model.preprocessing.resizer.value
    assert (resizer.kind, resizer.height, resizer.width) == ("fixed_shape", height, width)
    assert (resizer.method, resizer.align_corners, resizer.half_pixel_centers) == ("bilinear", False, False)
    steps = model.preprocessing.normalisation.value
    assert [(step.operation, step.operand.tolist()) for step in steps] == [("mul", np.float32(2 / 255)), ("sub", 1)]
    assert model.logit_columns == len(options.colours) + 1
    grids = [(-(-height // stride), -(-width // stride)) for stride in (8, 16)]
    cells = [len(cell.scales) for cell in options.cells]
    assert [(head.height, head.width) for head in model.heads] == grids
    assert [head.anchors_per_cell for head in model.heads] == cells
    assert len(model.anchors.value) == sum(h * w * n for (h, w), n in zip(grids, cells, strict=True))
    assert model.score_converter.logit_scale.value == 1
    assert not model.nms.clip_to_image.value or model.nms.clip.value != "never"


@pytest.mark.parametrize("name", VARIANTS)
def test_every_fact_names_a_node_of_the_graph(name):
    graph = demo_graph(VARIANTS[name])
    model = recover(graph)
    pre, converter = model.preprocessing, model.score_converter
    facts = [pre.input, pre.resizer, pre.normalisation, model.anchors, model.box_coder.scales, converter.function,
             converter.logit_scale, model.num_classes, model.label_offset, *vars(model.nms).values()]  # fmt: skip
    assert {fact.node for fact in facts} <= {*graph.nodes, ""}
    assert [fact for fact in facts if not fact.node and fact.value is not False] == []


def test_layers_are_in_order_and_named_after_nodes():
    graph = demo_graph()
    model = recover(graph)
    known = {IMAGE}
    for layer in model.layers:
        assert set(layer.inputs) <= known
        assert layer.name in graph.nodes
        known.add(layer.name)
    assert {name for head in model.heads for name in (head.boxes, head.scores)} <= known
    convolutions = [layer for layer in model.layers if isinstance(layer, (Conv, DepthwiseConv))]
    assert len(convolutions) == len(graph.of("Conv2D", "DepthwiseConv2dNative"))


def test_ninety_classes_from_one_on_are_cocos():
    assert recover(demo_graph()).labels.value.names == {}
    options = replace(VARIANTS["default"], colours=("blue",) * 90)
    assert recover(demo_graph(options)).labels.value is COCO


def test_order_of_the_nodes_in_the_file_does_not_matter():
    surgery = Surgery()
    surgery.nodes = dict(reversed(surgery.nodes.items()))
    one, other = recover(exported()), recover(surgery.graph)
    np.testing.assert_array_equal(other.anchors.value, one.anchors.value)
    assert [head.height for head in other.heads] == [head.height for head in one.heads]
    assert other.nms.iou_threshold.value == one.nms.iou_threshold.value


def test_names_do_not_matter():
    surgery = Surgery()
    new = {name.encode(): b"n%d" % i for i, name in enumerate(surgery.nodes)}
    for spec in surgery.nodes.values():
        spec.name = new[spec.name]
        parts = [re.fullmatch(rb"(\^?)([^:]+)(.*)", text).groups() for text in spec.inputs]
        spec.inputs = [control + new[name] + output for control, name, output in parts]
    one, other = recover(exported()), recover(surgery.graph)
    np.testing.assert_array_equal(other.anchors.value, one.anchors.value)
    assert [type(layer) for layer in other.layers] == [type(layer) for layer in one.layers]


def test_half_of_the_weights_can_be_float16():
    """Graphs shrunk for phones hold DT_HALF constants behind a Cast."""
    surgery = Surgery()
    for name in surgery.names("Const", "pointwise/weights"):
        value = surgery.graph.nodes[name].attributes["value"].array()
        surgery.add(const(f"{name}/half", value, "float16"))
        surgery.add(NodeSpec(name, "Cast", (f"{name}/half",), {"SrcT": "float16", "DstT": "float32"}))
    weights = [layer.weights for layer in recover(surgery.graph).layers if isinstance(layer, Conv)]
    exact = [layer.weights for layer in recover(exported()).layers if isinstance(layer, Conv)]
    for found, expected in zip(weights, exact, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.parametrize("part", ["weights", "biases", "BatchNorm/gamma", "BatchNorm/beta", "moving_mean"])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(part, number):
    surgery = Surgery()
    name = next(n for n in surgery.names("Const", part) if "FeatureExtractor" in n or "Predictor" in n)
    surgery.scale(name, number)
    with pytest.raises(ModelError, match="NaN or infinite"):
        recover(surgery.graph)


def test_negative_variance_is_refused():
    surgery = Surgery()
    surgery.scale(surgery.names("Const", "moving_variance")[0], -1)
    with pytest.raises(ModelError, match="NaN or infinite"):
        recover(surgery.graph)


def conv(name, source, **attributes):
    return node("Conv2D", name, source, "w", strides=(1, 1, 1, 1), padding=b"SAME", **attributes)


IMAGE_NODE = NodeSpec("image", "Placeholder", (), {"dtype": "float32", "shape": Shape((1, 8, 8, 3))})
WEIGHTS = const("w", np.ones((1, 1, 3, 3)))


@pytest.mark.parametrize(
    ("nodes", "what"),
    [
        ([IMAGE_NODE, WEIGHTS, conv("c", "image"), node("Softmax", "s", "c")], "a classifier, not a detector"),
        ([IMAGE_NODE, WEIGHTS, conv("c", "image")], "a network without non-maximum suppression"),
        ([IMAGE_NODE, node("Relu", "r", "image")], "no convolutional network"),
        ([IMAGE_NODE, NodeSpec("c", "CropAndResize", ("image",))], "a Faster R-CNN or Mask R-CNN"),
        ([IMAGE_NODE, NodeSpec("t", "TFLite_Detection_PostProcess", ("image",))], "an export for TensorFlow Lite"),
        ([IMAGE_NODE, NodeSpec("p", "StatefulPartitionedCall", ("image",))], "a TensorFlow 2 export"),
        ([IMAGE_NODE, NodeSpec("f", "_FusedConv2D", ("image",))], "optimiser has fused"),
        ([IMAGE_NODE, NodeSpec("v", "VariableV2")], "not frozen, its weights are variables"),
        ([NodeSpec("q", "QueueDequeueManyV2")], "a training graph"),
    ],
)
def test_what_is_no_ssd_says_what_it_seems_to_be(nodes, what):
    with pytest.raises(ModelError, match=what) as caught:
        recover(graph_of(*nodes))
    assert "frozen_inference_graph.pb" in str(caught.value) or "optimiser" in what


def test_graph_without_its_picture_is_refused():
    surgery = Surgery()
    surgery.add(const("image_tensor", np.zeros((1, 4, 4, 3)), "uint8"))
    with pytest.raises(ModelError):
        recover(surgery.graph)
