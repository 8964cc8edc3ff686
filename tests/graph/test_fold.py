"""Folding: values, shapes, branches and loops, and how much memory they take."""

import numpy as np
import pytest

from build import const, graph_of, node
from limits import judge
from ssdrt.graph import Ref
from ssdrt.graph.fold import MAX_HELD, Folder
from ssdrt.graph.writer import NodeSpec, Shape
from surgery import exported


def placeholder(name="image"):
    return NodeSpec(name, "Placeholder", (), {"dtype": "float32", "shape": Shape((None, None, 3))})


def value(nodes, ref, **given):
    found = Folder(graph_of(*nodes), {Ref(name): array for name, array in given.items()}).value(Ref(*ref))
    return None if found is None else found.tolist()


def test_constants_are_folded():
    nodes = [const("a", [1.0, 2.0]), const("b", 3.0), node("Mul", "c", "a", "b"), node("Neg", "d", "c")]
    assert value(nodes, ("d",)) == [-3, -6]


def test_given_value_stands_for_its_node():
    nodes = [placeholder(), const("b", 3.0), node("Mul", "c", "image", "b"), node("Neg", "d", "c")]
    assert value(nodes, ("d",)) is None
    assert value(nodes, ("d",), image=[1.0]) == [-3]
    assert value(nodes, ("d",), c=[5.0]) == [-5]


def test_outputs_are_told_apart():
    nodes = [const("axis", 0, "int32"), const("a", [1, 2, 3], "int32"), node("Split", "s", "axis", "a", num_split=3)]
    assert [value(nodes, ("s", i)) for i in range(4)] == [[1], [2], [3], None]


def test_what_cannot_be_computed_is_unknown_and_so_is_what_follows():
    nodes = [
        const("a", [1.0, 2.0]), const("three", [3], "int32"), node("Reshape", "r", "a", "three"), node("Neg", "n", "r"),
        NodeSpec("u", "NoSuchOp", ("a",)), node("Neg", "v", "u"),
    ]  # fmt: skip
    folder = Folder(graph_of(*nodes))
    assert [folder.value(Ref(name)) for name in ("r", "n", "u", "v")] == [None] * 4
    assert folder.shape(Ref("n")) is None


@pytest.mark.parametrize(("predicate", "expected"), [(False, [11]), (True, [2])])
def test_branch_that_is_not_taken_is_dead(predicate, expected):
    nodes = [
        const("p", predicate, "bool"), const("a", [1.0]), const("ten", 10.0),
        node("Switch", "s", "a", "p"), node("Add", "false", "s", "ten"), node("Add", "true", "s:1", "s:1"),
        node("Merge", "m", "false", "true", N=2),
    ]  # fmt: skip
    assert value(nodes, ("m",)) == expected
    dead = "false" if predicate else "true"
    folder = Folder(graph_of(*nodes))
    assert folder.value(Ref(dead)) is None
    assert folder.shape(Ref(dead)) is None


def test_branch_on_something_unknown_merges_to_nothing():
    nodes = [placeholder("p"), const("a", [1.0]), node("Switch", "s", "a", "p"), node("Merge", "m", "s", "s:1", N=2)]
    assert value(nodes, ("s", 1)) == [1]
    assert value(nodes, ("m",)) is None


@pytest.mark.parametrize("predicate", [[True, False], [[]]])
def test_branch_on_what_is_no_bool_is_unknown(predicate):
    nodes = [const("p", predicate, "bool"), const("a", [1.0]), node("Switch", "s", "a", "p")]
    nodes += [node("Merge", "m", "s", "s:1", N=2)]
    assert value(nodes, ("m",)) is None


def test_shape_of_a_picture_leads_to_values():
    nodes = [
        placeholder(), node("Shape", "shape", "image", out_type="int32"), const("zero", [0], "int32"),
        const("one", [1], "int32"), const("two", 2, "int32"),
        NodeSpec("height", "StridedSlice", ("shape", "zero", "one", "one"), {"shrink_axis_mask": 1}),
        node("FloorDiv", "half", "height", "two"),
    ]  # fmt: skip
    folder = Folder(graph_of(*nodes), shapes={Ref("image"): (480, 640, 3)})
    assert folder.value(Ref("shape")).tolist() == [480, 640, 3]
    assert folder.value(Ref("half")) == 240
    assert folder.value(Ref("image")) is None
    assert folder.shape(Ref("image")) == (480, 640, 3)


def test_shape_goes_on_where_values_do_not():
    nodes = [
        placeholder(), const("bias", [1.0, 2.0, 3.0]), node("BiasAdd", "b", "image", "bias"),
        const("batch", 0, "int32"), node("ExpandDims", "e", "b", "batch"), const("size", [30, 40], "int32"),
        node("ResizeBilinear", "r", "e", "size"), const("pads", [[0, 0], [0, 2], [0, 0], [0, 0]], "int32"),
        node("Pad", "p", "r", "pads"), const("perm", [0, 3, 1, 2], "int32"), node("Transpose", "t", "p", "perm"),
        const("axes", [2, 3], "int32"), node("Mean", "m", "t", "axes"), node("Size", "n", "m", out_type="int32"),
    ]  # fmt: skip
    folder = Folder(graph_of(*nodes), shapes={Ref("image"): (480, 640, 3)})
    assert folder.shape(Ref("r")) == (1, 30, 40, 3)
    assert folder.shape(Ref("t")) == (1, 3, 32, 40)
    assert folder.shape(Ref("m")) == (1, 3)
    assert [folder.value(Ref(name)) for name in ("b", "r", "m")] == [None] * 3
    assert folder.value(Ref("n")) == 3


def test_shape_that_depends_on_an_unknown_value_is_unknown():
    nodes = [placeholder(), const("a", [1.0]), node("Reshape", "r", "a", "image")]
    assert Folder(graph_of(*nodes), shapes={Ref("image"): (1,)}).shape(Ref("r")) is None


def test_resized_pictures_have_a_shape_and_no_value():
    nodes = [const("a", np.ones((1, 2, 2, 3))), const("size", [4, 5], "int32"), node("ResizeArea", "r", "a", "size")]
    folder = Folder(graph_of(*nodes))
    assert folder.value(Ref("r")) is None
    assert folder.shape(Ref("r")) == (1, 4, 5, 3)


def test_loop_is_seen_as_its_body():
    """The first loop of an export resizes each picture of the batch; for one picture that is all it does."""
    graph = exported("odd_size")
    (resize,) = graph.of("ResizeBilinear")
    folder = Folder(graph, shapes={Ref("image_tensor"): (1, 333, 427, 3)})
    assert folder.shape(resize.data[0]) == (1, 333, 427, 3)
    (stacked,) = (
        {g.name for g in graph.of("TensorArrayGatherV3")}
        & graph.descendants([resize.name])
        & {g.name for g in graph.of("TensorArrayGatherV3") if folder.shape(Ref(g.name)) == (1, 100, 150, 3)}
    )
    assert stacked.startswith("Preprocessor")


def test_shape_is_given_later():
    graph = graph_of(placeholder(), node("Relu", "a", "image"), node("Shape", "s", "a", out_type="int32"))
    folder = Folder(graph)
    folder.give_shape(Ref("image"), (7, 8, 3))
    assert folder.value(Ref("s")).tolist() == [7, 8, 3]


# --- memory ---------------------------------------------------------------------------------------------------------


def test_pictures_of_any_size_are_followed_without_being_made():
    nodes = [
        placeholder(), const("two", 2.0), node("Mul", "a", "image", "two"), node("Cast", "b", "a", DstT="uint8"),
        node("Cast", "c", "b", DstT="float32"), node("Relu6", "d", "c"), node("Shape", "s", "d", out_type="int32"),
    ]  # fmt: skip
    folder = Folder(graph_of(*nodes), shapes={Ref("image"): (30_000, 30_000, 3)})
    verdict = judge(lambda: folder.value(Ref("s")), 0)
    assert verdict.good
    assert verdict.bytes < 10_000_000
    assert folder.value(Ref("s")).tolist() == [30_000, 30_000, 3]


def test_equal_elements_are_computed_once():
    nodes = [const("shape", [4000, 4000], "int32"), const("x", 3.0), node("Fill", "f", "shape", "x")]
    nodes += [node("Square", "s0", "f"), *(node("Square", f"s{i}", f"s{i - 1}") for i in range(1, 5))]
    folder = Folder(graph_of(*nodes))
    verdict = judge(lambda: folder.value(Ref("s4")), 0)
    assert verdict.bytes < 10_000_000
    found = folder.value(Ref("s4"))
    assert found.shape == (4000, 4000)
    assert found[17, 3] == np.float32(3) ** 32


def test_a_folder_holds_no_more_than_its_budget():
    count = 1 << 21
    nodes = [const(name, number, "int32") for name, number in (("start", 0), ("end", count), ("step", 1))]
    nodes += [node("Range", "r0", "start", "end", "step")]
    nodes += [node("AddV2", f"r{i}", f"r{i - 1}", "step") for i in range(1, 100)]
    folder = Folder(graph_of(*nodes))
    verdict = judge(lambda: folder.value(Ref("r99")), 0)
    assert verdict.good
    assert folder.value(Ref("r5"))[:2].tolist() == [5, 6]
    assert folder.value(Ref("r99")) is None
    assert verdict.bytes < MAX_HELD + 50_000_000
