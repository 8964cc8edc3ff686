"""Files made to hang, to crash or to fill the memory: refused within 1 s + 0.1 s/MB and 200 MB + 4x the file."""

from pathlib import Path

import pytest

import mutants
from build import VARIANTS, demo_bytes
from limits import judge
from mutants import Spec
from ssdrt.graph import graph_from_bytes
from ssdrt.graph.wire import BYTES, VARINT, encode_field, encode_varint
from ssdrt.recover import recover
from surgery import exported_bytes

CRASHERS = sorted((Path(__file__).parents[1] / "data" / "crashers").glob("*.pb"))
MILLION = 1_000_000


def node(*fields):
    return encode_field(1, BYTES, encode_field(1, BYTES, b"n") + encode_field(2, BYTES, b"NoOp") + b"".join(fields))


def const(*fields, name=b"c", dtype=1):
    tensor = encode_field(1, VARINT, dtype) + b"".join(fields)
    return Spec(name, b"Const", [], {b"value": encode_field(8, BYTES, tensor)}).encode()


def dims(*sizes):
    return encode_field(2, BYTES, b"".join(encode_field(2, BYTES, encode_field(1, VARINT, s)) for s in sizes))


def attribute(value):
    return Spec(b"n", b"NoOp", [], {b"a": value}).encode()


def nested(depth):
    value = encode_field(3, VARINT, 1)
    for _ in range(depth):
        entry = encode_field(1, BYTES, b"a") + encode_field(2, BYTES, value)
        value = encode_field(10, BYTES, encode_field(1, BYTES, b"f") + encode_field(2, BYTES, entry))
    return attribute(value)


def nested_lists(depth):
    value = b""
    for _ in range(depth):
        value = encode_field(1, BYTES, value)
    return attribute(value)


def relus(count, source):
    """A placeholder "r", and nodes that read `source(i)`."""
    nodes = [Spec(b"n%d" % i, b"Relu", [source(i)]).encode() for i in range(count)]
    return b"".join(nodes) + Spec(b"r", b"Placeholder", []).encode()


FILES = {
    "empty nodes": lambda: b"\x0a\x00" * MILLION,
    "group tags": lambda: b"\x0b" * MILLION,
    "unknown fields": lambda: b"\x78\x00" * 3 * MILLION,
    "inputs": lambda: node(b"\x1a\x01n" * MILLION),
    "control inputs": lambda: node(b"\x1a\x02^n" * MILLION),
    "attributes": lambda: node(b"\x2a\x00" * MILLION),
    "attribute values": lambda: node(encode_field(5, BYTES, b"\x12\x00" * MILLION)),
    "single floats": lambda: const(b"\x2d\0\0\0\0" * MILLION),
    "single integers": lambda: const(b"\x38\0" * MILLION, dtype=3),
    "empty packed fields": lambda: const(b"\x2a\0" * MILLION),
    "packed integers": lambda: const(dims(50 * MILLION), encode_field(7, BYTES, bytes(50 * MILLION)), dtype=3),
    "packed integers, 16 MB": lambda: const(dims(1 << 24), encode_field(7, BYTES, bytes(1 << 24)), dtype=9),
    "long integers": lambda: const(encode_field(7, BYTES, (b"\xff" * 9 + b"\x01") * MILLION), dtype=3),
    "strings": lambda: const(b"\x42\0" * MILLION, dtype=7),
    "dimensions": lambda: const(dims(*[1] * 200_000)),
    "shapes": lambda: const(b"\x12\0" * MILLION),
    "a terabyte": lambda: const(dims(1 << 19, 1 << 19)),
    "overflowing shape": lambda: const(dims(2**62, 2**62, 4)),
    "terabytes in small claims": lambda: b"".join(const(dims(1 << 23), name=b"c%d" % i) for i in range(1000)),
    "list of integers": lambda: attribute(encode_field(1, BYTES, encode_field(3, BYTES, bytes(5 * MILLION)))),
    "list of types": lambda: attribute(encode_field(1, BYTES, encode_field(6, BYTES, b"\x63" * 5 * MILLION))),
    "list of single integers": lambda: attribute(encode_field(1, BYTES, b"\x18\0" * MILLION)),
    "nesting 101": lambda: nested(101),
    "nesting 20,000": lambda: nested(20_000),
    "nested lists": lambda: nested_lists(20_000),
    "100,000 nodes in a chain": lambda: relus(100_000, lambda i: b"n%d" % (i - 1) if i else b"r"),
    "100,000 nodes in a backward chain": lambda: relus(100_000, lambda i: b"n%d" % (i + 1) if i < 99_999 else b"r"),
    "100,000 nodes with one source": lambda: relus(100_000, lambda _: b"r"),
    "cycle of 3,000": lambda: relus(3000, lambda i: b"n%d" % ((i + 1) % 3000)),
    "names of a megabyte": lambda: b"".join(Spec(b"%d" % i * MILLION, b"NoOp", []).encode() for i in range(10)),
    "long varint": lambda: b"\x0a" + b"\xff" * 11 + b"\x01",
    "length of 2^63": lambda: b"\x0a" + encode_varint(2**63) + b"x",
    "every node in one": lambda: demo_bytes()[:1000] * 3000,
    "text of words": lambda: b"node { " + b"a:1 " * 3 * MILLION,
    "text of numbers": lambda: b'node { attr { key: "a" value { list { i: [' + b"1 " * 5 * MILLION,
    "text of strings": lambda: b"node { name: " + b'"" ' * 3 * MILLION,
    "text of one string": lambda: b'node { name: "' + b"\\000" * 10 * MILLION + b'"',
    "text of escaped quotes": lambda: b'node { name: "' + b'\\"' * 3 * MILLION,
    "text of backslashes": lambda: b'node { name: "' + b"\\" * 6 * MILLION + b'"',
    "text of blanks": lambda: b"node {" + b" " * 20 * MILLION,
    "text of comments": lambda: b"node {" + b"#\n" * 5 * MILLION,
    "text of brackets": lambda: b"node " + b"{ a " * MILLION,
}


@pytest.mark.parametrize("name", FILES)
def test_file_is_refused_within_the_limits(name):
    data = FILES[name]()
    verdict = judge(lambda: recover(graph_from_bytes(data)), len(data))
    assert verdict.kind == "refused", verdict


@pytest.mark.parametrize("path", CRASHERS, ids=lambda path: path.stem)
def test_what_crashed_a_reader_is_refused(path):
    """Files that crashed OpenCV 5.0 (cv_), hung OpenVINO 2026.4 (ov_), or once came through here."""
    data = path.read_bytes()
    verdict = judge(lambda: recover(graph_from_bytes(data)), len(data))
    assert verdict.kind == "refused", verdict


# A mutant of a small graph takes 55 ms; one of those whose every node was the exporter's own, 80 to 110.
@pytest.mark.parametrize(
    ("make", "seeds"),
    [
        pytest.param(lambda: demo_bytes(VARIANTS["one_class"]), range(0, 1600, 10), id="one_class"),
        pytest.param(lambda: exported_bytes("clip_before"), range(1, 550, 10), id="clip_before"),
        pytest.param(lambda: exported_bytes("class_agnostic"), range(2, 550, 10), id="class_agnostic"),
    ],
)
def test_mutants_are_loaded_or_refused_within_the_limits(make, seeds):
    """Some of the graphs that bench/fuzz.py tries by the hundred thousand."""
    graph = mutants.without_weights(make())
    kinds = []
    for seed in seeds:
        what, data = mutants.mutate(graph, seed)
        verdict = judge(lambda data=data: recover(graph_from_bytes(data)), len(data))
        assert verdict.good, (seed, what, verdict)
        kinds.append(verdict.kind)
    assert kinds.count("loaded") > len(seeds) / 12
