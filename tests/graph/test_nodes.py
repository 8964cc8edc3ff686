"""The checks of a graph, and the view of it without loops."""

import pytest

from build import const, graph_of, node
from mutants import Spec
from ssdrt.errors import GraphError
from ssdrt.graph import Graph, Node, Ref, graph_from_bytes
from ssdrt.graph.writer import NodeSpec
from surgery import exported


def chain(*names, first=""):
    """Relu nodes, each reading the one before."""
    sources = (first, *names)
    return [Node(name, "Relu", (source,) if source else ()) for name, source in zip(names, sources, strict=False)]


def test_inputs_are_outputs_of_nodes():
    found = Node("n", "Op", ("a", "b:1", "c:0", "^d", "scope/e:12")).data
    assert found == (Ref("a", 0), Ref("b", 1), Ref("c", 0), Ref("scope/e", 12))


@pytest.mark.parametrize("text", ["a:", "a:x", "a:-1", "a:1e3", "a:1234567", ":"])
def test_input_that_names_no_output_is_refused(text):
    with pytest.raises(GraphError, match="names no output") as caught:
        Graph([Node("a", "NoOp"), Node("n", "Op", (text,), offset=7)])
    assert (caught.value.node, caught.value.offset) == ("n", 7)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([Node("", "Op")], "without a name or an op"),
        ([Node("a", "")], "without a name or an op"),
        ([Node("a", "Op"), Node("a", "Op")], "two nodes of the same name"),
        ([Node("a", "Op", ("b",))], "'b' is not in the graph"),
        ([Node("a", "Op", ("^b",))], "'b' is not in the graph"),
        ([Node("a", "Op", ("",))], "'' is not in the graph"),
        ([Node("a", "Op", ("a",))], "a cycle"),
        ([Node("a", "Op", ("^a",))], "a cycle"),
        ([Node("a", "Op", ("b",)), Node("b", "Op", ("a",))], "a cycle"),
    ],
)
def test_impossible_graph_is_refused(nodes, message):
    with pytest.raises(GraphError, match=message):
        Graph(nodes)


@pytest.mark.parametrize("count", [2, 3, 3000])
def test_cycle_of_any_length_is_refused(count):
    nodes = [Node(f"n{i}", "Op", (f"n{(i + 1) % count}",)) for i in range(count)]
    with pytest.raises(GraphError, match="a cycle that is no while loop") as caught:
        Graph([*nodes, Node("reader", "Op", ("n0",))])
    assert caught.value.node is not None


def test_cycle_that_only_looks_like_a_loop_is_refused():
    loop = [
        const("start", 0.0),
        NodeSpec("enter", "Enter", ("start",)),
        NodeSpec("merge", "Merge", ("enter", "next")),
        NodeSpec("body", "AddV2", ("merge", "again")),
        NodeSpec("again", "Relu", ("body",)),
        NodeSpec("next", "NextIteration", ("body",)),
    ]
    with pytest.raises(GraphError, match="a cycle"):
        graph_of(*loop)


def test_while_loop_is_accepted_and_opened():
    graph = exported()
    merges = graph.of("Merge")
    assert merges
    assert all(graph.nodes[ref.node].op == "Enter" for merge in merges for ref in graph.data_inputs(merge))
    for gather in graph.of("TensorArrayGatherV3"):
        (stored,) = graph.data_inputs(gather)
        assert graph.order[stored.node] < graph.order[gather.name]
    for read in graph.of("TensorArrayReadV3"):
        assert len(graph.data_inputs(read)) == 1


def test_tensor_array_that_nothing_is_put_into_reads_as_nothing():
    array = NodeSpec("array", "TensorArrayV3", ("size",))
    graph = graph_of(const("size", 1, "int32"), array, node("TensorArrayReadV3", "read", "array", "size", "array:1"))
    assert graph.data_inputs(graph.nodes["read"]) == ()


def test_order_is_that_of_the_file_as_far_as_it_can_be():
    graph = Graph([*chain("b", "c", first="a"), Node("a", "Op"), Node("d", "Op")])
    assert list(graph.order) == ["a", "d", "b", "c"]
    assert [n.name for n in graph.sorted({"c", "a", "b"})] == ["a", "b", "c"]


def test_ancestors_and_descendants_hold_themselves():
    graph = Graph([Node("a", "Op"), *chain("b", "c", first="a"), Node("d", "Op", ("a", "a:1", "^c"))])
    assert graph.ancestors(["c"]) == {"a", "b", "c"}
    assert graph.ancestors(["d"]) == {"a", "d"}
    assert graph.descendants(["b"]) == {"b", "c"}
    assert [n.name for n in graph.readers["a"]] == ["b", "d"]
    assert [n.name for n in graph.of("Relu", "NoSuchOp")] == ["b", "c"]


def test_attributes_of_another_kind_read_as_their_default():
    found = Node("n", "Op", (), {"i": 3, "f": 0.5, "s": b"SAME", "t": "int32", "l": (1, 2), "m": (1, b"a")})
    assert (found.integer("i"), found.integer("s", 7), found.integer("none", 8)) == (3, 7, 8)
    assert (found.number("f", 1), found.number("i", 1), found.number("s", 1)) == (0.5, 3.0, 1)
    assert (found.text("s"), found.text("t"), found.text("i", "x")) == ("SAME", "int32", "x")
    assert (found.integers("l"), found.integers("m"), found.integers("i")) == ((1, 2), (), ())


NAMES = [b"../../etc/passwd", b"a" * 1_000_000, "größe/\N{PILE OF POO}".encode(), b"\x1b[31m", b"a b\n"]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name[:10]))
def test_names_are_names_and_nothing_else(name):
    graph = graph_from_bytes(Spec(name, b"NoOp", []).encode())
    assert list(graph.nodes) == [name.decode()]
    with pytest.raises(GraphError, match="same name") as caught:
        graph_from_bytes(Spec(name, b"NoOp", []).encode() * 2)
    assert len(str(caught.value)) < 400
    assert "\x1b" not in str(caught.value)


def test_long_chain_takes_no_recursion():
    nodes = chain(*(f"n{i}" for i in range(40_000)), first="")
    nodes[0] = Node("n0", "Placeholder")
    graph = Graph(reversed(nodes))
    assert len(graph.ancestors(["n39999"])) == 40_000
