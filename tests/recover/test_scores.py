"""Score converter and number of classes, whatever stands where in the graph."""

import numpy as np
import pytest

from build import VARIANTS, const, node
from ssdrt.errors import ModelError
from ssdrt.graph.writer import NodeSpec
from ssdrt.recover import recover
from surgery import Surgery

CONVERT, SCALE, SLICE = "Postprocessor/convert_scores", "Postprocessor/scale_logits", "Postprocessor/Slice"


def converter_of(surgery):
    return recover(surgery.graph).score_converter


def sliced_before(function):
    """The background cut off before the scores are converted."""
    surgery = Surgery()
    surgery.nodes[CONVERT].op = function.encode()
    surgery.replace_input(SLICE, "Postprocessor/raw_box_scores")
    surgery.nodes[SLICE].inputs[0] = b"concat_1"
    surgery.nodes[SCALE].inputs[0] = SLICE.encode()
    return surgery


@pytest.mark.parametrize("function", ["Sigmoid", "Softmax"])
def test_function(function):
    surgery = Surgery()
    surgery.nodes[CONVERT].op = function.encode()
    found = converter_of(surgery)
    assert (found.function.value, found.function.node) == (function.lower(), CONVERT)
    assert (found.background.value, found.background.node) == ("sliced_after", SLICE)


def test_identity():
    surgery = Surgery()
    surgery.nodes[CONVERT].op = b"Identity"
    found = converter_of(surgery)
    assert (found.function.value, found.background.value) == ("identity", "sliced_after")


@pytest.mark.parametrize("function", ["Sigmoid", "Softmax"])
def test_background_sliced_before_the_function(function):
    found = converter_of(sliced_before(function))
    assert (found.function.value, found.background.value) == (function.lower(), "sliced_before")
    assert found.background.node == SLICE


def test_number_of_classes():
    for name in ("one_class", "default", "six_classes"):
        fact = recover(Surgery(name).graph).num_classes
        assert fact.value == len(VARIANTS[name].colours)


def test_no_background():
    """Every column a class: the slice takes all of them, and four NMS ops stand for four classes."""
    surgery = Surgery("class_agnostic")
    surgery.set(f"{SLICE}/begin", [0, 0, 0], "int32")
    for name in surgery.names("Const", "while/Reshape_1/shape"):
        surgery.set(name, [-1, 4], "int32")
    model = recover(surgery.graph)
    assert (model.score_converter.background.value, model.num_classes.value) == ("none", 4)
    assert model.logit_columns == 4


@pytest.mark.parametrize(("op", "value", "scale"), [("RealDiv", 2.0, 2.0), ("Mul", 0.25, 4.0), ("Div", 0.5, 0.5)])
def test_logit_scale(op, value, scale):
    surgery = Surgery()
    surgery.nodes[SCALE].op = op.encode()
    surgery.set(f"{SCALE}/y", value)
    fact = converter_of(surgery).logit_scale
    assert (fact.value, fact.node) == (scale, SCALE)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_impossible_logit_scale_is_refused(value):
    surgery = Surgery()
    surgery.set(f"{SCALE}/y", value)
    with pytest.raises(ModelError, match="a logit scale of"):
        recover(surgery.graph)


def test_another_function_is_refused():
    surgery = Surgery()
    surgery.nodes[CONVERT].op = b"Square"
    with pytest.raises(ModelError, match="neither sigmoid, softmax nor identity"):
        recover(surgery.graph)


@pytest.mark.parametrize("name", ["default", "class_agnostic", "clip_before"])
def test_function_that_is_unknown_is_refused(name):
    surgery = Surgery(name)
    surgery.nodes[CONVERT].op = b"Softsign"
    with pytest.raises(ModelError, match="op Softsign between the heads and the NMS is not understood"):
        recover(surgery.graph)


def test_scores_that_are_shifted_are_refused():
    surgery = Surgery()
    surgery.insert_after(CONVERT, const("half", 0.5), node("Mul", "halved", CONVERT, "half"))
    with pytest.raises(ModelError):
        recover(surgery.graph)


def test_no_scale_at_all():
    surgery = Surgery()
    surgery.add(NodeSpec(SCALE, "Identity", ("concat_1",), {"T": "float32"}))
    fact = converter_of(surgery).logit_scale
    assert (fact.value, fact.node) == (1.0, "")
