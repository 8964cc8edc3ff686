"""The writer's bytes are protobuf's own, and the reader gets back what was written."""

import numpy as np
import pytest

from build import const, graph_of, node
from ssdrt.errors import GraphError
from ssdrt.graph.tensor import Tensor
from ssdrt.graph.writer import NodeSpec, Shape, write_graph

# Printed by TensorFlow 2.15: text_format.Parse(the same graph as text, GraphDef()).SerializeToString().hex()
PROTOBUF_BYTES = bytes.fromhex(
    "0a3b0a0178120b506c616365686f6c6465722a0b0a056474797065120230012a1c0a05736861706512133a11120b08ffffffffffffffff"
    "ff01120208030a360a01631205436f6e73742a0b0a056474797065120230012a1d0a0576616c7565121442120801120412020802220800"
    "00803f000000c00a360a0173120753717565657a651a03783a301a025e632a1f0a0c73717565657a655f64696d73120f0a0d1a0b00ffff"
    "ffffffffffffff012203088601"
)


def test_bytes_are_those_of_protobuf():
    nodes = [
        NodeSpec("x", "Placeholder", (), {"dtype": "float32", "shape": Shape((None, 3))}),
        const("c", [1.0, -2.0]),
        NodeSpec("s", "Squeeze", ("x:0", "^c"), {"squeeze_dims": (0, -1)}),
    ]
    assert write_graph(nodes) == PROTOBUF_BYTES


@pytest.mark.parametrize(
    "value",
    [
        True,
        False,
        0,
        -1,
        1 << 40,
        0.5,
        float("-inf"),
        b"SAME",
        b"",
        "uint8",
        (),
        (1, -2, 300),
        (0.5, -1.0),
        (b"a", b""),
    ],
    ids=repr,
)
def test_attribute_survives(value):
    graph = graph_of(NodeSpec("n", "Op", (), {"key": value}))
    assert graph.nodes["n"].attributes["key"] == value


@pytest.mark.parametrize("dims", [(), (None, 3), (1, 0, 2), None])
def test_shape_survives(dims):
    graph = graph_of(NodeSpec("n", "Placeholder", (), {"shape": Shape(dims)}))
    assert graph.nodes["n"].attributes["shape"] == dims


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8", "int16", "int8", "int64", "bool", "float16"])
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_tensor_survives(dtype, shape):
    value = (np.arange(np.prod(shape, dtype=int)).reshape(shape) - 2).astype(dtype)
    tensor = graph_of(const("c", value, dtype)).nodes["c"].attributes["value"]
    assert isinstance(tensor, Tensor)
    assert (tensor.dtype, tensor.shape) == (dtype, shape)
    np.testing.assert_array_equal(tensor.array(), value)


def test_array_of_any_layout_is_written_in_its_own_order():
    value = np.arange(6, dtype=">f4").reshape(2, 3).T
    tensor = graph_of(NodeSpec("c", "Const", (), {"dtype": "float32", "value": value})).nodes["c"].attributes["value"]
    np.testing.assert_array_equal(tensor.array(), value)


def test_strings_survive():
    tensor = graph_of(const("c", [b"abc\0", b""], "string")).nodes["c"].attributes["value"]
    assert tensor.array().tolist() == [b"abc\0", b""]


def test_inputs_are_kept_as_written():
    graph = graph_of(const("a", 1.0), node("Split", "b", "a", "a"), node("Identity", "c", "b:1", "^a"))
    assert graph.nodes["c"].inputs == ("b:1", "^a")


def test_same_nodes_give_same_bytes_whatever_the_order_of_attributes():
    one = NodeSpec("n", "Op", (), {"a": 1, "b": 2})
    other = NodeSpec("n", "Op", (), {"b": 2, "a": 1})
    assert write_graph([one]) == write_graph([other])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("SAME", "no dtype is called 'SAME'"),
        (np.zeros(2, np.complex64), "no dtype is called 'complex64'"),
        ((1, 2.0), "different kinds"),
        (None, "NoneType cannot be an attribute"),
    ],
)
def test_what_cannot_be_written_is_refused_with_node_and_attribute(value, message):
    with pytest.raises(GraphError, match=message) as caught:
        write_graph([NodeSpec("conv", "Conv2D", (), {"padding": value})])
    assert caught.value.node == "conv"
    assert "'padding'" in str(caught.value)


def test_two_nodes_of_one_name_are_refused():
    with pytest.raises(GraphError, match="same name"):
        write_graph([const("a", 1.0), const("a", 2.0)])


def test_tensorflow_runs_it():
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed; it is no dependency of ssdrt")
    content = write_graph([const("a", [1.0, 2.0]), const("b", 3.0), node("Mul", "c", "a", "b")])
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.import_graph_def(tf.compat.v1.GraphDef.FromString(content), name="")
        assert session.run("c:0").tolist() == [3.0, 6.0]
