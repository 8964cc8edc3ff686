"""The reference engine against numbers worked out by hand, or computed by TensorFlow 2.15 where it says so."""

from dataclasses import dataclass

import numpy as np
import pytest

from ssdrt.engines.reference import normalise, run_layer
from ssdrt.errors import ModelError
from ssdrt.model import (
    Activation,
    Add,
    Affine,
    AvgPool,
    Clip,
    Concat,
    Conv,
    Crop,
    DepthwiseConv,
    FakeQuantize,
    GlobalAvgPool,
    MaxPool,
    Mul,
    Normalisation,
    Pad,
    Resize,
)


def plane(*rows):
    """One picture of one channel, (1, height, width, 1)."""
    return np.array(rows, np.float32)[None, :, :, None]


def column(*values):
    """A float32 vector."""
    return np.array(values, np.float32)


X = plane([1, 2, 3], [4, 5, 6], [7, 8, 9])


def assert_equal(result, expected):
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, expected)


def test_conv_sums_products_over_each_window():
    weights = np.arange(8, dtype=np.float32).reshape(2, 2, 1, 2)  # kernels [0 2; 4 6] and [1 3; 5 7]
    result = run_layer(Conv("l", ("x",), weights, column(100, 200), (1, 1), (0, 0, 0, 0)), X)
    assert_equal(result, [[[[150, 262], [162, 278]], [[186, 310], [198, 326]]]])


def test_conv_with_strides_pads_and_dilations():
    ones = np.ones((2, 2, 1, 1), np.float32)
    result = run_layer(Conv("l", ("x",), ones, column(0), (1, 2), (1, 0, 0, 1), (2, 2)), X)
    assert_equal(result, plane([4 + 6], [1 + 3 + 7 + 9]))


def test_depthwise_conv_numbers_outputs_by_channel_then_multiplier():
    weights = np.zeros((3, 3, 2, 2), np.float32)
    weights[1, 1], weights[0, 0] = [[1, 2], [3, 4]], [[0, 1], [0, 0]]
    layer = DepthwiseConv("l", ("x",), weights, column(0, 0, 0, 0.5), (1, 1), (0, 0, 0, 0))
    assert_equal(run_layer(layer, np.concatenate([X, 10 * X], -1)), [[[[5, 10 + 1, 150, 200.5]]]])


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("relu", [0, 0, 0, 1, 7]),
        ("relu6", [0, 0, 0, 1, 6]),
        ("hard_sigmoid", [0, 1 / 3, 1 / 2, 2 / 3, 1]),
        ("hard_swish", [0, -1 / 3, 0, 2 / 3, 7]),
    ],
)
def test_piecewise_linear_activations(function, expected):
    result = run_layer(Activation("l", ("x",), function), plane([-4, -1, 0, 1, 7]))
    np.testing.assert_allclose(result, plane(expected), rtol=1e-7)
    assert result.dtype == np.float32


def test_sigmoid_and_swish_far_from_zero_too():
    x = plane([-200, -np.log(3), 0, np.log(3), 200])
    logistic = run_layer(Activation("l", ("x",), "sigmoid"), x)
    np.testing.assert_allclose(logistic, plane([0, 0.25, 0.5, 0.75, 1]), rtol=1e-6)
    assert_equal(run_layer(Activation("l", ("x",), "swish"), x), x * logistic)


def test_elementwise_layers_broadcast_over_rows_and_columns():
    pair, gate = np.concatenate([X, -X], -1), column(2, 3).reshape(1, 1, 1, 2)
    assert_equal(
        run_layer(Affine("l", ("x",), column(2, 3), column(1, 0)), pair), np.concatenate([2 * X + 1, -3 * X], -1)
    )
    assert_equal(run_layer(Affine("l", ("x",), np.array(2, np.float32), np.array(1, np.float32)), X), 2 * X + 1)
    assert_equal(run_layer(Mul("l", ("x", "y")), gate, pair), np.concatenate([2 * X, -3 * X], -1))
    assert_equal(run_layer(Add("l", ("x", "y")), pair, gate), np.concatenate([X + 2, 3 - X], -1))
    assert_equal(run_layer(Clip("l", ("x",), 2.0, 4.5), X), plane([2, 2, 3], [4, 4.5, 4.5], [4.5, 4.5, 4.5]))
    assert_equal(run_layer(Concat("l", ("x", "y", "z")), X, pair, X), np.concatenate([X, X, -X, X], -1))


def test_pools_leave_padding_out():
    shape = {"window": (2, 2), "strides": (2, 2), "pads": (0, 0, 1, 1)}
    assert_equal(run_layer(MaxPool("l", ("x",), **shape), X - 10), plane([-5, -4], [-2, -1]))
    assert_equal(run_layer(AvgPool("l", ("x",), **shape), X), plane([3, 4.5], [7.5, 9]))
    assert_equal(run_layer(GlobalAvgPool("l", ("x",)), X), plane([5]))


@pytest.mark.parametrize(
    ("method", "grid", "expected"),
    [
        ("bilinear", {}, [1, 1.5, 2, 2.5, 3, 3]),
        ("bilinear", {"half_pixel_centers": True}, [1, 1.25, 1.75, 2.25, 2.75, 3]),
        ("bilinear", {"align_corners": True}, [1, 1.4, 1.8, 2.2, 2.6, 3]),
        ("nearest", {}, [1, 2]),
        ("nearest", {"half_pixel_centers": True}, [1, 3]),
        ("nearest", {"align_corners": True}, [1, 2, 2, 3, 3]),
    ],
)
def test_resize_along_either_axis(method, grid, expected):
    rows = run_layer(Resize("l", ("x",), len(expected), 1, method, **grid), plane([1], [2], [3]))
    columns = run_layer(Resize("l", ("x",), 1, len(expected), method, **grid), plane([1, 2, 3]))
    np.testing.assert_allclose(columns, plane(expected), rtol=1e-6)
    assert_equal(rows, columns.transpose(0, 2, 1, 3))


def test_pad_and_crop_undo_each_other():
    padded = run_layer(Pad("l", ("x",), (1, 0, 0, 2), -1.0), X)
    assert_equal(padded, plane([-1, -1, -1, -1, -1], [1, 2, 3, -1, -1], [4, 5, 6, -1, -1], [7, 8, 9, -1, -1]))
    assert_equal(run_layer(Crop("l", ("x",), 1, 0, 3, 3), padded), X)


def test_fake_quantize_rounds_as_tensorflow():
    """Recorded: fake_quant_with_min_max_vars(x, -1.02, 5.1), whose nudged range is -1.032..5.088."""
    x = plane([-3.1, -1.02, -0.02, 0, 0.0119, 0.0121, 0.0364, 1.5, 6])
    recorded = plane([-1.032, -1.008, -0.024, 0, 0, 0.024, 0.048, 1.512, 5.088])
    result = run_layer(FakeQuantize("l", ("x",), -1.032, 5.088, 0.024), x)
    np.testing.assert_allclose(result, recorded, atol=1e-6)


def test_normalisation_rounds_after_each_step():
    pixels = np.arange(256, dtype=np.float32).reshape(1, 4, 64, 1) * np.ones(3, np.float32)
    scale, mean = np.float32(2 / 255), column(1, 2, 3)
    steps = (Normalisation("mul", np.array(scale)), Normalisation("sub", mean))
    assert_equal(normalise(pixels, steps), (pixels * scale).astype(np.float32) - mean)
    steps = (Normalisation("add", mean), Normalisation("div", column(2, 4, 8)))
    assert_equal(normalise(pixels, steps), (pixels + mean) / column(2, 4, 8))


def test_unknown_kind_names_layer_and_file():
    @dataclass(frozen=True)
    class Fold:
        name: str

    with pytest.raises(ModelError, match=r"Fold layers.*engines/reference\.py.*'some/layer'"):
        run_layer(Fold("some/layer"))
