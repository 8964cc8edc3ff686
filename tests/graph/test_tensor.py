"""Constants in every encoding that exporters use, against the arrays that they stand for."""

import struct

import numpy as np
import pytest

from mutants import Spec
from ssdrt.errors import GraphError
from ssdrt.graph import graph_from_bytes
from ssdrt.graph.tensor import MAX_REPEATED, Tensor
from ssdrt.graph.wire import BYTES, FIXED32, FIXED64, VARINT, encode_field, encode_varint

FLOAT, DOUBLE, INT32, UINT8, STRING, INT64, BOOL, QUINT8, BFLOAT16, HALF = 1, 2, 3, 4, 7, 9, 10, 12, 14, 19


def shape(*dims):
    return b"".join(encode_field(2, BYTES, encode_field(1, VARINT, size)) for size in dims)


def tensor(dtype, dims, *fields):
    """The constant of a file that holds one node."""
    proto = encode_field(1, VARINT, dtype) + encode_field(2, BYTES, shape(*dims)) + b"".join(fields)
    node = Spec(b"c", b"Const", [], {b"value": encode_field(8, BYTES, proto)})
    value = graph_from_bytes(node.encode()).nodes["c"].attributes["value"]
    assert isinstance(value, Tensor)
    return value


def content(array):
    return encode_field(4, BYTES, np.asarray(array).tobytes())


def packed(number, *values):
    return encode_field(number, BYTES, b"".join(map(encode_varint, values)))


@pytest.mark.parametrize(
    ("dtype", "number"),
    [("float32", 1), ("float64", 2), ("int32", 3), ("uint8", 4), ("int16", 5), ("int8", 6), ("int64", 9), ("bool", 10),
     ("uint16", 17), ("uint32", 22), ("uint64", 23), ("int8", 11), ("uint8", 12), ("int32", 13)],
)  # fmt: skip
def test_content(dtype, number):
    expected = np.array([[0, 1], [1, 0], [1, 1]], dtype)
    found = tensor(number, (3, 2), content(expected)).array()
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("dtype", "fields", "expected"),
    [
        (FLOAT, [encode_field(5, BYTES, struct.pack("<3f", 1, -2, 0.5))], [1, -2, 0.5]),
        (FLOAT, [encode_field(5, FIXED32, struct.pack("<f", x)) for x in (1, -2, 0.5)], [1, -2, 0.5]),
        (DOUBLE, [encode_field(6, BYTES, struct.pack("<3d", 1, -2, 1e300))], [1, -2, 1e300]),
        (DOUBLE, [encode_field(6, FIXED64, struct.pack("<d", x)) for x in (1, -2, 1e300)], [1, -2, 1e300]),
        (INT32, [packed(7, 1, -1, 300)], [1, -1, 300]),
        (INT32, [encode_field(7, VARINT, x) for x in (1, -1, 300)], [1, -1, 300]),
        (INT32, [packed(7, 1), encode_field(7, VARINT, -1), packed(7, 300)], [1, -1, 300]),
        (UINT8, [packed(7, 0, 128, 255)], [0, 128, 255]),
        (QUINT8, [packed(7, 0, 128, 255)], [0, 128, 255]),
        (INT64, [packed(10, 2**40, -(2**40), 0)], [2**40, -(2**40), 0]),
        (BOOL, [packed(11, 1, 0, 1)], [True, False, True]),
        (22, [packed(16, 0, 1, 2**32 - 1)], [0, 1, 2**32 - 1]),
        (23, [packed(17, 0, 1, 2**64 - 1)], [0, 1, 2**64 - 1]),
        (HALF, [packed(13, 0x3C00, 0xC000, 0x0001)], [1, -2, 2**-24]),
        (BFLOAT16, [packed(13, 0x3F80, 0xC000, 0x0000)], [1, -2, 0]),
    ],
)
def test_values(dtype, fields, expected):
    found = tensor(dtype, (3,), *fields).array()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("dtype", "bits"), [(HALF, [0x3C00, 0xC000, 0x7C00, 0x0001]), (BFLOAT16, [0x3F80, 0xC000, 0x7F80, 0x3380])]
)
def test_content_of_sixteen_bit_floats_comes_as_float32(dtype, bits):
    found = tensor(dtype, (4,), content(np.array(bits, "<u2"))).array()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [1, -2, np.inf, 2**-24])


def test_last_value_repeats():
    one = encode_field(5, BYTES, struct.pack("<f", 7))
    three = encode_field(5, BYTES, struct.pack("<3f", 1, 2, 3))
    np.testing.assert_array_equal(tensor(FLOAT, (2, 3), one).array(), np.full((2, 3), 7, np.float32))
    np.testing.assert_array_equal(tensor(FLOAT, (2, 3), three).array(), [[1, 2, 3], [3, 3, 3]])
    np.testing.assert_array_equal(tensor(HALF, (3,), packed(13, 0x3C00)).array(), [1, 1, 1])
    np.testing.assert_array_equal(tensor(BFLOAT16, (3,), packed(13, 0x3F80)).array(), [1, 1, 1])


def test_no_value_is_zero():
    found = tensor(INT32, (2, 2)).array()
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, np.zeros((2, 2)))


def test_repeated_value_takes_the_memory_of_one():
    found = tensor(FLOAT, (1000, 1000), encode_field(5, FIXED32, struct.pack("<f", 7))).array()
    assert found.strides == (0, 0)


def test_strings():
    found = tensor(STRING, (2,), encode_field(8, BYTES, b"a\0\xff"), encode_field(8, BYTES, b"")).array()
    assert found.tolist() == [b"a\0\xff", b""]


def test_scalar_and_empty():
    assert tensor(FLOAT, (), encode_field(5, FIXED32, struct.pack("<f", 7))).array().shape == ()
    assert tensor(FLOAT, (0, 4)).array().shape == (0, 4)
    assert tensor(FLOAT, (2**40, 0)).array().size == 0


def test_array_is_read_only():
    found = tensor(FLOAT, (1,), content(np.float32([1]))).array()
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 2


@pytest.mark.parametrize(
    ("dtype", "dims", "fields", "message"),
    [
        (FLOAT, (2, 2), [content(np.zeros(3, np.float32))], "holds 12 bytes"),
        (FLOAT, (2, 2), [content(np.zeros(5, np.float32))], "holds 20 bytes"),
        (FLOAT, (2,), [content(np.zeros(7, np.uint8))], "holds 7 bytes"),
        (FLOAT, (2,), [encode_field(5, BYTES, struct.pack("<3f", 1, 2, 3))], "holds 3 values"),
        (FLOAT, (-2,), [], "impossible shape"),
        (FLOAT, (2**31, 2**31), [], "claims 4611686018427387904 elements"),
        (FLOAT, (2**62, 4), [content(np.zeros(4, np.uint8))], "holds 4 bytes"),
        (FLOAT, (MAX_REPEATED + 2,), [encode_field(5, FIXED32, struct.pack("<f", 7))], "claims 16777218 elements"),
        (FLOAT, (1,) * 300, [], "impossible shape"),
        (FLOAT, (2,), [encode_field(5, BYTES, b"12345")], "middle of one"),
        (INT32, (2,), [encode_field(7, BYTES, b"\x80")], "does not end"),
        (INT32, (2,), [encode_field(7, FIXED32, b"1234")], "middle of one"),
    ],
)
def test_claims_that_do_not_fit_the_bytes_are_refused(dtype, dims, fields, message):
    with pytest.raises(GraphError, match=message) as caught:
        tensor(dtype, dims, *fields)
    assert caught.value.node == "c"
    assert caught.value.offset is not None


def test_free_dimension_is_refused():
    with pytest.raises(GraphError, match="without a full shape"):
        tensor(FLOAT, (-1, 3))


@pytest.mark.parametrize("dtype", [0, 8, 20, 21, 100, 2**40])
def test_unknown_type_is_refused_when_it_is_needed(dtype):
    value = tensor(dtype, (1,), content(np.zeros(7, np.uint8)))
    with pytest.raises(GraphError, match=f"type {dtype}"):
        value.array()


def test_constants_may_not_claim_much_more_than_is_stored_in_all():
    half = MAX_REPEATED // 2 + 1
    proto = encode_field(1, VARINT, FLOAT) + encode_field(2, BYTES, shape(half))
    nodes = [Spec(b"c%d" % i, b"Const", [], {b"value": encode_field(8, BYTES, proto)}).encode() for i in range(3)]
    assert len(graph_from_bytes(nodes[0]).nodes) == 1
    with pytest.raises(GraphError, match="not stored"):
        graph_from_bytes(b"".join(nodes))
