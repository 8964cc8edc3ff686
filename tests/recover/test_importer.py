"""Ops that only move elements: what they do together, in the forms that FPN exports of several years write."""

import numpy as np
import pytest

from build import const, graph_of, node
from ssdrt.errors import ModelError
from ssdrt.graph import Ref
from ssdrt.graph.writer import NodeSpec, Shape
from ssdrt.model import IMAGE, Activation, Crop, Resize
from ssdrt.recover.backbone import recover_backbone
from ssdrt.recover.outline import Outline

HEIGHT, WIDTH = 4, 6


def layers(*nodes, size=(HEIGHT, WIDTH)):
    """What a Relu of "moved" becomes."""
    image = NodeSpec("x", "Placeholder", (), {"dtype": "float32", "shape": Shape((1, *size, 3))})
    graph, x = graph_of(image, *nodes, node("Relu", "out", "moved")), Ref("x")
    return recover_backbone(Outline(graph, x, x, (), x, (Ref("out"),), (), (), ()), size).layers


def ints(name, *values):
    return const(name, values, "int32")


TWICE = {
    "reshape, product with ones, reshape": [
        ints("split", 1, HEIGHT, 1, WIDTH, 1, 3), node("Reshape", "r", "x", "split"),
        const("ones", np.ones((1, 1, 2, 1, 2, 1))), node("Mul", "m", "r", "ones"),
        ints("size", 1, 2 * HEIGHT, 2 * WIDTH, 3), node("Reshape", "moved", "m", "size"),
    ],
    "pack, pack, reshape": [
        node("Pack", "columns", "x", "x", axis=3), node("Pack", "rows", "columns", "columns", axis=2),
        ints("size", 1, 2 * HEIGHT, 2 * WIDTH, 3), node("Reshape", "moved", "rows", "size"),
    ],
    "expand, tile, reshape": [
        ints("split", 1, HEIGHT, 1, WIDTH, 1, 3), node("Reshape", "r", "x", "split"),
        ints("times", 1, 1, 2, 1, 2, 1), node("Tile", "t", "r", "times"),
        ints("size", 1, 2 * HEIGHT, 2 * WIDTH, 3), node("Reshape", "moved", "t", "size"),
    ],
    "size computed from Shape": [
        node("Shape", "s", "x", out_type="int32"), ints("two", 1, 2, 2, 1), node("Mul", "size", "s", "two", T="int32"),
        node("Pack", "columns", "x", "x", axis=3), node("Pack", "rows", "columns", "columns", axis=2),
        node("Reshape", "moved", "rows", "size"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", TWICE)
def test_enlargement_to_twice_the_size(name):
    assert layers(*TWICE[name]) == (
        Resize("moved", (IMAGE,), 2 * HEIGHT, 2 * WIDTH, "nearest"),
        Activation("out", ("moved",), "relu"),
    )


CROPS = {
    "slice": [ints("begin", 0, 1, 2, 0), ints("size", 1, 2, -1, -1), node("Slice", "moved", "x", "begin", "size")],
    "strided slice": [
        ints("begin", 0, 1, 2, 0), ints("end", 1, 3, 6, 3), ints("steps", 1, 1, 1, 1),
        NodeSpec("moved", "StridedSlice", ("x", "begin", "end", "steps"), {"begin_mask": 9, "end_mask": 13}),
    ],
    "gather": [
        ints("rows", 1, 2), ints("columns", 2, 3, 4, 5), const("axis", 1, "int32"), const("second", 2, "int32"),
        node("GatherV2", "g", "x", "rows", "axis"), node("GatherV2", "moved", "g", "columns", "second"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", CROPS)
def test_crop(name):
    assert layers(*CROPS[name])[0] == Crop("moved", (IMAGE,), 1, 2, 2, 4)


def test_moving_there_and_back_is_nothing():
    there = node("Transpose", "t", "x", "perm")
    back = node("Transpose", "u", "t", "perm"), node("ExpandDims", "e", "u", "axis")
    nodes = [ints("perm", 0, 2, 1, 3), there, *back, const("axis", 0, "int32")]
    found = layers(*nodes, node("Squeeze", "moved", "e", squeeze_dims=(0,)))
    assert found == (Activation("out", (IMAGE,), "relu"),)


@pytest.mark.parametrize(
    "nodes",
    [
        [ints("perm", 0, 2, 1, 3), node("Transpose", "moved", "x", "perm")],
        [ints("size", 1, WIDTH, HEIGHT, 3), node("Reshape", "moved", "x", "size")],
        [
            ints("size", 1, HEIGHT, 2 * WIDTH, 3),
            node("Pack", "p", "x", "x", axis=2),
            node("Reshape", "moved", "p", "size"),
        ],
        [ints("begin", 0, 0, 0, 0), ints("size", 1, 0, 6, 3), node("Slice", "moved", "x", "begin", "size")],
        [ints("begin", 0, 0, 0, 0), ints("size", 1, 4, 6, 2), node("Slice", "moved", "x", "begin", "size")],
        [ints("twice", 1, 2, 1, 1), node("Tile", "moved", "x", "twice")],
    ],
)
def test_other_moves_are_refused(nodes):
    with pytest.raises(ModelError, match="neither an enlargement nor a crop") as caught:
        layers(*nodes)
    assert caught.value.node == "out"


@pytest.mark.parametrize(
    ("nodes", "match"),
    [
        ([node("Relu", "r", "x"), node("Pack", "moved", "x", "r", axis=1)], "mixes two feature maps"),
        ([ints("size", 7, 7), node("Reshape", "moved", "x", "size")], "cannot be evaluated"),
        ([ints("many", 1, 2**30, 1, 1), node("Tile", "moved", "x", "many")], "cannot be evaluated"),
        ([NodeSpec("u", "Unknown", ("x",)), ints("s", 1)], "not understood"),
        (
            [node("Reshape", "moved", "x", "free"), NodeSpec("free", "Placeholder", (), {"dtype": "int32"})],
            "no constant",
        ),
    ],
)
def test_moves_that_cannot_be_followed_are_refused(nodes, match):
    relu = [] if any(n.name == "moved" for n in nodes) else [node("Relu", "moved", "u")]
    with pytest.raises(ModelError, match=match):
        layers(*nodes, *relu)


def test_maps_that_are_too_large_to_follow_are_refused():
    nodes = [node("Pack", "p", "x", "x", axis=3), ints("size", 1, 4000, 8000, 3), node("Reshape", "moved", "p", "size")]
    with pytest.raises(ModelError, match="too large to follow"):
        layers(*nodes, size=(4000, 4000))
