"""Anchors and box coder, proved on the graph's own decoder."""

import numpy as np
import pytest

from build import const, node
from ssdrt.errors import ModelError
from ssdrt.graph import Ref
from ssdrt.graph.fold import Folder
from ssdrt.recover import recover
from surgery import Surgery, exported

DECODE = "Postprocessor/Decode/"
CENTRES = f"{DECODE}get_center_coordinates_and_sizes/"
ANCHORS = "Concatenate/concat"


def refused(surgery, match):
    with pytest.raises(ModelError, match=match):
        recover(surgery.graph)


@pytest.mark.parametrize("name", ["default", "six_classes", "odd_size"])
def test_anchors_are_what_the_graph_computes(name):
    graph = exported(name)
    model = recover(graph)
    size = (1, *model.input_size, 3)
    maps = {Ref(name): (1, h.height, h.width, 23) for h, name in zip(model.heads, feature_maps(graph), strict=True)}
    given = {Ref("image_tensor"): size, Ref("Preprocessor/sub"): size, **maps}
    computed = Folder(graph, shapes=given).value(Ref(ANCHORS))
    np.testing.assert_array_equal(model.anchors.value, computed)
    assert model.anchors.node == ANCHORS
    assert model.anchors.value.dtype == np.float32


def feature_maps(graph):
    return [graph.nodes[f"BoxPredictor_{i}/BoxEncodingPredictor/Conv2D"].data[0].node for i in (0, 1)]


def test_anchors_that_are_a_constant():
    expected = recover(exported()).anchors.value
    surgery = Surgery()
    surgery.add(const(ANCHORS, expected))
    fact = recover(surgery.graph).anchors
    np.testing.assert_array_equal(fact.value, expected)
    assert fact.node == ANCHORS


def test_anchors_of_which_only_centres_and_sizes_are_left():
    """An optimiser folds the corners away; encodings of zero decode to them."""
    expected = recover(exported()).anchors.value
    ymin, xmin, ymax, xmax = expected.T
    surgery = Surgery()
    folded = {"sub": xmax - xmin, "sub_1": ymax - ymin, "add": (ymin + ymax) / 2, "add_1": (xmin + xmax) / 2}
    for name, value in folded.items():
        surgery.add(const(CENTRES + name, value))
    np.testing.assert_allclose(recover(surgery.graph).anchors.value, expected, atol=1e-6)


@pytest.mark.parametrize(
    "scales", [(10.0, 10.0, 5.0, 5.0), (8.0, 9.0, 4.0, 6.0), (1.0, 1.0, 1.0, 1.0), (0.1, 0.2, 0.3, 0.4)]
)
def test_scales_of_the_box_coder(scales):
    surgery = Surgery()
    for i, scale in enumerate(scales):
        surgery.set(f"{DECODE}truediv{f'_{i}' if i else ''}/y", scale)
    fact = recover(surgery.graph).box_coder.scales
    assert fact.value == tuple(float(np.float32(scale)) for scale in scales)
    assert fact.node.startswith(f"{DECODE}truediv")


def test_no_scales():
    surgery = Surgery()
    for i in range(4):
        name = f"{DECODE}truediv{f'_{i}' if i else ''}"
        surgery.nodes[name].op, surgery.nodes[name].inputs = b"Identity", surgery.nodes[name].inputs[:1]
    assert recover(surgery.graph).box_coder.scales.value == (1, 1, 1, 1)


@pytest.mark.parametrize("number", [0.0, np.inf, np.nan, -0.0])
def test_impossible_scale_is_refused(number):
    surgery = Surgery()
    surgery.set(f"{DECODE}truediv_2/y", number)
    refused(surgery, "not decoded as a Faster R-CNN box coder does")


@pytest.mark.parametrize(
    ("name", "op"), [("mul", "AddV2"), ("mul_2", "AddV2"), ("add", "Sub"), ("truediv_4", "Mul"), ("sub", "AddV2")]
)
def test_other_decoder_is_refused(name, op):
    surgery = Surgery()
    surgery.nodes[DECODE + name].op = op.encode()
    refused(surgery, "decode")


def test_coordinates_in_another_order_are_refused():
    surgery = Surgery()
    spec = surgery.nodes[f"{DECODE}stack"]
    spec.inputs = [spec.inputs[i] for i in (1, 0, 3, 2)]
    refused(surgery, "not decoded as a Faster R-CNN box coder does")


def test_coordinates_that_are_never_put_together_are_refused():
    surgery = Surgery()
    surgery.detach("Pack", f"{DECODE}stack")
    refused(surgery, "never put together")


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_anchors_that_are_no_numbers_are_refused(number):
    surgery = Surgery()
    anchors = recover(exported()).anchors.value.copy()
    anchors[7, 2] = number
    surgery.add(const(ANCHORS, anchors))
    refused(surgery, "not decoded")


def test_anchors_of_another_number_are_refused():
    surgery = Surgery()
    surgery.add(const(ANCHORS, recover(exported()).anchors.value[:-1]))
    refused(surgery, "cannot be evaluated")


def test_unknown_op_on_the_way_is_refused():
    surgery = Surgery()
    surgery.insert_after(f"{DECODE}truediv_2", node("Softsign", "unknown", f"{DECODE}truediv_2"))
    refused(surgery, "cannot be evaluated")
