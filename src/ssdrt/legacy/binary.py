"""`.uff` files: `Uff` to bytes and back. What was read is written back byte for byte."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from ssdrt.errors import GraphError
from ssdrt.graph import read_bytes
from ssdrt.graph.wire import BYTES, FIXED64, VARINT, Message, encode_field, encode_varint, packed_varints, signed
from ssdrt.legacy.text import looks_like_text, parse_text
from ssdrt.legacy.uff import MEMBERS, SCHEMA, Data, Field, Uff

MAX_FIELDS = 2_000_000  # of a file; the largest genuine SSD, 1094 nodes, has 12,000

_MEMBER_NAMES = {number: name for name, (number, _) in MEMBERS.items()}


def read_uff(path: str | Path) -> Uff:
    """Read a `.uff` file, or its text dump (told by content).

    Raises
    ------
    GraphError: the file cannot be read or is no UFF; with the byte offset.
    """
    data = read_bytes(path)
    try:
        return parse_text(data) if looks_like_text(data) else parse_uff(data)
    except GraphError as error:
        error.args = (f"{path}: {error.args[0]}",)
        raise


def looks_like_uff(path: Path) -> bool:
    """Whether a file is a `.uff` or a dump of one, by its name or its first bytes; not if it cannot be read."""
    if path.suffix.lower() == ".uff" or not path.is_file():
        return path.suffix.lower() == ".uff"
    try:
        with path.open("rb") as file:
            start = file.read(200)
    except OSError:  # who reads it as a graph says why
        return False
    return start.startswith(b"\x08\x01\x10\x01\x1a") or b"descriptor_core_version" in start


def parse_uff(data: bytes) -> Uff:
    """The content of a `.uff` file.

    Raises
    ------
    GraphError: the bytes are no MetaGraph.
    """
    try:
        uff: Uff = _message(Uff, Message(data, 0, len(data), [MAX_FIELDS]))
    except GraphError as error:
        raise GraphError(f"no readable .uff file: {error.args[0]}") from error
    if not uff.nodes:
        raise GraphError("no readable .uff file: it holds no nodes")
    return uff


def _message(kind: type, message: Message) -> Any:
    """A message class from its bytes; fields that the schema does not have are skipped."""
    by_number = {field.number: (name, field) for name, field in SCHEMA[kind].items()}
    values: dict[str, Any] = {}
    lists: dict[str, list[Any]] = {}
    for number, wire, value, start, end in message.fields():
        if number not in by_number:
            continue
        name, field = by_number[number]
        if field.many == "map":
            key, data = _entry(_child(message, wire, start, end))
            values.setdefault(name, {})[key] = data
            continue
        one = _value(field.kind, message, wire, value, start, end)
        if field.many == "list":
            lists.setdefault(name, []).append(one)
        else:
            values[name] = one
    return kind(**values, **{name: tuple(items) for name, items in lists.items()})


def _child(message: Message, wire: int, start: int, end: int) -> Message:
    if wire != BYTES:
        raise GraphError("a number where a message was expected", offset=start)
    return message.child(start, end)


def _entry(message: Message) -> tuple[Any, Any]:
    """A map's entry: its key and its Data."""
    key, data = "", Data()
    for number, wire, value, start, end in message.fields():
        if number == 1:
            key = _value("text", message, wire, value, start, end)
        elif number == 2:
            data = _data(_child(message, wire, start, end))
    return key, data


def _value(kind: Any, message: Message, wire: int, value: int, start: int, end: int) -> Any:
    if not isinstance(kind, str):
        return _message(kind, _child(message, wire, start, end))
    if kind in ("text", "bytes") and wire == BYTES:
        return message.text(start, end) if kind == "text" else message.data[start:end]
    if kind == "double" and wire == FIXED64:
        return struct.unpack_from("<d", message.data, start)[0]
    if kind in ("int", "bool", "dtype") and wire == VARINT:
        return bool(value) if kind == "bool" else signed(value)
    if kind == "orders":
        return _orders(_child(message, wire, start, end))
    raise GraphError(f"wire type {wire} for a field of kind {kind}", offset=start)


def _data(message: Message) -> Data:
    found = Data()
    for number, wire, value, start, end in message.fields():
        if number not in _MEMBER_NAMES:
            continue
        name = _MEMBER_NAMES[number]
        kind = MEMBERS[name][1]
        if name.endswith("_list"):
            found = Data(name, _list(kind, _child(message, wire, start, end)))
        else:
            found = Data(name, _value(kind, message, wire, value, start, end))
    return found


def _list(kind: str, message: Message) -> tuple[Any, ...]:
    """The values of a list message, packed or not."""
    items: list[Any] = []
    for number, wire, value, start, end in message.fields():
        if number != 1:
            continue
        if wire == BYTES and kind in ("int", "bool", "dtype"):
            numbers = packed_varints(message.data, start, end).tolist()
            items += [bool(n) for n in numbers] if kind == "bool" else numbers
        elif wire == BYTES and kind == "double":
            if (end - start) % 8:
                raise GraphError("a list of doubles that ends in the middle of one", offset=start)
            items += np.frombuffer(message.data, "<f8", (end - start) // 8, start).tolist()
        else:
            items.append(_value(kind, message, wire, value, start, end))
    return tuple(items)


def _orders(message: Message) -> dict[int, tuple[int, ...]]:
    """DimensionOrders: a map of int32 to a list of int64."""
    orders: dict[int, tuple[int, ...]] = {}
    for number, wire, _, start, end in message.fields():
        key, values = 0, ()
        if number == 1:
            entry = _child(message, wire, start, end)
            for inner, inner_wire, inner_value, inner_start, inner_end in entry.fields():
                if inner == 1:
                    key = _value("int", entry, inner_wire, inner_value, inner_start, inner_end)
                elif inner == 2:
                    values = _list("int", _child(entry, inner_wire, inner_start, inner_end))
            orders[key] = values
    return orders


# --- writing --------------------------------------------------------------------------------------------------------


def write_uff(uff: Uff) -> bytes:
    """The file's bytes; equal content in equal order gives equal bytes."""
    return _encode_message(uff)


def _encode_message(message: Any) -> bytes:
    parts = []
    for name, field in SCHEMA[type(message)].items():
        value = getattr(message, name)
        if field.many == "map":
            parts += [encode_field(field.number, BYTES, _encode_entry(*item)) for item in value.items()]
        elif field.many == "list":
            parts += [_encode(field, one) for one in value]
        elif value:  # proto3 leaves zeros out
            parts.append(_encode(field, value))
    return b"".join(parts)


def _encode(field: Field, value: Any) -> bytes:
    if not isinstance(field.kind, str):
        return encode_field(field.number, BYTES, _encode_message(value))
    if field.kind == "text":
        return encode_field(field.number, BYTES, value.encode())
    return encode_field(field.number, VARINT, int(value))


def _encode_entry(key: str, data: Data) -> bytes:
    return encode_field(1, BYTES, key.encode()) + encode_field(2, BYTES, _encode_data(data))


def _encode_data(data: Data) -> bytes:
    """A member is written even when it is zero: which one is there carries meaning."""
    if not data.member:
        return b""
    number, kind = MEMBERS[data.member]
    if data.member.endswith("_list"):
        return encode_field(number, BYTES, _encode_list(kind, data.value))
    return _encode_scalar(number, kind, data.value)


def _encode_scalar(number: int, kind: str, value: Any) -> bytes:
    if kind in ("text", "bytes"):
        return encode_field(number, BYTES, value.encode() if kind == "text" else value)
    if kind == "double":
        return encode_field(number, FIXED64, struct.pack("<d", value))
    if kind == "orders":
        entries = (
            encode_field(1, VARINT, key) + encode_field(2, BYTES, _encode_list("int", items))
            for key, items in value.items()
        )
        return encode_field(number, BYTES, b"".join(encode_field(1, BYTES, entry) for entry in entries))
    return encode_field(number, VARINT, int(value))


def _encode_list(kind: str, values: tuple[Any, ...]) -> bytes:
    """Numbers are packed; no field at all for an empty list."""
    if kind in ("text", "orders"):
        return b"".join(_encode_scalar(1, kind, value) for value in values)
    if kind == "double":
        packed = struct.pack(f"<{len(values)}d", *values)
    else:
        packed = b"".join(encode_varint(int(value)) for value in values)
    return encode_field(1, BYTES, packed) if values else b""
