"""TensorFlow nodes as UFF nodes: order, names, fields; and the exact pairs of NVIDIA's converter."""

import numpy as np
import pytest

from build import const, graph_of, node
from legacy.genuine import SAMPLES
from ssdrt.errors import ModelError
from ssdrt.graph import read_graph
from ssdrt.graph.writer import NodeSpec, Shape
from ssdrt.legacy.binary import read_uff, write_uff
from ssdrt.legacy.converter import to_uff
from ssdrt.legacy.uff import Data

IMAGE = NodeSpec("image", "Placeholder", (), {"dtype": "float32", "shape": Shape((None, 8, 8, 3))})


def converted(*nodes, outputs=("out",)):
    return to_uff(graph_of(IMAGE, *nodes).nodes.values(), outputs)


def only(uff, name):
    (found,) = [n for n in uff.nodes if n.id == name]
    return found, {key: data.value for key, data in found.fields.items()}


def conv(op, weights, **attributes):
    return converted(const("w", np.zeros(weights)), node(op, "out", "image", "w", strides=(1, 2, 1, 1), **attributes))


def test_nodes_stand_before_their_inputs_the_last_input_first():
    uff = converted(node("Relu", "a", "image"), node("Tanh", "b", "a"), node("Add", "out", "a", "b"))
    assert [n.id for n in uff.nodes] == ["out", "b", "a", "image", "MarkOutput_0"]
    assert uff.nodes[-1].inputs == ("out",)


def test_identities_are_passed_over_one_level_deep():
    uff = converted(node("Identity", "i", "image"), node("Identity", "j", "i"), node("Relu", "out", "j"))
    assert [(n.id, n.inputs) for n in uff.nodes][:2] == [("out", ("i",)), ("i", ("image",))]


def test_descriptors_say_whether_there_are_custom_operations():
    assert [d.id for d in converted(node("Relu", "out", "image")).descriptors] == ["tensorflow_extension"]
    uff = converted(NodeSpec("out", "NMS_TRT", ("image",), {"topK_u_int": 3}))
    assert [d.id for d in uff.descriptors] == ["tensorflow_extension", "custom"]


def test_a_convolution():
    uff = conv("Conv2D", (3, 3, 3, 4), padding=b"SAME", dilations=(1, 1, 1, 1))
    found, fields = only(uff, "out")
    assert found.operation == "Conv"
    assert list(fields.items()) == [
        ("strides", (2, 1)),
        ("dilation", (1, 1)),
        ("inputs_orders", "orders_N+C_+CK"),
        ("implicit_padding", "same"),
    ]
    orders = uff.referenced_data["orders_N+C_+CK"].value
    assert orders == ({-1: (0, 2, 2147483647, 1)}, {-1: (2, 2147483647, 1, 0)})


def test_a_depthwise_convolution_has_as_many_groups_as_channels():
    _, fields = only(conv("DepthwiseConv2dNative", (3, 3, 3, 1), padding=b"VALID"), "out")
    assert fields["number_groups"] == 3
    assert "implicit_padding" not in fields


@pytest.mark.parametrize(("widths", "taken"), [((1, 1, 2, 2), True), ((0, 1, 0, 1), False)])
def test_a_symmetric_pad_is_taken_into_the_convolution(widths, taken):
    paddings = np.array([[0, 0], widths[:2], widths[2:], [0, 0]])
    uff = converted(
        const("p", paddings, "int32"),
        const("w", np.zeros((3, 3, 3, 4))),
        node("Pad", "pad", "image", "p"),
        node("Conv2D", "out", "pad", "w", strides=(1, 1, 1, 1), padding=b"VALID"),
    )
    found, fields = only(uff, "out")
    assert found.inputs[0] == ("image" if taken else "pad")
    assert fields.get("padding") == ((1, 2) if taken else None)


def test_a_bias_is_written_before_its_addition():
    uff = converted(const("b", [1, 2, 3]), node("BiasAdd", "out", "image", "b"))
    assert [n.id for n in uff.nodes] == ["b", "out", "image", "MarkOutput_0"]
    assert only(uff, "out")[1] == {"func": "add"}


def test_constants_that_become_fields_are_not_written():
    uff = converted(
        const("axes", [1, 2], "int32"), node("Mean", "out", "image", "axes", keep_dims=True), const("unused", 0)
    )
    assert only(uff, "out")[1] == {"func": "mean", "axes": (1, 2), "keepdims": True}
    assert [n.id for n in uff.nodes] == ["out", "image", "MarkOutput_0"]


def test_a_reshape_below_a_scope_called_flatten_is_one():
    uff = converted(
        const("s", [1, -1], "int32"), node("Reshape", "Flatten_1/Reshape", "image", "s"), outputs=["Flatten_1/Reshape"]
    )
    assert uff.nodes[0].operation == "Flatten"
    assert uff.nodes[0].inputs == ("image",)


def test_constants_are_bytes_under_their_name():
    uff = converted(const("c", [[1], [2]], "int32"), node("Add", "out", "image", "c"))
    assert only(uff, "c")[1] == {"shape": (2, 1), "dtype": 0x10020, "values": "weights_c"}
    assert uff.referenced_data["weights_c"] == Data("blob", b"\1\0\0\0\2\0\0\0")


def test_attributes_of_a_plugin_become_fields():
    attributes = {"a_u_int": 1, "b_u_float": 0.5, "c_u_ilist": (1, 2), "d_u_flist": (1.0, 0.5), "e_u_str": b"x",
                  "dtype": "float32", "empty": (), "names": (b"y",), "types": ("int32", "bool")}  # fmt: skip
    _, fields = only(converted(NodeSpec("out", "Any_TRT", ("image",), attributes)), "out")
    assert fields == {
        "a_u_int": 1,
        "b_u_float": 0.5,
        "c_u_ilist": (1, 2),
        "d_u_flist": (1.0, 0.5),
        "e_u_str": "x",
        "dtype": 0x20020,
        "names": ("y",),
        "types": (0x10020, 7),
    }


def test_an_op_that_uff_does_not_have_is_custom():
    assert only(converted(node("Where", "out", "image")), "out")[0].operation == "_Where"


def test_what_uff_cannot_hold_is_refused_with_its_node():
    with pytest.raises(ModelError, match=r"is no constant.*node 'out'"):
        converted(node("Mean", "out", "image", "image"))
    with pytest.raises(ModelError, match="EXPLICIT"):
        conv("Conv2D", (1, 1, 3, 3), padding=b"EXPLICIT")


@pytest.mark.parametrize("name", ["ppo_model", "xuansan_model"])
def test_genuine_pairs_come_out_equal(name):
    if not SAMPLES.is_dir():
        pytest.skip(f"no genuine files in {SAMPLES}")
    expected = read_uff(SAMPLES / f"{name}.uff")
    outputs = [n.inputs[0] for n in expected.nodes if n.operation == "MarkOutput"]
    found = to_uff(read_graph(SAMPLES / f"{name}.pb").nodes.values(), outputs)
    assert found == expected
    if name == "ppo_model":  # the other one's maps are in hash order
        assert write_uff(found) == (SAMPLES / f"{name}.uff").read_bytes()
