"""Text dumps (`.pbtxt`) of `.uff` files, as NVIDIA's converter prints them, and back.

Source: protobuf.dev/reference/protobuf/textformat-spec, as far as UFF needs it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ssdrt.errors import GraphError
from ssdrt.legacy.uff import DTYPE_NAMES, DTYPES, MEMBERS, SCHEMA, Data, Uff

LONGEST_SHOWN = 32  # bytes of a blob; what is longer is printed as its length

MAX_DEPTH = 20

_ENUM = {f"DT_{name.upper()}": number for name, number in DTYPES.items()} | {"DT_INVALID": 0}
_ENUM_NAMES = {number: f"DT_{name.upper()}" for number, name in DTYPE_NAMES.items()} | {0: "DT_INVALID"}
_ESCAPES = {9: "\\t", 10: "\\n", 13: "\\r", 34: '\\"', 39: "\\'", 92: "\\\\"}


def write_text(uff: Uff, full: bool = False) -> str:
    """The dump: maps sorted by key, blobs of more than 32 bytes as "(...N bytes skipped...)" unless `full`."""
    return "".join(f"{line}\n" for line in _message_lines(uff, full))


def _message_lines(message: Any, full: bool) -> Iterator[str]:
    for name, field in SCHEMA[type(message)].items():
        value = getattr(message, name)
        if field.many == "map":
            for key in sorted(value):
                yield from _block(
                    name, [f"key: {_quoted(key.encode())}", *_block("value", _data_lines(value[key], full))]
                )
            continue
        for one in value if field.many == "list" else [value] if value else []:
            if isinstance(field.kind, str):
                yield f"{name}: {_scalar(field.kind, one)}"
            else:
                yield from _block(name, _message_lines(one, full))


def _block(name: str, lines: Any) -> Iterator[str]:
    yield f"{name} {{"
    for line in lines:
        yield f"  {line}"
    yield "}"


def _data_lines(data: Data, full: bool) -> Iterator[str]:
    if not data.member:
        return
    kind = MEMBERS[data.member][1]
    if kind == "bytes":
        shown = (
            data.value if full or len(data.value) <= LONGEST_SHOWN else b"(...%d bytes skipped...)" % len(data.value)
        )
        yield f"{data.member}: {_quoted(shown)}"
    elif data.member == "dim_orders":
        yield from _block(data.member, _orders_lines(data.value))
    elif data.member == "dim_orders_list":
        yield from _block(data.member, (line for one in data.value for line in _block("val", _orders_lines(one))))
    elif data.member.endswith("_list"):
        yield from _block(data.member, (f"val: {_scalar(kind, one)}" for one in data.value))
    else:
        yield f"{data.member}: {_scalar(kind, data.value)}"


def _orders_lines(orders: dict[int, tuple[int, ...]]) -> Iterator[str]:
    for key in sorted(orders):
        yield from _block("orders", [f"key: {key}", *_block("value", (f"val: {one}" for one in orders[key]))])


def _scalar(kind: str, value: Any) -> str:
    if kind == "text":
        return _quoted(value.encode())
    if kind == "bool":
        return "true" if value else "false"
    return str(_ENUM_NAMES.get(value, value)) if kind == "dtype" else repr(value)


def _quoted(data: bytes) -> str:
    return '"' + "".join(_ESCAPES.get(b) or (chr(b) if 32 <= b < 127 else f"\\{b:03o}") for b in data) + '"'


# --- reading --------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    rb"""(?:[\s,;]|\#[^\n]*)*(?:("[^"\\\n]*(?:\\.[^"\\\n]*)*"|'[^'\\\n]*(?:\\.[^'\\\n]*)*')|([-+.\w]+)|([{}:])|(\Z))"""
)

_ESCAPE = re.compile(rb"\\([0-7]{1,3}|x[0-9a-fA-F]{1,2}|.)", re.DOTALL)
_LETTERS = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}

Tree = list[tuple[str, Any]]  # field name -> bytes (a string), str (a word) or Tree


def looks_like_text(data: bytes) -> bool:
    """Whether a file is a text dump: it starts with a field of a MetaGraph, after comments."""
    names = rb"version|descriptor_core_version|descriptors|graphs|referenced_data"
    return re.compile(rb"(?:\s|#[^\n]*)*(" + names + rb")\s*[:{]").match(data[:65536]) is not None


def parse_text(data: bytes) -> Uff:
    """The content of a text dump; what it left out stays the text that says so (`uff.skipped_bytes`).

    Raises
    ------
    GraphError: it is no dump of a UFF; with the byte offset.
    """
    tree = _tree(_tokens(data), "", 0)
    try:
        uff: Uff = _message(Uff, tree)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise GraphError(f"this text is no dump of a .uff file: {error}") from error
    if not uff.nodes:
        raise GraphError("this text is no dump of a .uff file: it holds no nodes")
    return uff


def _tokens(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """(1 string | 2 word | 3 sign | 4 end, text, byte offset)."""
    position, kind = 0, 0
    while kind != 4:
        match = _TOKEN.match(data, position)
        if match is None or match.lastindex is None:
            raise GraphError("this text is no dump of a .uff file", offset=position)
        position, kind = match.end(), match.lastindex
        yield kind, match[kind], match.start(kind)


def _tree(tokens: Iterator[tuple[int, bytes, int]], close: str, depth: int) -> Tree:
    """The fields up to `close`."""
    fields: Tree = []
    for kind, token, at in tokens:
        if token.decode("latin-1") == close and kind != 1:
            return fields
        sign, value, value_at = next(tokens, (4, b"", at))
        if kind != 2 or depth > MAX_DEPTH:
            raise GraphError("a field name was expected" if depth <= MAX_DEPTH else "nested too deep", offset=at)
        if sign == 3 and value == b":":
            sign, value, value_at = next(tokens, (4, b"", at))
        name = token.decode("latin-1")
        if sign == 3 and value == b"{":
            fields.append((name, _tree(tokens, "}", depth + 1)))
        elif sign == 1:
            fields.append((name, _ESCAPE.sub(_unescaped, value[1:-1])))
        elif sign == 2:
            fields.append((name, value.decode("latin-1")))
        else:
            raise GraphError("a value was expected", offset=value_at)
    raise GraphError("the text ends inside a message")


def _unescaped(match: re.Match[bytes]) -> bytes:
    """One escape: octal, hexadecimal, a letter of C's, or the character itself."""
    text = match[1]
    if text[:1] == b"x" and len(text) > 1:
        return bytes([int(text[1:], 16)])
    return bytes([int(text, 8) & 255]) if text.isdigit() else _LETTERS.get(text, text)


def _message(kind: type, tree: Tree) -> Any:
    values: dict[str, Any] = {}
    for name, value in tree:
        field = SCHEMA[kind].get(name)
        if field is None:
            raise ValueError(f"{kind.__name__} has no field {name[:40]!r}")
        if field.many == "map":
            entry = dict(value)
            values.setdefault(name, {})[entry["key"].decode()] = _data(entry.get("value", []))
            continue
        one = _word(field.kind, value) if isinstance(field.kind, str) else _message(field.kind, value)
        values[name] = (*values.get(name, ()), one) if field.many == "list" else one
    return kind(**values)


def _data(tree: Tree) -> Data:
    found = Data()
    for name, value in tree:
        kind = MEMBERS[name][1]
        if name == "dim_orders_list":
            found = Data(name, tuple(_orders(one) for _, one in value))
        elif name.endswith("_list"):
            found = Data(name, tuple(_word(kind, one) for _, one in value))
        else:
            found = Data(name, _orders(value) if kind == "orders" else _word(kind, value))
    return found


def _orders(tree: Tree) -> dict[int, tuple[int, ...]]:
    orders = {}
    for _, value in tree:
        entry = dict(value)
        orders[int(entry["key"])] = tuple(int(one) for _, one in entry.get("value", []))
    return orders


def _word(kind: str, value: Any) -> Any:
    if kind in ("text", "bytes"):
        return value.decode() if kind == "text" else bytes(value, "latin-1") if isinstance(value, str) else value
    if kind == "double":
        return float(value)
    if kind == "bool":
        return {"true": True, "false": False}[value]
    return _ENUM[value] if kind == "dtype" and value in _ENUM else int(value)
