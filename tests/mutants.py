"""Damaged and hostile variants of a graph file: its bytes, its wire format, its nodes, and the parts of an SSD in it;
and of other files.

A mutant follows from (file, seed) alone: damage to the bytes, or one to three changes of the nodes.
"""

from __future__ import annotations

import hashlib
import json
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from ssdrt.bundle import MAGIC, START
from ssdrt.errors import GraphError
from ssdrt.graph.wire import BYTES, FIXED32, VARINT, Message, encode_field, encode_varint

EXTREMES = (
    0,
    1,
    -1,
    2,
    7,
    127,
    128,
    255,
    300,
    4096,
    8192,
    65536,
    10**6,
    2**31 - 1,
    2**31,
    2**32,
    2**40,
    2**62,
    -(2**63),
)
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-8, 0.5, 3e38, -3e38, float("nan"), float("inf"), float("-inf"))


@dataclass
class Spec:
    """A node to be changed. attributes: name -> AttrValue, serialised."""

    name: bytes
    op: bytes
    inputs: list[bytes]
    attributes: dict[bytes, bytes] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The node as a field of a GraphDef."""
        return _encoded(self.name, self.op, tuple(self.inputs), tuple(self.attributes.items()))


@lru_cache(maxsize=50_000)
def _encoded(name: bytes, op: bytes, inputs: tuple[bytes, ...], attributes: tuple[tuple[bytes, bytes], ...]) -> bytes:
    parts = [encode_field(1, BYTES, name), encode_field(2, BYTES, op)]
    parts += [encode_field(3, BYTES, text) for text in inputs]
    entries = (encode_field(1, BYTES, key) + encode_field(2, BYTES, value) for key, value in attributes)
    parts += [encode_field(5, BYTES, entry) for entry in entries]
    return encode_field(1, BYTES, b"".join(parts))


def fields(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """(number, wire type, varint, content) of a message."""
    return [(n, w, v, data[a:b]) for n, w, v, a, b in Message(data, 0, len(data), [10**9]).fields()]


def decode(data: bytes) -> list[Spec]:
    """The nodes of a GraphDef, to be changed."""
    return [Spec(n.name, n.op, list(n.inputs), dict(n.attributes)) for n in _decoded(data)]


@lru_cache(maxsize=32)
def _decoded(data: bytes) -> list[Spec]:
    return [_spec(content) for number, _, _, content in fields(data) if number == 1]


def encode(nodes: list[Spec]) -> bytes:
    """A GraphDef of these nodes."""
    return b"".join(node.encode() for node in nodes)


def _spec(data: bytes) -> Spec:
    spec = Spec(b"", b"", [])
    for number, _, _, content in fields(data):
        if number == 1:
            spec.name = content
        elif number == 2:
            spec.op = content
        elif number == 3:
            spec.inputs.append(content)
        elif number == 5:
            entry = {n: c for n, _, _, c in fields(content)}
            spec.attributes[entry.get(1, b"")] = entry.get(2, b"")
    return spec


def without_weights(data: bytes, largest: int = 64) -> bytes:
    """The graph with every large constant cut to its first value, which then repeats: a seed that mutates in its
    structure and not in its weights. Anchors stay: equal ones are refused."""
    nodes = decode(data)
    for node in (n for n in nodes if b"anchors" not in n.name):
        tensor = _tensor(node)
        content = next((c for n, _, _, c in tensor if n == 4), b"")
        if len(content) > largest and (1, VARINT, 1, b"") in [(n, w, v, b"") for n, w, v, _ in tensor]:
            kept = [f for f in tensor if f[0] != 4]
            _set_tensor(node, [*kept, (5, BYTES, 0, content[:4])])
    return encode(nodes)


# --- constants ------------------------------------------------------------------------------------------------------


def _tensor(node: Spec) -> list[tuple[int, int, int, bytes]]:
    """The fields of a node's constant; none if it has none or is damaged."""
    try:
        return next((fields(c) for n, _, _, c in fields(node.attributes.get(b"value", b"")) if n == 8), [])
    except GraphError:
        return []


def _set_tensor(node: Spec, tensor: list[tuple[int, int, int, bytes]]) -> None:
    parts = [encode_field(n, w, v if w == VARINT else c) for n, w, v, c in tensor]
    node.attributes[b"value"] = encode_field(8, BYTES, b"".join(parts))


def constant(name: bytes, dtype: int, dims: list[int], content: bytes) -> Spec:
    """A Const node; `content` in the dtype's own bytes."""
    shape = b"".join(encode_field(2, BYTES, encode_field(1, VARINT, d)) for d in dims)
    tensor = encode_field(1, VARINT, dtype) + encode_field(2, BYTES, shape) + encode_field(4, BYTES, content)
    value = {b"dtype": encode_field(6, VARINT, dtype), b"value": encode_field(8, BYTES, tensor)}
    return Spec(name, b"Const", [], value)


# --- bytes ----------------------------------------------------------------------------------------------------------


def _flip(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 4, 64))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def _truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def _delete(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.randrange(1, 100) :]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + data[at : at + rng.randrange(1, 300)] * rng.choice((1, 2, 50)) + data[at:]


def _move(data: bytes, rng: random.Random) -> bytes:
    source, target, size = rng.randrange(len(data)), rng.randrange(len(data)), rng.randrange(1, 300)
    return data[:target] + data[source : source + size] + data[target + size :]


def _insert_number(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    junk = rng.choice((encode_varint(rng.choice(EXTREMES)), b"\xff" * rng.choice((9, 10, 11, 100)), b"\0"))
    return data[:at] + junk + data[at + rng.randrange(3) :]


def _insert_tags(data: bytes, rng: random.Random) -> bytes:
    """Group tags, impossible wire types and field 0 between two nodes."""
    nodes = [encode_field(n, w, v if w == VARINT else c) for n, w, v, c in fields(data)]
    tag = bytes([rng.choice((0x0B, 0x0C, 0x0E, 0x0F, 0x02, 0x0D, 0x09))])
    nodes.insert(rng.randrange(len(nodes) + 1), tag * rng.choice((1, 5, 100_000)))
    return b"".join(nodes)


def _lie_about_length(data: bytes, rng: random.Random) -> bytes:
    parts = [content for number, _, _, content in fields(data) if number == 1]
    liar = rng.randrange(len(parts))
    length = encode_varint(rng.choice((*EXTREMES, len(parts[liar]) + rng.randrange(-3, 4))))
    return b"".join(
        b"\x0a" + length + part if i == liar else encode_field(1, BYTES, part) for i, part in enumerate(parts)
    )


def _nest(data: bytes, rng: random.Random) -> bytes:
    """AttrValue.func.attr.value ... within itself."""
    value = encode_field(3, VARINT, 1)
    for _ in range(rng.choice((10, 101, 1000, 5000))):
        entry = encode_field(1, BYTES, b"a") + encode_field(2, BYTES, value)
        value = encode_field(rng.choice((10, 1)), BYTES, encode_field(1, BYTES, b"f") + encode_field(2, BYTES, entry))
    return data + Spec(b"deep", b"NoOp", [], {b"a": value}).encode()


# --- nodes ----------------------------------------------------------------------------------------------------------


def _shuffle(nodes: list[Spec], rng: random.Random) -> None:
    rng.shuffle(nodes)


def _drop(nodes: list[Spec], rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 5))):
        nodes.pop(rng.randrange(len(nodes)))


def _bypass(nodes: list[Spec], rng: random.Random) -> None:
    """A node becomes an Identity of its first input: the graph stays whole and means something else."""
    node = rng.choice([n for n in nodes if n.inputs])
    node.op, node.inputs = b"Identity", node.inputs[:1]


def _double(nodes: list[Spec], rng: random.Random) -> None:
    nodes.append(rng.choice(nodes))


def _rename(nodes: list[Spec], rng: random.Random) -> None:
    other = rng.choice(nodes).name
    rng.choice(nodes).name = rng.choice((b"", b"\xff\xfe", b"../x", b"a" * 10**6, other, b"^" + other, other + b":1"))


def _rename_op(nodes: list[Spec], rng: random.Random) -> None:
    rng.choice(nodes).op = rng.choice(
        (rng.choice(nodes).op, b"", b"Mul", b"Reshape", b"Exp", b"Unknown", b"Placeholder")
    )


def _rewire(nodes: list[Spec], rng: random.Random) -> None:
    """Another input, perhaps one that closes a cycle or does not exist."""
    node, source = rng.choice([n for n in nodes if n.inputs]), rng.choice(nodes).name
    text = rng.choice(
        (source, source, source, source + b":1", source + b":7", b"^" + source, node.name, b"nowhere", b"")
    )
    node.inputs[rng.randrange(len(node.inputs))] = text


def _change_inputs(nodes: list[Spec], rng: random.Random) -> None:
    node = rng.choice([n for n in nodes if n.inputs])
    change = rng.randrange(4)
    if change == 0:
        node.inputs.pop(rng.randrange(len(node.inputs)))
    elif change == 1:
        node.inputs.append(rng.choice(nodes).name)
    elif change == 2:
        rng.shuffle(node.inputs)
    else:
        node.inputs.clear()


def _cycle(nodes: list[Spec], rng: random.Random) -> None:
    count, first = rng.choice((1, 2, 3000)), len(nodes)
    nodes += [Spec(b"c%d" % i, b"Relu", [b"c%d" % ((i + 1) % count)]) for i in range(count)]
    rng.choice([n for n in nodes[:first] if n.inputs]).inputs[0] = b"c0"


def _change_attribute(nodes: list[Spec], rng: random.Random) -> None:
    node = rng.choice([n for n in nodes if n.attributes])
    key = rng.choice(list(node.attributes))
    donor = rng.choice([n for n in nodes if n.attributes])
    number = rng.choice(EXTREMES) & (2**64 - 1)
    node.attributes[key] = rng.choice((
        b"", rng.choice(list(donor.attributes.values())), encode_field(3, VARINT, number),
        encode_field(4, FIXED32, struct.pack("<f", rng.choice(FLOATS))), encode_field(6, VARINT, rng.choice(range(30))),
        encode_field(1, BYTES, encode_field(3, BYTES, b"".join(encode_varint(rng.choice(EXTREMES)) for _ in range(4)))),
        encode_field(2, BYTES, rng.choice((b"SAME", b"VALID", b"EXPLICIT", b"NCHW", b"\xff"))),
    ))  # fmt: skip


def _drop_attribute(nodes: list[Spec], rng: random.Random) -> None:
    node = rng.choice([n for n in nodes if n.attributes])
    del node.attributes[rng.choice(list(node.attributes))]


# --- constants and the parts of an SSD ------------------------------------------------------------------------------


def _constants(nodes: list[Spec]) -> list[Spec]:
    return [n for n in nodes if n.op == b"Const"]


def _change_number(nodes: list[Spec], rng: random.Random) -> None:
    """One number of a constant: a size, an axis, a threshold, a weight."""
    node = rng.choice(_constants(nodes))
    tensor = _tensor(node)
    whole = any((n, v) == (1, 3) for n, _, v, _ in tensor)
    for i, (number, wire, value, content) in enumerate(tensor):
        if number in (4, 5) and wire == BYTES and len(content) >= 4:
            at = rng.randrange(len(content) // 4) * 4
            new = struct.pack("<i", rng.choice(EXTREMES[:14])) if whole else struct.pack("<f", rng.choice(FLOATS))
            tensor[i] = (number, wire, value, content[:at] + new + content[at + 4 :])
    _set_tensor(node, tensor)


def _change_shape(nodes: list[Spec], rng: random.Random) -> None:
    node = rng.choice(_constants(nodes))
    dims = [rng.choice((*EXTREMES, 3, 4)) & (2**64 - 1) for _ in range(rng.choice((0, 1, 2, 4, 4, 40, 300)))]
    shape = b"".join(encode_field(2, BYTES, encode_field(1, VARINT, d)) for d in dims)
    kept = [f for f in _tensor(node) if f[0] != 2 and (f[0] != 4 or rng.random() < 0.5)]
    _set_tensor(node, [*kept, (2, BYTES, 0, shape)])


def _change_dtype(nodes: list[Spec], rng: random.Random) -> None:
    node = rng.choice(_constants(nodes))
    kept = [f for f in _tensor(node) if f[0] != 1]
    _set_tensor(node, [*kept, (1, VARINT, rng.choice((0, 2, 3, 4, 7, 8, 9, 10, 14, 19, 20, 100, 2**40)), b"")])


def _change_placeholder(nodes: list[Spec], rng: random.Random) -> None:
    node = next((n for n in nodes if n.op == b"Placeholder"), nodes[0])
    dims = [
        rng.choice((1, 3, 4, 20, 300, 4096, *EXTREMES)) & (2**64 - 1) for _ in range(rng.choice((0, 3, 4, 4, 4, 5)))
    ]
    dims[3:] = rng.choice((dims[3:], [3]))
    shape = b"".join(encode_field(2, BYTES, encode_field(1, VARINT, d)) for d in dims)
    node.attributes[b"shape"] = encode_field(7, BYTES, shape)
    if rng.random() < 0.2:
        node.attributes[b"dtype"] = encode_field(6, VARINT, rng.choice((1, 7)))


def _insert_large(nodes: list[Spec], rng: random.Random) -> None:
    """An op that makes an array as large as it is told to, in the way of a value."""
    reader = rng.choice([n for n in nodes if n.inputs])
    size = struct.pack("<i", rng.choice((1000, 4096, 2**24, 2**31 - 1)))
    for i in range(rng.choice((1, 3, 40))):
        at = rng.randrange(len(reader.inputs))
        sizes, made = constant(b"sizes%d" % i, 3, [1], size), b"large%d" % i
        nodes += [sizes, constant(b"one%d" % i, 3, [], struct.pack("<i", 1))]
        op, inputs = rng.choice((
            (b"Fill", [sizes.name, reader.inputs[at]]), (b"Tile", [reader.inputs[at], sizes.name]),
            (b"Range", [b"one%d" % i, sizes.name, b"one%d" % i]), (b"BroadcastTo", [reader.inputs[at], sizes.name]),
            (b"Reshape", [reader.inputs[at], sizes.name]), (b"Pad", [reader.inputs[at], sizes.name]),
        ))  # fmt: skip
        nodes.append(Spec(made, op, inputs, {b"T": encode_field(6, VARINT, 1)}))
        reader.inputs[at] = made


def _copy_often(nodes: list[Spec], rng: random.Random) -> None:
    """Many more NMS ops, heads, exponentials or convolutions than there are."""
    kinds = (
        b"NonMaxSuppressionV5",
        b"NonMaxSuppressionV3",
        b"Exp",
        b"Conv2D",
        b"Concat",
        b"ConcatV2",
        b"Greater",
        b"Minimum",
    )
    found = [n for n in nodes if n.op in kinds]
    if found:
        one = rng.choice(found)
        many = range(rng.choice((2, 50, 2000)))
        nodes += [Spec(b"%s_x%d" % (one.name, i), one.op, list(one.inputs), dict(one.attributes)) for i in many]


def _swap_names(nodes: list[Spec], rng: random.Random) -> None:
    """Two nodes take each other's place."""
    a, b = rng.choice(nodes), rng.choice(nodes)
    a.name, b.name = b.name, a.name


ON_BYTES = (_flip, _truncate, _delete, _repeat, _move, _insert_number)
ON_GRAPH_BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *ON_BYTES,
    _insert_tags,
    _lie_about_length,
    _nest,
)
ON_NODES: tuple[Callable[[list[Spec], random.Random], None], ...] = (
    _shuffle, _drop, _bypass, _double, _rename, _rename_op, _rewire, _change_inputs, _cycle, _change_attribute,
    _drop_attribute, _change_number, _change_shape, _change_dtype, _change_placeholder, _insert_large, _copy_often,
    _swap_names,
)  # fmt: skip


def mutate(data: bytes, seed: int) -> tuple[str, bytes]:
    """(names of the changes, the mutant)."""
    rng = random.Random(seed)
    if rng.random() < 0.4:
        change = rng.choice(ON_GRAPH_BYTES)
        return change.__name__, change(data, rng)
    nodes, changes = decode(data), rng.choices(ON_NODES, k=rng.choice((1, 1, 2, 3)))
    for each in changes:
        each(nodes, rng)
    return "+".join(each.__name__ for each in changes), encode(nodes)


def damage(data: bytes, seed: int) -> bytes:
    """A file of any kind, damaged in one to three places."""
    rng = random.Random(seed)
    for change in rng.choices(ON_BYTES, k=rng.choice((1, 1, 2, 3))):
        data = change(data, rng) or b"\0"
    return data


def signed_bundle(whole: bytes, seed: int) -> bytes:
    """A `.ssdrt` file damaged in its header, with a digest that agrees."""
    rng = random.Random(seed)
    end = START + int.from_bytes(whole[START - 8 : START], "little")
    header = damage(whole[START:end], seed) if rng.random() < 0.5 else _other_json(whole[START:end], rng)
    body = len(header).to_bytes(8, "little") + header + whole[end:]
    return MAGIC + hashlib.sha256(body).digest() + body


def _other_json(header: bytes, rng: random.Random) -> bytes:
    """JSON with one value replaced by something else."""
    tree = json.loads(header)
    at: Any = tree
    while True:
        key = rng.choice(list(at) if isinstance(at, dict) else list(range(len(at))))
        if not (isinstance(at[key], (dict, list)) and at[key]) or rng.random() < 0.1:
            break
        at = at[key]
    at[key] = rng.choice(
        (None, -1, 0, 2**70, 1e400, "x", "f4,f4", [], {}, [-1, 2], {"class": "Conv"}, {"array": [0, 0]})
    )
    return json.dumps(tree).encode()
