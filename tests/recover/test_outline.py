"""The parts of an SSD are found by what computes from what, and a part that is missing is named."""

import numpy as np
import pytest

from build import VARIANTS, const, node
from ssdrt.errors import GraphError, ModelError
from ssdrt.graph import Ref
from ssdrt.graph.writer import NodeSpec
from ssdrt.recover import recover
from ssdrt.recover.outline import MAX_HEADS, outline
from surgery import Surgery, exported


def refused(surgery, match):
    with pytest.raises(ModelError, match=match):
        recover(surgery.graph)


@pytest.mark.parametrize("name", ["default", "clip_before", "class_agnostic", "one_class"])
def test_parts_of_an_export(name):
    graph = exported(name)
    parts = outline(graph)
    assert parts.image == Ref("image_tensor")
    assert parts.network_input == Ref("Preprocessor/sub")
    assert [n.name for n in parts.arithmetic] == ["Preprocessor/mul", "Preprocessor/sub"]
    assert {r.node for r in parts.box_heads} == {f"BoxPredictor_{i}/BoxEncodingPredictor/BiasAdd" for i in (0, 1)}
    assert {r.node for r in parts.score_heads} == {f"BoxPredictor_{i}/ClassPredictor/BiasAdd" for i in (0, 1)}
    assert len(parts.exponentials) == 2
    assert len(parts.nms) == (1 if name == "class_agnostic" else len(VARIANTS[name].colours))


def test_head_with_fake_quantisation_behind_its_bias():
    surgery = Surgery()
    head = "BoxPredictor_0/BoxEncodingPredictor/BiasAdd"
    surgery.insert_after(
        head,
        const("low", -50.0),
        const("high", 50.0),
        node("FakeQuantWithMinMaxVars", "quantised", head, "low", "high"),
    )
    assert Ref("quantised") in outline(surgery.graph).box_heads
    assert recover(surgery.graph).heads[0].boxes == "quantised"


def test_no_exponentials():
    surgery = Surgery()
    for name in surgery.names("Exp"):
        surgery.nodes[name].op = b"Relu"
    refused(surgery, "not decoded by exponentials")


def test_class_head_that_is_missing():
    surgery = Surgery()
    surgery.replace_input("BoxPredictor_1/Reshape_1", "BoxPredictor_0/Reshape_1", "concat_1")
    refused(surgery, "2 convolutions predict boxes, 1 predict classes")


def test_box_head_that_is_missing():
    surgery = Surgery()
    surgery.replace_input("BoxPredictor_1/Reshape", "BoxPredictor_0/Reshape", "concat")
    refused(surgery, "1 convolutions predict boxes, 2 predict classes")


def test_more_heads_than_any_detector_has():
    surgery = Surgery()
    feature_map, weights = (text.decode() for text in surgery.nodes["BoxPredictor_0/ClassPredictor/Conv2D"].inputs)
    names = [f"extra{i}" for i in range(MAX_HEADS)]
    surgery.add(*[node("Conv2D", name, feature_map, weights) for name in names], node("AddN", "all", *names))
    surgery.insert_after("concat_1", const("zero", 0.0), node("Mul", "nothing", "all", "zero"))
    refused(surgery, "convolutions predict boxes")


def test_unknown_op_in_the_backbone_is_named():
    surgery = Surgery()
    relu = surgery.names("Relu6", "Conv2d_3_pointwise")[0]
    surgery.nodes[relu].op = b"Softplus"
    with pytest.raises(ModelError, match="op Softplus is not understood") as caught:
        recover(surgery.graph)
    assert caught.value.node == relu


def test_wrong_channels_are_named():
    surgery = Surgery()
    name = surgery.names("Const", "Conv2d_2_pointwise/weights")[0]
    surgery.set(name, np.ones((1, 1, 99, 4)))
    with pytest.raises(ModelError, match=r"weights of shape \(1, 1, 99, 4\)") as caught:
        recover(surgery.graph)
    assert "Conv2d_2_pointwise" in caught.value.node


def test_two_placeholders():
    surgery = Surgery()
    surgery.add(NodeSpec("other", "Placeholder", (), {"dtype": "uint8"}))
    cast = NodeSpec("other_f", "Cast", ("other",), {"SrcT": "uint8", "DstT": "float32"})
    surgery.insert_after("Cast", cast, node("AddV2", "both", "Cast", "other_f"))
    refused(surgery, "from 2 placeholders")


def test_graph_that_decodes_its_pictures_starts_behind_the_decoder():
    """tf_example and encoded_image_string_tensor exports."""
    surgery = Surgery()
    surgery.add(NodeSpec("string", "Placeholder", (), {"dtype": "string"}))
    surgery.add(NodeSpec("image_tensor", "DecodeImage", ("string",), {"dtype": "uint8"}))
    assert outline(surgery.graph).image == Ref("image_tensor")
    assert recover(surgery.graph).input_size == (96, 128)


@pytest.mark.parametrize(("name", "output"), [("concat", 7), ("Postprocessor/scale_logits", 1)])
def test_output_that_an_op_does_not_have(name, output):
    surgery = Surgery()
    surgery.replace_input(name, f"{name}:{output}")
    with pytest.raises(ModelError):
        recover(surgery.graph)


def test_weights_that_are_variables():
    surgery = Surgery()
    for name in surgery.names("Const", "BoxEncodingPredictor/weights"):
        surgery.add(NodeSpec(name, "VariableV2", (), {"dtype": "float32"}))
    refused(surgery, "not frozen, its weights are variables")


def test_nms_without_its_inputs_is_no_graph():
    surgery = Surgery()
    surgery.nodes[surgery.names("NonMaxSuppressionV5")[0]].inputs.pop()
    with pytest.raises(GraphError, match="NonMaxSuppressionV5 takes 6 inputs and has 5"):
        recover(surgery.graph)
