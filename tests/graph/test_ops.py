"""Ops against values worked out by hand."""

import numpy as np
import pytest

from build import const, graph_of, node
from ssdrt.graph import Node, Ref
from ssdrt.graph.fold import Folder
from ssdrt.graph.ops import MAX_ELEMENTS, MAX_GROWN, MAX_PARTS, OPS, TooLarge, bounded, fake_quant_range


def run(op, *inputs, **attributes):
    """The outputs of one op."""
    with np.errstate(all="ignore"):
        return OPS[op](Node("n", op, (), attributes), [np.asarray(x) for x in inputs])


def f32(*values):
    return np.array(values, np.float32)


def i32(*values):
    return np.array(values, np.int32)


def assert_equal(found, expected, dtype=None):
    np.testing.assert_array_equal(found, expected)
    assert dtype is None or found.dtype == dtype


GRID = np.arange(12).reshape(3, 4)


@pytest.mark.parametrize(
    ("begin", "end", "strides", "masks", "expected"),
    [
        ([0, 1], [2, 3], [1, 1], {}, [[1, 2], [5, 6]]),
        ([1], [2], [1], {}, [[4, 5, 6, 7]]),
        ([1], [2], [1], {"shrink_axis_mask": 1}, [4, 5, 6, 7]),
        ([1, -1], [2, 0], [1, 1], {"shrink_axis_mask": 3}, 7),
        ([-1], [0], [1], {"shrink_axis_mask": 1}, [8, 9, 10, 11]),
        ([5, 1], [9, 3], [1, 1], {"begin_mask": 1, "end_mask": 1}, [[1, 2], [5, 6], [9, 10]]),
        ([0, 9], [3, 9], [1, 2], {"begin_mask": 2, "end_mask": 2}, [[0, 2], [4, 6], [8, 10]]),
        ([2, 3], [0, 0], [-1, -2], {}, [[11, 9], [7, 5]]),
        ([2], [0], [-1], {"end_mask": 1}, [[8, 9, 10, 11], [4, 5, 6, 7], [0, 1, 2, 3]]),
        ([0, 1], [0, 3], [1, 1], {"ellipsis_mask": 1}, [[1, 2], [5, 6], [9, 10]]),
        ([0, 0, 1], [0, 0, 2], [1, 1, 1], {"new_axis_mask": 1, "begin_mask": 2, "end_mask": 2}, [[[1], [5], [9]]]),
        ([0, 7], [100, 9], [1, 1], {}, np.empty((3, 0))),
        ([-100, 0], [1, 100], [1, 3], {}, [[0, 3]]),
    ],
)
def test_strided_slice(begin, end, strides, masks, expected):
    assert_equal(run("StridedSlice", GRID, begin, end, strides, **masks), expected)


def test_slice_with_a_size_of_minus_one_takes_the_rest():
    assert_equal(run("Slice", GRID, [1, 2], [-1, 1]), [[6], [10]])
    assert_equal(run("Slice", GRID, [0, 0], [3, -1]), GRID)


def test_split():
    assert [part.tolist() for part in run("Split", 1, GRID, num_split=2)] == [
        [[0, 1], [4, 5], [8, 9]],
        [[2, 3], [6, 7], [10, 11]],
    ]
    assert [part.shape for part in run("SplitV", GRID, [1, 0, 3], 1)] == [(3, 1), (3, 0), (3, 3)]


def test_unpack_and_pack():
    assert [part.tolist() for part in run("Unpack", GRID, axis=1)][3] == [3, 7, 11]
    assert_equal(run("Pack", [1, 2], [3, 4], axis=1), [[1, 3], [2, 4]])
    assert_equal(run("Pack", 1, 2), [1, 2])


def test_concat_takes_its_axis_first_or_last():
    assert_equal(run("Concat", 0, [1], [2, 3]), [1, 2, 3])
    assert_equal(run("ConcatV2", [[1]], [[2]], -1), [[1, 2]])


def test_gather():
    assert_equal(run("Gather", GRID, [[2, 0]]), [[[8, 9, 10, 11], [0, 1, 2, 3]]])
    assert_equal(run("GatherV2", GRID, 3, 1), [3, 7, 11])


def test_reshape_squeeze_and_transpose():
    assert_equal(run("Reshape", GRID, [2, -1]), np.arange(12).reshape(2, 6))
    assert run("Squeeze", np.zeros((1, 2, 1, 3))).shape == (2, 3)
    assert run("Squeeze", np.zeros((1, 2, 1, 3)), squeeze_dims=(2,)).shape == (1, 2, 3)
    assert run("ExpandDims", GRID, -1).shape == (3, 4, 1)
    assert_equal(run("Transpose", GRID, [1, 0]), GRID.T)


def test_tile_fill_range_and_pad():
    assert_equal(run("Tile", [[1, 2]], [2, 2]), [[1, 2, 1, 2]] * 2)
    assert_equal(run("Fill", i32(2, 1), np.float32(7)), [[7], [7]], np.float32)
    assert_equal(run("Range", np.int32(3), np.int32(9), np.int32(2)), [3, 5, 7], np.int32)
    assert_equal(run("Range", np.float32(1), np.float32(0), np.float32(-0.5)), [1, 0.5], np.float32)
    assert_equal(run("Pad", [[1]], [[1, 0], [0, 2]]), [[0, 0, 0], [1, 0, 0]])
    assert_equal(run("PadV2", [1], [[1, 1]], 9), [9, 1, 9])


@pytest.mark.parametrize(
    ("op", "a", "b", "expected"),
    [
        ("Div", i32(7, -7), i32(2, 2), [3, -3]),
        ("Div", f32(7, -7), f32(2, 2), [3.5, -3.5]),
        ("RealDiv", f32(1), f32(0), [np.inf]),
        ("FloorDiv", i32(7, -7), i32(2, 2), [3, -4]),
        ("FloorMod", i32(7, -7), i32(3, 3), [1, 2]),
        ("Mod", i32(7, -7), i32(3, 3), [1, -1]),
        ("Maximum", f32(1, 5), f32(3), [3, 5]),
        ("Pow", f32(2), f32(0.5), [np.sqrt(np.float32(2))]),
        ("BiasAdd", f32(1, 2), f32(10, 20), [11, 22]),
        ("NotEqual", i32(1, 2), i32(1), [False, True]),
    ],
)
def test_binary(op, a, b, expected):
    assert_equal(run(op, a, b), expected)


@pytest.mark.parametrize(
    ("op", "x", "expected"),
    [
        ("Rsqrt", [4, 0.25], [0.5, 2]),
        ("Round", [0.5, 1.5, -0.5, 2.4], [0, 2, 0, 2]),
        ("Relu6", [-1, 3, 7], [0, 3, 6]),
        ("Sigmoid", [0, 1000, -1000], [0.5, 1, 0]),
        ("Neg", [1, -2], [-1, 2]),
        ("Reciprocal", [4], [0.25]),
        ("ZerosLike", [5], [0]),
        ("OnesLike", [5], [1]),
    ],
)
def test_unary_keeps_float32(op, x, expected):
    assert_equal(run(op, f32(*x)), f32(*expected), np.float32)


def test_softmax_of_large_logits():
    assert_equal(run("Softmax", f32(1000, 1000, -1000)), f32(0.5, 0.5, 0), np.float32)
    assert_equal(run("Softmax", np.zeros((2, 4), np.float32)), np.full((2, 4), 0.25))


def test_reductions():
    assert_equal(run("Sum", GRID, 0), [12, 15, 18, 21])
    assert_equal(run("Mean", GRID.astype(np.float32), [0, 1]), np.float32(5.5))
    assert run("Max", GRID, [1], keep_dims=True).shape == (3, 1)
    assert_equal(run("Prod", [2, 3], [0]), 6)
    assert_equal(run("Min", GRID, i32()), GRID)
    assert_equal(run("ArgMax", [[1, 5, 5]], 1), [1], np.int64)
    assert run("ArgMin", [3, 1], 0, output_type="int32").dtype == np.int32


def test_select_of_rows_and_of_elements():
    a, b = np.ones((2, 3)), np.zeros((2, 3))
    assert_equal(run("Select", [True, False], a, b), [[1, 1, 1], [0, 0, 0]])
    assert_equal(run("Select", True, a, b), a)
    assert_equal(run("Select", [[True, False, True]] * 2, a, b), [[1, 0, 1]] * 2)
    assert_equal(run("SelectV2", [True, False, True], a, b), [[1, 0, 1]] * 2)


def test_cast():
    assert_equal(run("Cast", f32(1.9, -1.9), DstT="int32"), [1, -1], np.int32)
    assert run("Cast", i32(1), DstT="float16").dtype == np.float32
    assert_equal(run("Cast", f32(0, 0.1), DstT="bool"), [False, True], np.bool_)


def test_sizes():
    assert_equal(run("Shape", GRID), [3, 4], np.int32)
    assert_equal(run("Shape", GRID, out_type="int64"), [3, 4], np.int64)
    assert [a.tolist() for a in run("ShapeN", GRID, [1])] == [[3, 4], [1]]
    assert_equal(run("Size", GRID), 12, np.int32)
    assert_equal(run("Rank", GRID), 2, np.int32)


# Expected: tf.quantization.fake_quant_with_min_max_vars, TensorFlow 2.15.
def test_fake_quantization():
    x = f32(-2, -1, -0.004, 0, 0.003, 0.5, 1, 2)
    found = run("FakeQuantWithMinMaxVars", x, np.float32(-1), np.float32(1), num_bits=8)
    step = 2 / 255
    np.testing.assert_allclose(found / step, [-127, -127, -1, 0, 0, 64, 128, 128], atol=0.01)


def test_fake_quantization_nudges_its_range_so_that_zero_is_on_it():
    minimum, maximum, step = fake_quant_range(-0.1, 6.0, 8, False)
    assert step == pytest.approx(6.1 / 255, rel=1e-6)
    assert minimum / step == pytest.approx(-4, abs=1e-5)
    assert maximum / step == pytest.approx(251, abs=1e-4)
    assert fake_quant_range(1.0, 2.0, 8, False)[0] == 0
    assert fake_quant_range(-1.0, 1.0, 8, True)[:2] == pytest.approx((-1.0, 1.0))


@pytest.mark.parametrize(
    ("low", "high", "bits"),
    [(1, 1, 8), (2, 1, 8), (np.nan, 1, 8), (0, np.inf, 8), (-3e38, 3e38, 1), (0, 1, 0), (0, 1, -1), (0, 1, 2**31)],
)
def test_impossible_range_of_fake_quantization(low, high, bits):
    with pytest.raises(ValueError, match=r"bits|range"):
        fake_quant_range(low, high, bits, False)


def test_dequantize_of_eight_bit_weights():
    x, low, high = np.array([0, 128, 255], np.uint8), np.float32(-1), np.float32(1.55)
    np.testing.assert_allclose(run("Dequantize", x, low, high, mode=b"MIN_COMBINED"), [-1, 0.28, 1.55], atol=1e-6)
    np.testing.assert_allclose(run("Dequantize", x, low, high, mode=b"MIN_FIRST"), [-1, 0.28, 1.55], atol=1e-6)


HUGE = np.broadcast_to(np.float32(1), (MAX_ELEMENTS,))
LONG = np.zeros(MAX_GROWN)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("Fill", [i32(2**15, 2**15), np.float32(0)], {}),
        ("Fill", [i32(-1), np.float32(0)], {}),
        ("Range", [np.int32(0), np.int32(2**31 - 1), np.int32(1)], {}),
        ("Range", [np.float32(0), np.float32(1), np.float32(1e-30)], {}),
        ("Tile", [f32(1), i32(2**31 - 1)], {}),
        ("Pad", [f32(1), [[0, 2**31 - 1]]], {}),
        ("BroadcastTo", [f32(1), i32(2**15, 2**15)], {}),
        ("Concat", [0, HUGE, HUGE], {}),
        ("Pack", [HUGE, HUGE], {}),
        ("Mul", [LONG[:, None], LONG[None]], {}),
        ("SelectV2", [LONG[:, None] > 0, LONG, LONG], {}),
        ("Gather", [np.zeros((2, 10**6)), np.zeros(10**6, np.int32)], {}),
        ("Unpack", [HUGE], {"num": 2}),
        ("Split", [0, HUGE], {"num_split": MAX_ELEMENTS}),
    ],
)
def test_arrays_that_no_graph_needs_are_not_made(op, inputs, attributes):
    with pytest.raises(TooLarge):
        run(op, *inputs, **attributes)


def test_bounded():
    assert bounded(np.array([2, 3])) == (2, 3)
    assert bounded(5) == (5,)
    assert bounded([0, 2**40]) == (0, 2**40)
    for shape in ([-1], [MAX_ELEMENTS + 1], [1] * 33):
        with pytest.raises(TooLarge):
            bounded(shape)


def test_an_input_that_should_be_a_shape_and_is_an_array_is_not_walked_through():
    graph = graph_of(
        const("size", MAX_PARTS + 1, "int32"), const("one", 1, "int32"), node("Fill", "many", "length", "one"),
        node("Pack", "length", "size", axis=0), const("x", 1.0), node("Fill", "result", "many", "x"),
    )  # fmt: skip
    folder = Folder(graph)
    assert folder.shape(Ref("many")) == (MAX_PARTS + 1,)
    assert folder.value(Ref("result")) is None
