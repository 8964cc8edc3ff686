"""A binary GraphDef as a checked `Graph`: nodes, attributes and constants.

Field numbers: tensorflow/core/framework/{graph,node_def,attr_value,tensor,tensor_shape}.proto.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdrt.errors import GraphError
from ssdrt.graph.nodes import Attribute, Node
from ssdrt.graph.tensor import DTYPES, MAX_REPEATED, Tensor
from ssdrt.graph.wire import BYTES, FIXED32, FIXED64, VARINT, Message, packed_varints, signed

MAX_NODES, BYTES_PER_NODE = 20_000, 256
"""Nodes of a file: the first number, and one for every so many bytes (the largest SSD export seen has 7,800)."""
MAX_FIELDS, BYTES_PER_FIELD = 300_000, 16
"""Fields of a file: the first number, and one for every so many bytes (the largest SSD export seen has 114,000)."""
MAX_LIST = 1 << 16  # bytes of a packed list attribute
MAX_VARINTS = 1 << 23  # bytes of a constant's packed integers; weights are tensor_content, or halves of 3 bytes

_VALUES: dict[int, str] = {
    5: "float32", 6: "float64", 7: "int64", 10: "int64", 11: "bool", 13: "int64", 16: "int64", 17: "int64",
}  # fmt: skip
"""TensorProto's typed value fields -> what they are kept as (half_val, 13, holds bit patterns)."""


def parse_graph(data: bytes) -> list[Node]:
    """The nodes of a serialised GraphDef, in the file's order, each constant's size checked.

    Raises
    ------
    GraphError: with node and byte offset.
    """
    nodes: list[Node] = []
    most_nodes = MAX_NODES + len(data) // BYTES_PER_NODE
    budget, repeated = [MAX_FIELDS + len(data) // BYTES_PER_FIELD], 0
    for number, wire, _, start, end in Message(data, 0, len(data), budget).fields():
        if number == 1 and wire == BYTES:
            nodes.append(_node(Message(data, start, end, budget)))
            if len(nodes) > most_nodes:
                raise GraphError(f"more than {most_nodes} nodes: not a detection graph", offset=start)
            repeated += sum(t.repeated for t in nodes[-1].attributes.values() if isinstance(t, Tensor))
            if repeated > MAX_REPEATED:
                raise GraphError(
                    f"constants of {repeated} elements that are not stored", node=nodes[-1].name, offset=start
                )
    return nodes


def _node(message: Message) -> Node:
    name, op, inputs = "", "", []
    attributes: dict[str, Attribute] = {}
    try:
        for number, wire, _, start, end in message.fields():
            if wire != BYTES:
                continue
            if number == 1:
                name = message.text(start, end)
            elif number == 2:
                op = message.text(start, end)
            elif number == 3:
                inputs.append(message.text(start, end))
            elif number == 5:
                key, value = _attribute_entry(message.child(start, end))
                attributes[key] = value
    except GraphError as error:
        if error.node is None and name:
            what = str(error).removesuffix(f" (byte {error.offset})")
            raise GraphError(what, node=name, offset=error.offset) from error
        raise
    return Node(name, op, tuple(inputs), attributes, message.start)


def _attribute_entry(message: Message) -> tuple[str, Attribute]:
    key, value = "", None
    for number, wire, _, start, end in message.fields():
        if number == 1 and wire == BYTES:
            key = message.text(start, end)
        elif number == 2 and wire == BYTES:
            value = _attribute(message.child(start, end))
    return key, value


def _attribute(message: Message) -> Attribute:
    """AttrValue: bytes, int, float, bool, dtype name, shape, Tensor or a tuple of those; functions are not followed."""
    result: Attribute = None
    for number, wire, value, start, end in message.fields():
        if number == 1 and wire == BYTES:
            result = _attribute_list(message.child(start, end))
        else:
            result = _scalar_attribute(message, number, wire, value, start, end)
    return result


def _scalar_attribute(message: Message, number: int, wire: int, value: int, start: int, end: int) -> Attribute:
    if number == 2 and wire == BYTES:
        return message.data[start:end]
    if number == 3 and wire == VARINT:
        return signed(value)
    if number == 4 and wire == FIXED32:
        return float(struct.unpack_from("<f", message.data, start)[0])
    if number == 5 and wire == VARINT:
        return bool(value)
    if number == 6 and wire == VARINT:
        return DTYPES.get(value, f"type {value}")
    if number == 7 and wire == BYTES:
        return _shape(message.child(start, end))
    if number == 8 and wire == BYTES:
        return _tensor(message.child(start, end))
    return None


def _attribute_list(message: Message) -> tuple[Any, ...]:
    items: list[Any] = []
    for number, wire, value, start, end in message.fields():
        if end - start > MAX_LIST and wire == BYTES:
            raise GraphError(f"a list of {end - start} bytes as an attribute", offset=start)
        if number in (3, 5, 6) and wire == BYTES:
            unpacked = packed_varints(message.data, start, end).tolist()
            items += [DTYPES.get(v, f"type {v}") for v in unpacked] if number == 6 else unpacked
        elif number == 4 and wire == BYTES:
            items += _fixed(message, start, end, "<f4").tolist()
        else:
            items.append(_scalar_attribute(message, number, wire, value, start, end))
    return tuple(items)


def _shape(message: Message) -> tuple[int | None, ...] | None:
    """TensorShapeProto: None where a dimension is free; None instead of a tuple when the rank is unknown."""
    dims: list[int | None] = []
    for number, wire, value, start, end in message.fields():
        if number == 2 and wire == BYTES:
            size = 0
            for inner, inner_wire, inner_value, _, _ in message.child(start, end).fields():
                if inner == 1 and inner_wire == VARINT:
                    size = signed(inner_value)
            dims.append(None if size == -1 else size)
        elif number == 3 and wire == VARINT and value:
            return None
    return tuple(dims)


def _tensor(message: Message) -> Tensor:
    dtype, content = "float32", memoryview(b"")
    shape: tuple[int, ...] = ()
    pieces: list[NDArray[Any]] = []
    strings: list[bytes] = []
    for number, wire, value, start, end in message.fields():
        if number == 1 and wire == VARINT:
            dtype = DTYPES.get(value, f"type {value}")
        elif number == 2 and wire == BYTES:
            dims = _shape(message.child(start, end))
            if dims is None or any(d is None for d in dims):
                raise GraphError("a constant without a full shape", offset=start)
            shape = tuple(int(d or 0) for d in dims)
        elif number == 4 and wire == BYTES:
            content = memoryview(message.data)[start:end]
        elif number == 8 and wire == BYTES:
            strings.append(message.data[start:end])
        elif number in _VALUES:
            pieces.append(_values(message, number, wire, value, start, end))
    values = np.array(strings, dtype=object) if strings else _join(pieces, dtype)
    tensor = Tensor(dtype, shape, content, values, message.start)
    tensor.check()
    return tensor


def _values(message: Message, number: int, wire: int, value: int, start: int, end: int) -> NDArray[Any]:
    """One run of a typed value field, packed or not."""
    if wire == VARINT:
        return np.array([signed(value)], np.int64)
    if wire == BYTES and _VALUES[number] in ("int64", "bool"):
        if end - start > MAX_VARINTS:
            raise GraphError(f"{end - start} bytes of integers in one constant", offset=start)
        return packed_varints(message.data, start, end)
    if wire == BYTES or wire in (FIXED32, FIXED64):
        return _fixed(message, start, end, "<f4" if number == 5 else "<f8")
    raise GraphError("a constant's values in an impossible encoding", offset=start)


def _fixed(message: Message, start: int, end: int, dtype: str) -> NDArray[Any]:
    if (end - start) % np.dtype(dtype).itemsize:
        raise GraphError("a list of numbers that ends in the middle of one", offset=start)
    return np.frombuffer(message.data, dtype, (end - start) // np.dtype(dtype).itemsize, start)


def _join(pieces: list[NDArray[Any]], dtype: str) -> NDArray[Any]:
    """The values in the constant's own dtype; 16-bit floats stay bit patterns until `Tensor.array`."""
    kept = "uint16" if dtype in ("bfloat16", "float16") else "object" if dtype == "string" else dtype
    known = kept if kept == "object" or kept in DTYPES.values() else "float32"
    if not pieces:
        return np.empty(0, known)
    with np.errstate(all="ignore"):  # of a number that its dtype cannot hold
        return (pieces[0] if len(pieces) == 1 else np.concatenate(pieces)).astype(known, copy=False)
