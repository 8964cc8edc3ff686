"""`.uff` files and their dumps: what is read is written back, and damaged files end in our errors."""

from dataclasses import replace

import numpy as np
import pytest

from build import demo_graph
from legacy.genuine import samples
from ssdrt.errors import GraphError, ModelError
from ssdrt.legacy.advice import input_order, problems
from ssdrt.legacy.binary import looks_like_uff, parse_uff, read_uff, write_uff
from ssdrt.legacy.convert import automatic_uff
from ssdrt.legacy.reader import model_of
from ssdrt.legacy.text import parse_text, write_text
from ssdrt.legacy.uff import MEMBERS, Data, Descriptor, Uff, UffGraph, UffNode, checked_nodes, constant, skipped_bytes
from ssdrt.recover import recover

PUBLISHED = {"tdevh_tmp_v1_coco": 27339595, "tdevh_tmp_v1_egohands": 22287210, "tdevh_tmp_v2_coco": 67790302}
"""Size in bytes of the `.uff` that was published next to each dump."""

VALUES = {
    "s": 'a "b"\n\\ü', "s_list": ("", "x"), "d": 1e-08, "d_list": (0.5, -0.0, 3.0), "b": False, "b_list": (True, False),
    "i": -1, "i_list": (0, -(2**31), 2**31 - 1), "blob": bytes(range(256)), "ref": "weights_a", "dtype": 0x20020,
    "dtype_list": (7, 0x10020), "dim_orders": {-1: (0, 2)}, "dim_orders_list": ({-1: (0, 1)}, {}),
}  # fmt: skip


def every_member():
    fields = {name: Data(name, VALUES[name]) for name in MEMBERS}
    node = UffNode("a", ("b", "a"), "_Any", fields, {"extra": Data("i", 0)})
    graph = UffGraph("main", (node, UffNode("b", operation="Const")), {"of graph": Data("i_list", ())})
    return Uff(1, 1, (Descriptor("custom", 1, True),), (graph,), {"key": Data()}, {"of file": Data("s", "")})


@pytest.fixture(scope="module")
def detector():
    graph = demo_graph()
    return automatic_uff(graph, recover(graph))


def test_every_kind_of_value_survives_binary_and_text():
    uff = every_member()
    assert parse_uff(write_uff(uff)) == uff
    assert parse_text(write_text(uff, full=True).encode()) == uff


def test_a_file_starts_as_the_converter_writes_it(detector):
    assert write_uff(detector)[:5] == bytes.fromhex("080110011a")


def test_a_file_is_told_by_its_start(detector, tmp_path):
    for name, content in (("a", write_uff(detector)), ("b", write_text(detector).encode()), ("c", b"node {}")):
        (tmp_path / name).write_bytes(content)
    told = [looks_like_uff(tmp_path / name) for name in ("a", "b", "c", "none", "none.uff")]
    assert told == [True, True, False, False, True]


def test_a_member_that_is_zero_is_written():
    nodes = (UffNode("a", fields={"axis": Data("i", 0)}),)
    assert b"\x0a\x04axis\x12\x02\x38\x00" in write_uff(Uff(graphs=(UffGraph("main", nodes),)))


def test_a_list_may_be_unpacked():
    node = UffNode("a", fields={"shape": Data("i_list", (1, 2))})
    packed = write_uff(Uff(graphs=(UffGraph("m", (node,)),)))
    assert packed.count(b"\x0a\x02\x01\x02") == 1
    assert parse_uff(packed.replace(b"\x0a\x02\x01\x02", b"\x08\x01\x08\x02")).nodes == (node,)


def test_a_dump_leaves_long_blobs_out_and_says_how_long_they_were():
    uff = Uff(1, 1, graphs=(UffGraph("main", (UffNode("a"),)),), referenced_data={"w": Data("blob", bytes(33))})
    read = parse_text(write_text(uff).encode())
    assert skipped_bytes(read.referenced_data["w"].value) == 33
    assert write_text(read) == write_text(uff)


def test_weights_that_a_dump_left_out_are_missed(detector):
    with pytest.raises(GraphError, match="left out of this text dump"):
        model_of(parse_text(write_text(detector).encode()))


def test_a_constant_is_an_array_of_its_bytes():
    node = UffNode("a", (), "Const", {"shape": Data("i_list", (2,)), "values": Data("ref", "w")})
    uff = Uff(graphs=(UffGraph("main", (node,)),), referenced_data={"w": Data("blob", b"\0\0\x80?\0\0\0@")})
    assert np.array_equal(constant(uff, node), np.array([1, 2], np.float32))
    with pytest.raises(GraphError, match=r"shape \[2\] float32 holds 1 bytes"):
        constant(replace(uff, referenced_data={"w": Data("blob", b"\0")}), node)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((UffNode("a"), UffNode("a")), "two nodes of the same id"),
        ((UffNode("a", ("b",)),), "its input 'b' is not in"),
        ((UffNode("a", fields={"values": Data("ref", "w")}),), "refers to 'w'"),
        ((), "no nodes"),
    ],
)
def test_references_are_checked(nodes, message):
    with pytest.raises(GraphError, match=message):
        checked_nodes(Uff(graphs=(UffGraph("main", nodes),)))


@pytest.mark.parametrize(
    "data", [b"", b"\x08\x01", b"version: 1", b"version: 1 graphs {", b"version: {} graphs: 3", b"\x0a\x02ab"]
)
def test_other_files_are_refused(tmp_path, data):
    path = tmp_path / "model.uff"
    path.write_bytes(data)
    with pytest.raises(GraphError, match=r"model\.uff"):
        read_uff(path)


@pytest.mark.parametrize(("form", "count"), [("binary", 1600), ("text", 400)])
def test_damaged_files_end_in_our_errors(detector, form, count):
    read = parse_uff if form == "binary" else parse_text
    whole = write_uff(detector) if form == "binary" else write_text(detector, full=True).encode()
    random = np.random.default_rng(3)
    # Nodes and fields come first; the bytes of the weights behind them mean nothing to the reader.
    head = whole.index(b"weights_", whole.index(b"referenced_data" if form == "text" else b"MarkOutput_0"))
    for _ in range(count):
        data = bytearray(whole)
        for _ in range(random.integers(1, 6)):
            at = random.integers(0, head if random.random() < 0.9 else len(data))
            kind = random.integers(3)
            if kind == 0:
                data[at] = random.integers(256)
            elif kind == 1:
                del data[at : at + random.integers(1, 40)]
            else:
                data[at:at] = data[random.integers(0, head) :][: random.integers(1, 40)]
        if random.random() < 0.1:
            del data[random.integers(0, len(data)) :]
        try:
            model_of(read(bytes(data)))
        except (GraphError, ModelError):
            continue


# --- genuine files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", samples(".uff"))
def test_a_genuine_file_is_written_back_byte_for_byte(path):
    uff = read_uff(path)
    checked_nodes(uff)
    assert write_uff(uff) == path.read_bytes()


@pytest.mark.parametrize("path", samples(".pbtxt"))
def test_a_genuine_dump_is_printed_back_byte_for_byte(path):
    assert write_text(read_uff(path)).encode() == path.read_bytes()


@pytest.mark.parametrize("path", samples(".pbtxt"))
def test_a_genuine_dump_with_zeros_has_the_published_size_and_is_a_detector(path):
    uff = read_uff(path)
    sizes = {key: skipped_bytes(data.value) for key, data in uff.referenced_data.items() if data.member == "blob"}
    zeros = {key: Data("blob", bytes(size)) for key, size in sizes.items() if size is not None}
    full = replace(uff, referenced_data={**uff.referenced_data, **zeros})
    assert len(write_uff(full)) == PUBLISHED.get(path.stem, len(write_uff(full)))
    model = model_of(full)
    assert (model.input_size, len(model.heads), model.anchors.value.shape) == ((300, 300), 6, (1917, 4))


@pytest.mark.parametrize("path", samples(".pbtxt"))
def test_the_order_of_inputs_of_genuine_dumps_is_computed(path):
    nodes = checked_nodes(read_uff(path))
    assert input_order(nodes, nodes["NMS"]) == nodes["NMS"].get("inputOrder")
    assert problems(read_uff(path)) == []
