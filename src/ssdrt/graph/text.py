"""A text GraphDef (.pbtxt), rewritten as the binary one: the schema is one table, the reader of nodes stays one.

Source: protobuf.dev/reference/protobuf/textformat-spec, as far as GraphDef needs it.
"""

from __future__ import annotations

import codecs
import re
import struct
from collections.abc import Iterator

from ssdrt.errors import GraphError
from ssdrt.graph.nodes import Node
from ssdrt.graph.reader import parse_graph
from ssdrt.graph.wire import BYTES, FIXED32, FIXED64, VARINT, encode_field

MAX_DEPTH = 100
MAX_TOKENS, BYTES_PER_TOKEN = 400_000, 32
"""Words of a file: the first number, and one for every so many bytes (the largest SSD export seen has one in 50)."""

_SCHEMA: dict[str, dict[str, tuple[int, str]]] = {
    "graph": {"node": (1, "node")},
    "node": {"name": (1, "bytes"), "op": (2, "bytes"), "input": (3, "bytes"), "attr": (5, "entry")},
    "entry": {"key": (1, "bytes"), "value": (2, "attribute")},
    "attribute": {
        "list": (1, "attribute_list"), "s": (2, "bytes"), "i": (3, "int"), "f": (4, "float"), "b": (5, "int"),
        "type": (6, "type"), "shape": (7, "shape"), "tensor": (8, "tensor"),
    },
    "attribute_list": {
        "s": (2, "bytes"), "i": (3, "int"), "f": (4, "float"), "b": (5, "int"), "type": (6, "type"),
        "shape": (7, "shape"), "tensor": (8, "tensor"),
    },
    "shape": {"dim": (2, "dim"), "unknown_rank": (3, "int")},
    "dim": {"size": (1, "int")},
    "tensor": {
        "dtype": (1, "type"), "tensor_shape": (2, "shape"), "tensor_content": (4, "bytes"), "float_val": (5, "float"),
        "double_val": (6, "double"), "int_val": (7, "int"), "string_val": (8, "bytes"), "int64_val": (10, "int"),
        "bool_val": (11, "int"), "half_val": (13, "int"), "uint32_val": (16, "int"), "uint64_val": (17, "int"),
    },
}  # fmt: skip
"""message -> field -> (number, kind); what is not listed is skipped."""

_TYPES = {
    "DT_FLOAT": 1, "DT_DOUBLE": 2, "DT_INT32": 3, "DT_UINT8": 4, "DT_INT16": 5, "DT_INT8": 6, "DT_STRING": 7,
    "DT_COMPLEX64": 8, "DT_INT64": 9, "DT_BOOL": 10, "DT_QINT8": 11, "DT_QUINT8": 12, "DT_QINT32": 13,
    "DT_BFLOAT16": 14, "DT_UINT16": 17, "DT_HALF": 19, "DT_RESOURCE": 20, "DT_VARIANT": 21,
    "DT_UINT32": 22, "DT_UINT64": 23,
}  # fmt: skip

_TOKEN = re.compile(rb"""[\s,;]*(?:(["'])|([-+.\w/]+)|([{}<>:\[\]])|(\#[^\n]*)|\Z)""")
_COMMENT = 4


def looks_like_text(data: bytes) -> bool:
    """Whether a file is a text GraphDef: it starts with a field of one, after comments."""
    start = re.compile(rb"(?:\s|#[^\n]*)*(node|versions|version|library)\s*[:{<]").match(data[:65536])
    return start is not None


def parse_text_graph(data: bytes) -> list[Node]:
    """The nodes of a text GraphDef.

    Raises
    ------
    GraphError: a syntax error, with its byte offset, or whatever is wrong with the graph in it.
    """
    return parse_graph(_Transcoder(data).message("graph", b"", 0))


class _Transcoder:
    """Recursive descent over the tokens of one text."""

    def __init__(self, data: bytes) -> None:
        self.tokens = self._tokens(data)
        self.kind, self.token, self.at = next(self.tokens)

    @staticmethod
    def _tokens(data: bytes) -> Iterator[tuple[int, bytes, int]]:
        """(1 string | 2 word | 3 sign | 0 end, text, byte offset)."""
        position = 0
        limit = MAX_TOKENS + len(data) // BYTES_PER_TOKEN
        for _ in range(limit):
            match = _TOKEN.match(data, position)
            if match is None:
                raise GraphError("this text is no GraphDef", offset=position)
            kind = match.lastindex or 0
            start = match.start(kind)
            position = _string_end(data, start) if kind == 1 else match.end()
            if kind != _COMMENT:
                yield kind, data[start:position] if kind else b"", start
        raise GraphError(f"more than {limit} words: give the graph in its binary form (.pb)", offset=position)

    def _take(self) -> bytes:
        token = self.token
        self.kind, self.token, self.at = next(self.tokens)
        return token

    def message(self, schema: str, close: bytes, depth: int) -> bytes:
        """The fields up to `close`, encoded by the schema ("" skips everything)."""
        if depth > MAX_DEPTH:
            raise GraphError(f"messages nested deeper than {MAX_DEPTH}", offset=self.at)
        out = []
        while self.token != close or self.kind == 1:
            if self.kind != 2:
                raise GraphError("a field name was expected", offset=self.at)
            number, kind = _SCHEMA.get(schema, {}).get(self._take().decode("latin-1"), (0, ""))
            encoded = self._field(number, kind, depth)
            if number:
                out.append(encoded)
        if close:
            self._take()
        return b"".join(out)

    def _field(self, number: int, kind: str, depth: int) -> bytes:
        if self.token == b":" and self.kind == 3:
            self._take()
        if self.kind == 3 and self.token == b"[":
            self._take()
            out = []
            while self.token != b"]" or self.kind == 1:
                out.append(self._value(number, kind, depth))
            self._take()
            return b"".join(out)
        return self._value(number, kind, depth)

    def _value(self, number: int, kind: str, depth: int) -> bytes:
        if self.kind == 3 and self.token in (b"{", b"<"):
            close = b"}" if self._take() == b"{" else b">"
            if kind in ("bytes", "int", "float", "double", "type"):
                raise GraphError("a message where a value was expected", offset=self.at)
            return encode_field(number, BYTES, self.message(kind, close, depth + 1))
        if self.kind == 1:
            text = b"".join(self._strings())
            return encode_field(number, BYTES, text) if kind == "bytes" else b""
        if self.kind != 2:
            raise GraphError("a value was expected", offset=self.at)
        return self._number(number, kind, self.at, self._take().decode("latin-1"))

    def _strings(self) -> Iterator[bytes]:
        """Neighbouring string literals; they are one value."""
        while self.kind == 1:
            at = self.at
            try:
                yield codecs.escape_decode(self._take()[1:-1])[0]
            except ValueError as error:
                raise GraphError("a string with an impossible escape", offset=at) from error

    @staticmethod
    def _number(number: int, kind: str, at: int, word: str) -> bytes:
        try:
            if kind == "float":
                return encode_field(
                    number, FIXED32, struct.pack("<f", float(word if word.endswith("inf") else word.removesuffix("f")))
                )
            if kind == "double":
                return encode_field(number, FIXED64, struct.pack("<d", float(word)))
            if kind == "type":
                return encode_field(number, VARINT, _TYPES.get(word, 0))
            if kind == "int":
                value = {"true": 1, "false": 0}.get(word)
                return encode_field(number, VARINT, int(word, 0) if value is None else value)
        except (ValueError, OverflowError) as error:
            raise GraphError(f"{word[:40]!r} is no number", offset=at) from error
        return b""


def _string_end(data: bytes, start: int) -> int:
    """Where the string literal ends that starts with a quote at `start`. (A regular expression takes thirty times the
    memory of the string, and weights are strings of megabytes.)"""
    end = start
    while True:
        end = data.find(data[start : start + 1], end + 1)
        if end < 0:
            raise GraphError("a string that does not end", offset=start)
        escapes = 0
        while data[end - 1 - escapes] == 0x5C:
            escapes += 1
        if escapes % 2 == 0:
            return end + 1
