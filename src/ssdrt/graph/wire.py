"""Protobuf's wire format, read in place: fields as (number, wire type, value or byte range), every length checked.

Source: protobuf.dev/programming-guides/encoding. Groups (wire types 3 and 4) never occur in a GraphDef and are refused.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ssdrt.errors import GraphError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
BLOCK = 1 << 16
"""Bytes of a packed field that are decoded at once."""


class Message:
    """A run of bytes of a file that holds one message. `fields_left` bounds the work a file can ask for."""

    __slots__ = ("budget", "data", "end", "start")

    def __init__(self, data: bytes, start: int, end: int, budget: list[int]) -> None:
        self.data, self.start, self.end, self.budget = data, start, end, budget

    def fields(self) -> Iterator[tuple[int, int, int, int, int]]:
        """(field number, wire type, value, start, end): the value of a varint, the byte range of everything else.

        Raises
        ------
        GraphError: a field passes the end, a wire type or number that cannot be, or more fields than any graph has.
        """
        data, position, end = self.data, self.start, self.end
        while position < end:
            at, tag = position, data[position]
            position += 1
            if tag > 0x7F:
                tag, position = varint(data, at, end)
            number, wire = tag >> 3, tag & 7
            self.budget[0] -= 1
            if self.budget[0] < 0:
                raise GraphError("more fields than any detection graph has; the file is damaged or hostile", offset=at)
            if number == 0:
                raise GraphError("field number 0: not a GraphDef, or a damaged one", offset=at)
            if wire == VARINT:
                value, position = varint(data, position, end)
                yield number, wire, value, at, position
                continue
            if wire == BYTES:
                size, position = varint(data, position, end)
            elif wire in (FIXED32, FIXED64):
                size = 4 if wire == FIXED32 else 8
            else:
                raise GraphError(f"wire type {wire}: not a GraphDef, or a damaged one", offset=at)
            if size > end - position:
                raise GraphError(f"a field of {size} bytes where {end - position} are left: truncated?", offset=at)
            yield number, wire, 0, position, position + size
            position += size

    def child(self, start: int, end: int) -> Message:
        """The message in a byte range of this one; it draws on the same budget."""
        return Message(self.data, start, end, self.budget)

    def text(self, start: int, end: int) -> str:
        """The UTF-8 string in a byte range."""
        try:
            return self.data[start:end].decode("utf-8")
        except UnicodeDecodeError as error:
            raise GraphError("a name that is not UTF-8", offset=start) from error


def varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """(unsigned 64-bit value, position after it)."""
    value = shift = 0
    at = position
    while position < end:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
        shift += 7
        if shift > 63:
            raise GraphError("a number of more than ten bytes: not a GraphDef, or a damaged one", offset=at)
    raise GraphError("the file ends in the middle of a number: truncated?", offset=at)


def signed(value: int) -> int:
    """Two's complement of an unsigned 64-bit value (protobuf's int32 and int64)."""
    return value - (1 << 64) if value >> 63 else value


def packed_varints(data: bytes, start: int, end: int) -> NDArray[np.int64]:
    """All varints of a packed field as int64 (n,), vectorised, a block at a time."""
    blocks = [np.empty(0, np.int64)]
    while start < end:
        raw = np.frombuffer(data, np.uint8, min(BLOCK, end - start), start)
        last = np.flatnonzero(raw < 0x80)
        if len(last) == 0:
            raise GraphError("a packed field with a number that does not end", offset=start)
        blocks.append(_varints(raw, np.concatenate([[0], last[:-1] + 1]), last))
        start += int(last[-1]) + 1
    return np.concatenate(blocks)


def _varints(raw: NDArray[np.uint8], first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.int64]:
    """The varints whose first and last bytes stand at these places."""
    digits = (raw & 0x7F).astype(np.uint64)
    values = digits[first]
    longest = int((last - first).max())
    if longest > 9:
        raise GraphError("a packed field with a number of more than ten bytes")
    for place in range(1, longest + 1):
        longer = np.flatnonzero(last - first >= place)
        values[longer] |= digits[first[longer] + place] << np.uint64(7 * place)
    return values.view(np.int64)


def encode_varint(value: int) -> bytes:
    """The varint of an unsigned or negative (two's complement) 64-bit value."""
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_field(number: int, wire: int, value: int | bytes) -> bytes:
    """One field: a varint's value, or the bytes of everything else (a length goes before BYTES)."""
    tag = encode_varint(number << 3 | wire)
    if isinstance(value, int):
        return tag + encode_varint(value)
    return tag + (encode_varint(len(value)) if wire == BYTES else b"") + value
