"""Protobuf's wire format: numbers of every length, and everything that a damaged field can claim."""

import numpy as np
import pytest

from ssdrt.errors import GraphError
from ssdrt.graph.wire import (
    BLOCK,
    BYTES,
    FIXED32,
    VARINT,
    Message,
    encode_field,
    encode_varint,
    packed_varints,
    signed,
    varint,
)

NUMBERS = [0, 1, 127, 128, 300, 16383, 16384, 2**31 - 1, 2**32, 2**62, 2**63 - 1, -1, -128, -(2**63)]


def fields(data, budget=1000):
    return list(Message(data, 0, len(data), [budget]).fields())


@pytest.mark.parametrize("number", NUMBERS)
def test_varint_comes_back(number):
    data = encode_varint(number)
    assert len(data) <= 10
    value, end = varint(data, 0, len(data))
    assert (signed(value), end) == (number, len(data))


def test_varint_of_the_specification():
    assert encode_varint(150) == b"\x96\x01"
    assert varint(b"x\x96\x01", 1, 3) == (150, 3)


def test_varint_may_have_needless_bytes():
    assert varint(b"\x81\x80\x80\x00", 0, 4) == (1, 4)


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "middle of a number"), (b"\x80", "middle of a number"), (b"\xff" * 10 + b"\x01", "more than ten bytes")],
)
def test_varint_that_does_not_end_is_refused(data, message):
    with pytest.raises(GraphError, match=message) as caught:
        varint(data, 0, len(data))
    assert caught.value.offset == 0


def test_varint_does_not_read_past_the_end_of_its_message():
    with pytest.raises(GraphError):
        varint(b"\x80\x01", 0, 1)


def test_fields_of_each_wire_type():
    data = encode_field(1, VARINT, 150) + encode_field(2, BYTES, b"abc") + encode_field(3, FIXED32, b"1234")
    data += encode_field(4, 1, b"12345678")
    found = fields(data)
    assert [(number, wire) for number, wire, _, _, _ in found] == [(1, 0), (2, 2), (3, 5), (4, 1)]
    assert found[0][2] == 150
    assert [data[start:end] for _, _, _, start, end in found[1:]] == [b"abc", b"1234", b"12345678"]


@pytest.mark.parametrize(
    ("data", "message", "offset"),
    [
        (b"\x08\x01\x02\x00", "field number 0", 2),
        (b"\x0b", "wire type 3", 0),
        (b"\x0c", "wire type 4", 0),
        (b"\x0e", "wire type 6", 0),
        (b"\x0f", "wire type 7", 0),
        (b"\x0a\x05abc", "5 bytes where 3 are left", 0),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "bytes where 0 are left", 0),
        (b"\x0d123", "4 bytes where 3 are left", 0),
        (b"\x09123", "8 bytes where 3 are left", 0),
        (b"\x08", "middle of a number", 1),
    ],
)
def test_impossible_fields_are_refused_with_their_offset(data, message, offset):
    with pytest.raises(GraphError, match=message) as caught:
        fields(data)
    assert caught.value.offset == offset


def test_a_message_has_no_more_fields_than_its_budget():
    assert len(fields(b"\x08\x00" * 10, budget=10)) == 10
    with pytest.raises(GraphError, match="more fields"):
        fields(b"\x08\x00" * 11, budget=10)


def test_children_draw_on_their_parents_budget():
    parent = Message(b"\x08\x00" * 6, 0, 12, [5])
    list(parent.child(0, 8).fields())
    with pytest.raises(GraphError, match="more fields"):
        list(parent.child(8, 12).fields())


def test_text_that_is_no_utf8_is_refused():
    with pytest.raises(GraphError, match="UTF-8"):
        Message(b"\xff", 0, 1, [1]).text(0, 1)


def test_packed_varints_of_every_length():
    data = b"junk" + b"".join(map(encode_varint, NUMBERS))
    np.testing.assert_array_equal(packed_varints(data, 4, len(data)), NUMBERS)
    assert packed_varints(data, 4, 4).dtype == np.int64
    assert len(packed_varints(data, 4, 4)) == 0


def test_packed_varints_over_the_edges_of_blocks():
    numbers = np.tile(NUMBERS, BLOCK // 20)
    data = b"".join(map(encode_varint, numbers.tolist()))
    assert len(data) > 3 * BLOCK
    np.testing.assert_array_equal(packed_varints(data, 0, len(data)), numbers)


@pytest.mark.parametrize("data", [b"\x80", b"\x01\x80", b"\xff" * 10 + b"\x01", b"\x80" * (BLOCK + 1) + b"\x01"])
def test_packed_varints_that_do_not_end_are_refused(data):
    with pytest.raises(GraphError):
        packed_varints(data, 0, len(data))
