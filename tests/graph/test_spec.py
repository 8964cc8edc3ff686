"""Nodes with more or fewer inputs than their op takes."""

import pytest

from build import const, graph_of, node
from ssdrt.errors import GraphError
from ssdrt.graph.fold import Folder
from ssdrt.graph.ops import OPS
from ssdrt.graph.spec import INPUTS, wrong_inputs
from ssdrt.recover.rules import RULES


@pytest.mark.parametrize(
    ("op", "count"), [("Conv2D", 2), ("ConcatV2", 2), ("ConcatV2", 50), ("Const", 0), ("Pack", 1), ("NoSuchOp", 9)]
)
def test_right_number(op, count):
    assert wrong_inputs(op, count) == ""


@pytest.mark.parametrize(
    ("op", "count", "message"),
    [
        ("Conv2D", 1, "Conv2D takes 2 inputs and has 1"),
        ("Placeholder", 1, "Placeholder takes 0 inputs and has 1"),
        ("ConcatV2", 1, "ConcatV2 takes 2 or more inputs and has 1"),
        ("NonMaxSuppressionV5", 5, "NonMaxSuppressionV5 takes 6 inputs and has 5"),
    ],
)
def test_wrong_number(op, count, message):
    assert wrong_inputs(op, count) == message


def test_node_with_a_missing_input_is_refused():
    with pytest.raises(GraphError, match="Mul takes 2 inputs and has 1") as caught:
        graph_of(const("a", 1.0), node("Mul", "b", "a"))
    assert caught.value.node == "b"


def test_control_inputs_do_not_count():
    graph = graph_of(const("a", 1.0), node("Mul", "b", "a", "a", "^a"))
    assert Folder(graph).value(graph.nodes["b"].data[0]) == 1


def test_every_op_that_is_read_by_position_is_listed():
    assert not {*OPS, *RULES} - set(INPUTS)
