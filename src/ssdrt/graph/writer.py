"""Nodes as a binary GraphDef that TensorFlow 1 and 2 import, without TensorFlow or a protobuf package.

Field numbers: tensorflow/core/framework/{graph,node_def,attr_value,tensor,tensor_shape,versions}.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ssdrt.errors import GraphError, shorten
from ssdrt.graph.wire import BYTES, FIXED32, VARINT, encode_field, encode_varint

PRODUCER = 134
"""Version of GraphDef written: TensorFlow 1.15's, the last that exported these detectors."""

MAX_BYTES = (1 << 31) - 1  # protobuf's own limit

_NUMBERS = {
    "float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "int8": 6, "string": 7, "int64": 9, "bool": 10,
    "float16": 19, "resource": 20,
}  # fmt: skip
"""DataType (tensorflow/core/framework/types.proto)."""

Attribute: TypeAlias = "bool | int | float | bytes | str | Shape | NDArray[Any] | tuple[Attribute, ...]"
"""bytes is a string and str a dtype ("float32", "resource"), as in `Node.attributes`; an array is a tensor (strings: an
object array of bytes); a tuple is a list."""


@dataclass(frozen=True)
class Shape:
    """A shape as an attribute; None for a free dimension, dims None when even the rank is unknown."""

    dims: tuple[int | None, ...] | None


@dataclass(frozen=True)
class NodeSpec:
    """A node to be written. inputs: "name", "name:1" (its second output) or "^name" (it only has to run first)."""

    name: str
    op: str
    inputs: tuple[str, ...] = ()
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


def write_graph(nodes: Iterable[NodeSpec]) -> bytes:
    """A serialised GraphDef of these nodes, in their order; equal nodes give equal bytes.

    Attributes that TensorFlow has a default for may be left out. Whether ops, inputs and attributes fit together is
    not checked here; TensorFlow does it on import.

    Raises
    ------
    GraphError: two nodes of one name, an attribute that has no encoding, or more than 2 GB.
    """
    written: dict[str, bytes] = {}
    for node in nodes:
        if node.name in written:
            raise GraphError("two nodes of the same name", node=node.name)
        written[node.name] = encode_field(1, BYTES, _node(node))
    graph = b"".join(written.values()) + encode_field(4, BYTES, encode_field(1, VARINT, PRODUCER))
    if len(graph) > MAX_BYTES:
        raise GraphError(f"a graph of {len(graph)} bytes, and protobuf ends at 2 GB")
    return graph


def _node(node: NodeSpec) -> bytes:
    fields = [encode_field(1, BYTES, node.name.encode()), encode_field(2, BYTES, node.op.encode())]
    fields += [encode_field(3, BYTES, name.encode()) for name in node.inputs]
    for key, value in sorted(node.attributes.items()):
        try:
            entry = encode_field(1, BYTES, key.encode()) + encode_field(2, BYTES, _attribute(value))
        except GraphError as error:
            raise GraphError(f"attribute {key!r}: {error.args[0]}", node=node.name) from error
        fields.append(encode_field(5, BYTES, entry))
    return b"".join(fields)


def _attribute(value: Attribute) -> bytes:
    """AttrValue."""
    if isinstance(value, tuple):
        return encode_field(1, BYTES, _list(value))
    return encode_field(*_value(value))


def _list(values: tuple[Attribute, ...]) -> bytes:
    """ListValue: its fields have the numbers of the single values, and numbers are packed."""
    fields = [_value(value) for value in values]
    if len({number for number, _, _ in fields}) > 1:
        raise GraphError("a list of values of different kinds")
    if not fields or fields[0][1] == BYTES:
        return b"".join(encode_field(*field) for field in fields)
    packed = b"".join(encode_varint(data) if isinstance(data, int) else data for _, _, data in fields)
    return encode_field(fields[0][0], BYTES, packed)


def _value(value: Attribute) -> tuple[int, int, int | bytes]:
    """Field number, wire type and content of a single value in AttrValue."""
    if isinstance(value, bytes):
        return 2, BYTES, value
    if isinstance(value, bool):
        return 5, VARINT, int(value)
    if isinstance(value, int):
        return 3, VARINT, value
    if isinstance(value, float):
        return 4, FIXED32, struct.pack("<f", value)
    if isinstance(value, str):
        return 6, VARINT, _number(value)
    if isinstance(value, Shape):
        return 7, BYTES, _shape(value)
    if isinstance(value, np.ndarray):
        return 8, BYTES, _tensor(value)
    raise GraphError(f"a {type(value).__name__} cannot be an attribute; one is {Attribute}")


def _number(dtype: str) -> int:
    if dtype not in _NUMBERS:
        raise GraphError(f"no dtype is called {shorten(dtype)!r} (a string attribute is given as bytes)")
    return _NUMBERS[dtype]


def _shape(shape: Shape) -> bytes:
    if shape.dims is None:
        return encode_field(3, VARINT, 1)
    sizes = (-1 if size is None else size for size in shape.dims)
    return b"".join(encode_field(2, BYTES, encode_field(1, VARINT, size)) for size in sizes)


def _tensor(array: NDArray[Any]) -> bytes:
    """TensorProto: numbers as little-endian tensor_content, strings as string_val."""
    dtype = "string" if array.dtype == object else array.dtype.name
    head = encode_field(1, VARINT, _number(dtype)) + encode_field(2, BYTES, _shape(Shape(array.shape)))
    if dtype == "string":
        return head + b"".join(encode_field(8, BYTES, text) for text in array.ravel().tolist())
    return head + encode_field(4, BYTES, array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
