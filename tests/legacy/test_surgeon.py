"""graphsurgeon's behaviour on small graphs."""

import numpy as np
import pytest

from build import const, graph_of, node
from ssdrt.errors import GraphError
from ssdrt.graph import graph_from_bytes
from ssdrt.graph.writer import NodeSpec, Shape, write_graph
from ssdrt.legacy.nodedef import (
    DType,
    create_node,
    create_plugin_node,
    finished,
    read_graphdef,
    update_node,
)
from ssdrt.legacy.surgeon import DynamicGraph, StaticGraph

IMAGE = NodeSpec("image", "Placeholder", (), {"dtype": "float32", "shape": Shape((None, 8))})


def dynamic(*nodes):
    graph_of(IMAGE, *nodes)  # it is a graph
    return DynamicGraph(read_graphdef(write_graph((IMAGE, *nodes))))


def inputs(graph):
    return {one.name: one.input for one in graph}


def test_what_is_known_about_a_graph():
    graph = dynamic(node("Relu", "a/x", "image"), node("Pieces", "b", "a/x", "^image"), node("Add", "c", "b:1", "b"))
    assert len(graph) == 4
    assert graph["b"] is graph[2]
    assert [n.name for n in graph.graph_inputs] == ["image"]
    assert [n.name for n in graph.graph_outputs] == ["c"]
    assert [n.name for n in graph.node_outputs["b"]] == ["c", "c"]
    assert graph.as_graph_def().node[0] is graph["image"]


def test_finding():
    graph = dynamic(node("Relu", "a/x", "image"), node("Relu", "b/x_1", "a/x"), node("Add", "c", "b/x_1", "a/x"))
    assert [n.name for n in graph.find_nodes_by_op("Relu")] == ["a/x", "b/x_1"]
    assert [n.name for n in graph.find_nodes_by_op(["Add", "Placeholder"])] == ["image", "c"]
    assert [n.name for n in graph.find_nodes_by_name("x")] == ["a/x"]
    assert [n.name for n in graph.find_nodes_by_path(r"./x.*")] == ["a/x", "b/x_1"]
    assert [n.name for n in graph.find_node_inputs_by_name(graph["c"], "x")] == ["a/x"]
    assert [n.name for n in graph.find_node_inputs_by_op(graph["c"], "Relu")] == ["b/x_1", "a/x"]
    assert [[n.name for n in c] for c in graph.find_node_chains_by_op(["Relu", "Add"])] == [
        ["a/x", "c"],
        ["b/x_1", "c"],
    ]


def test_removed_nodes_leave_no_names_but_those_of_their_outputs():
    graph = dynamic(node("Pieces", "a", "image"), node("Add", "b", "a", "a:1", "^a"))
    graph.remove("a")
    assert inputs(graph)["b"] == ["a:1"]
    with pytest.raises(GraphError, match="no such node"):
        graph.remove(["gone"])


def test_what_fed_only_removed_nodes_may_go_with_them():
    graph = dynamic(const("one", 1), const("two", 2), node("Assert", "check", "one", "two"), node("Relu", "r", "two"))
    graph.remove(graph.find_nodes_by_op("Assert"), remove_exclusive_dependencies=True)
    assert list(inputs(graph)) == ["image", "two", "r"]


def test_forwarded_nodes_hand_their_inputs_on_through_chains():
    graph = dynamic(node("Identity", "i", "image"), node("Identity", "j", "i"), node("Add", "a", "j", "i"))
    graph.forward_inputs(graph.find_nodes_by_op("Identity"))
    assert inputs(graph) == {"image": [], "a": ["image", "image"]}


def test_a_node_with_a_control_input_is_not_forwarded():
    graph = dynamic(node("Identity", "i", "image", "^image"), node("Relu", "a", "i"))
    graph.forward_inputs(graph["i"])
    assert inputs(graph)["a"] == ["i"]


def test_the_longest_namespace_wins_and_components_count():
    graph = dynamic(
        node("Relu", "a/x", "image"), node("Relu", "a/b/y", "a/x"), node("Relu", "ab", "a/b/y"), node("Relu", "z", "ab")
    )
    outer, inner = create_plugin_node("P", "P_TRT"), create_plugin_node("Q", "Q_TRT")
    graph.collapse_namespaces({"a": outer, "a/b": inner})
    assert inputs(graph) == {"image": [], "ab": ["Q"], "z": ["ab"], "P": ["image"], "Q": ["P"]}


def test_inputs_of_a_collapsed_namespace_come_in_the_order_of_the_graph_once_each():
    graph = dynamic(
        node("Relu", "r", "image"),
        node("Add", "n/1", "r", "image"),
        node("Add", "n/2", "n/1", "r", "^r"),
        const("k", 1),
    )
    plugin = create_plugin_node("NMS", "NMS_TRT")
    graph.collapse_namespaces({"n": plugin})
    assert plugin.input == ["r", "image", "^r"]


def test_an_input_with_a_number_is_outside_the_namespace_of_its_node():
    graph = dynamic(node("Relu", "r", "image:0"))
    graph.collapse_namespaces({"image": create_plugin_node("Input", "Placeholder", shape=(1, 3, 8, 8))})
    assert inputs(graph)["r"] == ["image:0"]


def test_one_node_may_stand_for_several_namespaces_and_nodes_may_be_left_out():
    graph = dynamic(node("Relu", "a", "image"), node("Relu", "a/keep", "a"), node("Relu", "b", "a/keep"))
    one = create_node("one", "Thing")
    graph.collapse_namespaces({"a": one, "b": one}, exclude_nodes=["a/keep"])
    assert inputs(graph) == {"image": [], "a/keep": ["one"], "one": ["image", "a/keep"]}


def test_a_surviving_node_may_read_another_twice():
    graph = dynamic(node("Relu", "a", "image"), node("Mul", "square", "a", "a"), node("Relu", "n/x", "square"))
    graph.collapse_namespaces({"n": create_node("n1", "Thing")})
    assert inputs(graph)["square"] == ["a", "a"]


def test_attributes_of_a_plugin_carry_their_type():
    made = create_plugin_node(
        "p", op="P_TRT", n=1, b=True, f=0.5, i=[1, 2], l=[1, 0.5], s="x", dtype=DType("int32"), inputs=["image"]
    )
    (final,) = finished([made])
    assert final.attributes == {
        "dtype": "int32", "n_u_int": 1, "b_u_int": 1, "f_u_float": 0.5, "i_u_ilist": (1, 2), "l_u_flist": (1.0, 0.5),
        "s_u_str": b"x",
    }  # fmt: skip
    assert final.inputs == ("image",)


def test_an_ordinary_node_has_plain_attributes():
    made = create_node("c", op="ConcatV2", axis=2)
    assert (made.attr["axis"].i, made.attr["dtype"].type) == (2, 1)
    update_node(made, name="d", op="Pack", axis=3, shape=[None, 2])
    assert (made.name, made.op, made.attr["axis"].i) == ("d", "Pack", 3)
    assert [dim.size for dim in made.attr["shape"].shape.dim] == [-1, 2]


def test_a_constant_of_an_array():
    (final,) = finished([create_node("c", "Const", value=np.array([1, 2], np.float32))])
    assert final.attributes["value"].array().tolist() == [1, 2]


def test_attributes_read_as_protobufs_do():
    graph = dynamic(const("c", [1.5, 2.5]), node("Conv2D", "x", "image", "c", strides=(1, 2, 2, 1), padding=b"SAME"))
    attributes = graph["x"].attr
    assert (attributes["padding"].s, attributes["padding"].i, attributes["strides"].list.i) == (
        b"SAME",
        0,
        [1, 2, 2, 1],
    )
    assert np.frombuffer(graph["c"].attr["value"].tensor.tensor_content, "<f4").tolist() == [1.5, 2.5]
    attributes["padding"].s = "VALID"
    attributes["strides"].list.i.append(7)
    (final,) = [n for n in finished(graph) if n.name == "x"]
    assert (final.attributes["padding"], final.attributes["strides"]) == (b"VALID", (1, 2, 2, 1, 7))


def test_a_graph_is_written_as_a_frozen_graph(tmp_path):
    graph = dynamic(const("c", [1.5]), node("Add", "a", "image", "c"))
    graph.append(create_node("shaped", "Placeholder", shape=(1, 2)))
    graph.write(tmp_path / "g.pb")
    back = graph_from_bytes((tmp_path / "g.pb").read_bytes())
    assert back.nodes["c"].attributes["value"].array().tolist() == [1.5]
    assert back.nodes["shaped"].attributes["shape"] == (1, 2)
    assert len(StaticGraph(tmp_path / "g.pb")) == 4
