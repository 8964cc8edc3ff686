"""A binary GraphDef: every kind of attribute, what is skipped, and files cut short."""

import struct

import numpy as np
import pytest

from mutants import Spec
from ssdrt.errors import GraphError
from ssdrt.graph import graph_from_bytes
from ssdrt.graph.reader import MAX_FIELDS, parse_graph
from ssdrt.graph.tensor import Tensor
from ssdrt.graph.wire import BYTES, FIXED32, VARINT, encode_field, encode_varint
from surgery import exported_bytes

DIM_2_FREE = encode_field(2, BYTES, encode_field(1, VARINT, 2)) + encode_field(2, BYTES, encode_field(1, VARINT, -1))


def list_of(number, *values):
    return encode_field(1, BYTES, b"".join(encode_field(number, *value) for value in values))


def attribute(value):
    """What an AttrValue becomes."""
    (node,) = parse_graph(Spec(b"n", b"Op", [], {b"key": value}).encode())
    return node.attributes["key"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (encode_field(2, BYTES, b"SAME\xff"), b"SAME\xff"),
        (encode_field(3, VARINT, -7), -7),
        (encode_field(3, VARINT, 2**63 - 1), 2**63 - 1),
        (encode_field(4, FIXED32, struct.pack("<f", 0.5)), 0.5),
        (encode_field(5, VARINT, 1), True),
        (encode_field(5, VARINT, 0), False),
        (encode_field(6, VARINT, 1), "float32"),
        (encode_field(6, VARINT, 12), "uint8"),
        (encode_field(6, VARINT, 999), "type 999"),
        (encode_field(7, BYTES, DIM_2_FREE), (2, None)),
        (encode_field(7, BYTES, b""), ()),
        (encode_field(7, BYTES, encode_field(3, VARINT, 1)), None),
        (encode_field(1, BYTES, b""), ()),
        (list_of(3, (VARINT, 1), (VARINT, -1)), (1, -1)),
        (list_of(3, (BYTES, b"\x01" + encode_varint(-1))), (1, -1)),
        (list_of(4, (FIXED32, struct.pack("<f", 0.5))), (0.5,)),
        (list_of(4, (BYTES, struct.pack("<2f", 0.5, -1))), (0.5, -1.0)),
        (list_of(2, (BYTES, b"a"), (BYTES, b"")), (b"a", b"")),
        (list_of(5, (BYTES, b"\x01\x00")), (True, False)),
        (list_of(6, (BYTES, b"\x01\x03")), ("float32", "int32")),
        (list_of(7, (BYTES, DIM_2_FREE)), ((2, None),)),
        (encode_field(10, BYTES, encode_field(1, BYTES, b"function")), None),
        (encode_field(9, BYTES, b"placeholder"), None),
        (b"", None),
    ],
)
def test_attribute(value, expected):
    found = attribute(value)
    assert found == expected
    assert type(found) is type(expected)


def test_tensor_attribute():
    proto = encode_field(1, VARINT, 3) + encode_field(7, VARINT, 5)
    found = attribute(encode_field(8, BYTES, proto))
    assert isinstance(found, Tensor)
    np.testing.assert_array_equal(found.array(), np.int32(5))


def test_node():
    spec = Spec("größe".encode(), b"AddV2", [b"a", b"b:1", b"^c"], {b"T": encode_field(6, VARINT, 1)})
    (node,) = parse_graph(b"\x22\x00" + spec.encode())
    assert (node.name, node.op, node.inputs, node.attributes) == (
        "größe",
        "AddV2",
        ("a", "b:1", "^c"),
        {"T": "float32"},
    )
    assert node.offset == 4


def test_what_is_no_node_is_skipped():
    node = Spec(b"n", b"NoOp", []).encode()
    library = encode_field(2, BYTES, encode_field(1, BYTES, encode_field(1, BYTES, b"not a node")))
    unknown = encode_field(536870911, BYTES, b"\xff" * 9) + encode_field(99, VARINT, 1)
    assert [n.name for n in parse_graph(library + node + unknown + encode_field(4, BYTES, b""))] == ["n"]


def test_mutually_recursive_functions_are_not_followed():
    def function(name, callee):
        call = Spec(b"call", callee, []).encode()[2:]
        signature = encode_field(1, BYTES, encode_field(1, BYTES, name))
        return encode_field(1, BYTES, signature + encode_field(3, BYTES, call))

    library = encode_field(2, BYTES, function(b"f", b"g") + function(b"g", b"f"))
    node = Spec(b"n", b"PartitionedCall", [], {b"f": encode_field(10, BYTES, encode_field(1, BYTES, b"f"))})
    assert list(graph_from_bytes(node.encode() + library).nodes) == ["n"]


def test_last_of_two_equal_fields_counts():
    content = encode_field(1, BYTES, b"a") + encode_field(1, BYTES, b"b") + encode_field(2, BYTES, b"NoOp")
    assert [n.name for n in parse_graph(encode_field(1, BYTES, content))] == ["b"]


@pytest.mark.parametrize("field", [1, 2, 3])
def test_text_that_is_no_utf8_is_refused(field):
    with pytest.raises(GraphError, match="UTF-8") as caught:
        parse_graph(encode_field(1, BYTES, encode_field(field, BYTES, b"\xff\xfe")))
    assert caught.value.offset == 4


def test_error_names_node_and_offset_once():
    spec = Spec(b"conv", b"Const", [], {b"value": encode_field(8, BYTES, b"\x0b")})
    with pytest.raises(GraphError) as caught:
        parse_graph(spec.encode())
    assert (caught.value.node, caught.value.offset) == ("conv", spec.encode().index(b"\x0b"))
    assert str(caught.value).count("byte") == str(caught.value).count("conv") == 1


def test_cut_at_every_percent_the_file_is_refused():
    data = exported_bytes()
    for percent in range(100):
        with pytest.raises(GraphError) as caught:
            graph_from_bytes(data[: len(data) * percent // 100])
        assert percent == 0 or caught.value.offset is not None


def test_more_fields_than_a_graph_has_are_refused():
    def node_with(count):
        return encode_field(
            1, BYTES, encode_field(1, BYTES, b"n") + encode_field(2, BYTES, b"NoOp") + b"\x30\0" * count
        )

    assert len(parse_graph(node_with(1000))) == 1
    with pytest.raises(GraphError, match="more fields"):
        parse_graph(node_with(2 * MAX_FIELDS))


def test_long_lists_are_refused():
    with pytest.raises(GraphError, match="a list of"):
        attribute(encode_field(1, BYTES, encode_field(3, BYTES, bytes(100_000))))
