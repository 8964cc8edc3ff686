"""A text GraphDef is the binary one in other letters."""

import numpy as np
import pytest

from ssdrt.errors import GraphError
from ssdrt.graph import graph_from_bytes
from ssdrt.graph.tensor import Tensor
from ssdrt.graph.text import looks_like_text
from ssdrt.recover import recover
from surgery import exported

# Words, escapes and lists as TensorFlow 2.15's text_format prints them, comments as people write them.
TEXT = rb"""
# a comment { with a bracket "and a quote
node {
  name: "image"  op: "Placeholder"
  attr { key: "dtype" value { type: DT_UINT8 } }
  attr {
    key: "shape"
    value { shape { dim { size: -1 } dim { size: 3 } } }
  }
}
node {
  name: "c\303\244sar/\"x\"\n\\"
  op: "Const"
  attr { key: "value" value: { tensor { dtype: DT_FLOAT tensor_shape { dim { size: 2 } }
    tensor_content: "\000\000\200?" "\x00\000\000\300" } } };
  attr { key: "flags" value { list { b: true, b: false i: 3 f: 0.5 s: 'SA' "ME" type: DT_INT32 } } }
  attr { key: "short" value { list { i: [1, -2, 0x10] } } }
  attr { key: "f" value { f: -inf } }
  attr { key: "g" value { f: 1.5e-3f } }
  attr { key: "_output_shapes" value { list { shape { unknown_rank: true } } } }
}
node < name: "r" op: "Add" input: "image:0" input: "c\303\244sar/\"x\"\n\\" input: "^image"
  experimental_debug_info { original_node_names: "a" nested { deeper: [1, 2] } } >
node { name: "v" op: "Const" attr { key: "value" value { tensor { dtype: DT_HALF
  tensor_shape { dim { size: 3 } } half_val: 15360 } } } }
node { name: "d" op: "Const" attr { key: "value" value { tensor { dtype: DT_DOUBLE double_val: 0.1 } } } }
node { name: "q" op: "Const" attr { key: "value" value { tensor { dtype: DT_QUINT8 int_val: 255 } } } }
versions { producer: 134 min_consumer: 12 }
library { function { signature { name: "f" } } }
"""


def text_of(graph):
    """A graph as text, each constant as typed values or escaped content."""
    return "\n".join(map(node_text, graph.nodes.values())).encode()


def node_text(node):
    lines = [f'name: "{node.name}" op: "{node.op}"', *(f'input: "{text}"' for text in node.inputs)]
    for key, value in node.attributes.items():
        if value is not None:
            lines.append(f'attr {{ key: "{key}" value {{ {value_text(value)} }} }}')
    return "node {\n  " + "\n  ".join(lines) + "\n}"


def value_text(value):
    """The content of an AttrValue; a tuple of numbers stands for a list, one of ints and None for a shape."""
    if isinstance(value, Tensor):
        dims = " ".join(f"dim {{ size: {size} }}" for size in value.shape)
        content = escaped(np.ascontiguousarray(value.array()).tobytes()) if value.dtype != "string" else ""
        strings = "".join(f'string_val: "{escaped(s)}" ' for s in value.array().ravel()) if not content else ""
        kept = f'tensor_content: "{content}"' if content else strings
        return f"tensor {{ dtype: {TYPES[value.dtype]} tensor_shape {{ {dims} }} {kept} }}"
    if isinstance(value, bool):
        return f"b: {str(value).lower()}"
    if isinstance(value, int):
        return f"i: {value}"
    if isinstance(value, float):
        return f"f: {value!r}"
    if isinstance(value, bytes):
        return f's: "{escaped(value)}"'
    if isinstance(value, str):
        return f"type: {TYPES[value]}"
    if None in value or value == ():
        return "shape { " + " ".join(f"dim {{ size: {-1 if d is None else d} }}" for d in value) + " }"
    return "list { " + " ".join(map(value_text, value)) + " }"


def escaped(data):
    return "".join(chr(b) if 32 <= b < 127 and b not in b"\"\\'" else f"\\{b:03o}" for b in data)


TYPES = {"float32": "DT_FLOAT", "int32": "DT_INT32", "int64": "DT_INT64", "uint8": "DT_UINT8", "bool": "DT_BOOL",
         "string": "DT_STRING", "type 20": "DT_RESOURCE"}  # fmt: skip


def refused(text):
    with pytest.raises(GraphError) as caught:
        graph_from_bytes(text)
    return caught.value


def test_fields_of_a_text():
    nodes = graph_from_bytes(TEXT).nodes
    assert list(nodes) == ["image", 'cäsar/"x"\n\\', "r", "v", "d", "q"]
    assert nodes["image"].attributes == {"dtype": "uint8", "shape": (None, 3)}
    constant = nodes['cäsar/"x"\n\\'].attributes
    np.testing.assert_array_equal(constant["value"].array(), [1, -2])
    assert constant["flags"] == (True, False, 3, 0.5, b"SAME", "int32")
    assert constant["short"] == (1, -2, 16)
    assert constant["f"] == float("-inf")
    assert constant["g"] == np.float32(1.5e-3)
    assert constant["_output_shapes"] == (None,)
    assert nodes["r"].inputs == ("image:0", 'cäsar/"x"\n\\', "^image")
    np.testing.assert_array_equal(nodes["v"].attributes["value"].array(), [1, 1, 1])
    assert nodes["d"].attributes["value"].array() == 0.1
    assert nodes["q"].attributes["value"].array() == 255


def test_text_and_binary_are_the_same_detector():
    binary = exported()
    text = graph_from_bytes(text_of(binary))
    assert {n.name: (n.op, n.inputs) for n in text.nodes.values()} == {
        n.name: (n.op, n.inputs) for n in binary.nodes.values()
    }
    one, other = recover(binary), recover(text)
    assert other.nms == one.nms
    assert other.preprocessing.resizer == one.preprocessing.resizer
    np.testing.assert_array_equal(other.anchors.value, one.anchors.value)
    for a, b in zip(one.layers, other.layers, strict=True):
        assert (a.name, a.inputs) == (b.name, b.inputs)
        np.testing.assert_array_equal(getattr(a, "weights", 0), getattr(b, "weights", 0))


@pytest.mark.parametrize("quote", [b'"', b"'"])
def test_string_ends_at_the_first_quote_that_is_not_escaped(quote):
    strings = [rb"\\", rb"\"\'", rb"\\\"\'x", rb"a\\\\", rb""]
    for string in strings:
        text = b"node { name: " + quote + b"n" + string + quote + b' op: "NoOp" }'
        (name,) = graph_from_bytes(text).nodes
        assert name.encode() == b"n" + string.decode("unicode_escape").encode()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"node {", "field name was expected"),
        (b'node { name: "a', "does not end"),
        (b'node { name: "a\\', "does not end"),
        (b'node { name: "a" op: "NoOp" ', "field name was expected"),
        (b'node { "a" }', "field name was expected"),
        (b"node { name: }", "value was expected"),
        (b"node { name { } }", "message where a value was expected"),
        (b'node { attr { key: "a" value { i: x } } }', "'x' is no number"),
        (b'node { attr { key: "a" value { i: 1.5 } } }', "'1.5' is no number"),
        (b'node { attr { key: "a" value { i: ' + b"9" * 5000 + b" } } }", "is no number"),
        (b'node { attr { key: "a" value { f: 1e999999x } } }', "is no number"),
        (b'node { attr { key: "a" value { list { i: [1 } } } }', "value was expected"),
        (b'node { name: "\\x" op: "NoOp" }', "impossible escape"),
        (b'node { name: "\\377" op: "NoOp" }', "not UTF-8"),
        (b"node { @ }", "no GraphDef"),
        (b"node { \xff }", "no GraphDef"),
        (b"node " + b"{ a " * 101, "nested deeper than 100"),
        (b"node " + b"{ a " * 200_000, "nested deeper than 100"),
        (b"node { a: [" + b"1 " * 500_000, "more than"),
        (b"versions { producer: 1 }", "no nodes"),
    ],
)
def test_damaged_text_is_refused_with_its_offset(text, message):
    error = refused(text)
    assert message in str(error)
    assert error.offset is not None or message == "no nodes"


def test_text_that_is_cut_is_refused():
    text = text_of(exported())
    for percent in range(2, 100, 7):
        refused(text[: len(text) * percent // 100])


@pytest.mark.parametrize(
    "start", [b"node {", b"\n\n  node{", b"# comment\nnode {", b"versions {", b"library <", b"node: {"]
)
def test_text_is_told_by_its_first_field(start):
    assert looks_like_text(start)


@pytest.mark.parametrize("start", [b"", b"\n\x05node", b"item {", b"nodes {", b"\x0a\x10", b"name: 3"])
def test_what_is_no_text(start):
    assert not looks_like_text(start)
