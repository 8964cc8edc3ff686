"""Files written by hand are what the onnx package reads."""

import numpy as np
import pytest

from ssdrt.errors import ModelError
from ssdrt.network.onnx_file import IR_VERSIONS, OnnxGraph, Port


def parsed(graph: OnnxGraph, outputs=(), opset=17):
    onnx = pytest.importorskip("onnx")
    return onnx.load_from_string(graph.to_bytes(outputs, opset))


def test_header_names_opset_and_the_oldest_format_that_holds_it():
    onnx = pytest.importorskip("onnx")
    for opset, version in IR_VERSIONS.items():
        model = parsed(OnnxGraph([]), opset=opset)
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
        assert model.ir_version == version == onnx.helper.find_min_ir_version_for(model.opset_import)
        assert model.producer_name == "ssdrt"


def test_ports_have_sizes_and_names_of_free_dimensions():
    model = parsed(OnnxGraph([Port("in", "uint8", ("batch", 300, 3))]), [Port("out", "float32", (2**40,))])
    (given,), (made,) = model.graph.input, model.graph.output
    dims = given.type.tensor_type.shape.dim
    assert (given.name, given.type.tensor_type.elem_type) == ("in", 2)
    assert [(dim.dim_param, dim.dim_value) for dim in dims] == [("batch", 0), ("", 300), ("", 3)]
    assert (made.type.tensor_type.elem_type, made.type.tensor_type.shape.dim[0].dim_value) == (1, 2**40)


def test_attributes_of_every_type():
    onnx = pytest.importorskip("onnx")
    graph = OnnxGraph([])
    given = {"i": -3, "f": 0.25, "s": "mode", "ints": (1, -1, 2**62), "t": np.array([[1.5, -2]], np.float32)}
    graph("Op", name="out", **given)
    (node,) = parsed(graph).graph.node
    read = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    assert (read["i"], read["f"], read["s"], read["ints"]) == (-3, 0.25, b"mode", [1, -1, 2**62])
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(read["t"]), given["t"])


def test_constants_keep_dtype_shape_and_values():
    onnx = pytest.importorskip("onnx")
    graph = OnnxGraph([])
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    graph("Op", array, 2, (3, -4), np.array(True), name="out")
    read = {constant.name: onnx.numpy_helper.to_array(constant) for constant in parsed(graph).graph.initializer}
    a, number, integers, flag = (read[name] for name in parsed(graph).graph.node[0].input)
    np.testing.assert_array_equal(a, array)
    assert (number.dtype, number.shape, number) == (np.float32, (), 2)
    assert (integers.dtype, integers.tolist()) == (np.int64, [3, -4])
    assert (flag.dtype, bool(flag)) == (np.bool_, True)


def test_equal_constants_are_stored_once():
    graph = OnnxGraph([])
    weights = np.ones((3, 3), np.float32)
    for constant in (weights, weights.copy(), weights.astype(np.int64), weights.reshape(9)):
        graph("Op", constant)
    inputs = [node.input[0] for node in parsed(graph).graph.node]
    assert inputs[0] == inputs[1]
    assert len(set(inputs)) == len(parsed(graph).graph.initializer) == 3


def test_values_have_their_own_names_or_readable_ones():
    graph = OnnxGraph([Port("x", "float32", (1,))])
    assert graph("Relu", "x", name="layer/Relu") == "layer/Relu"
    graph.scope = "layer/swish"
    assert graph("Sigmoid", "x").startswith("layer/swish:Sigmoid")
    assert graph("Sigmoid", "x") != graph("Sigmoid", "x")
    assert [node.name for node in parsed(graph).graph.node] == [node.output[0] for node in parsed(graph).graph.node]


@pytest.mark.parametrize("taken", ["x", "y"])
def test_a_name_cannot_be_used_twice(taken):
    graph = OnnxGraph([Port("x", "float32", (1,))])
    graph("Relu", "x", name="y")
    with pytest.raises(ModelError, match=f"one name.*'{taken}'"):
        graph("Relu", "y", name=taken)
