"""Each op of a feature extractor, alone: the layers it becomes compute what TensorFlow's op does."""

import numpy as np
import pytest

from build import const, graph_of, node
from ssdrt.engines.reference import run_layer
from ssdrt.errors import ModelError
from ssdrt.graph import Ref
from ssdrt.graph.writer import NodeSpec, Shape
from ssdrt.model import (
    IMAGE,
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
    Pad,
    Resize,
)
from ssdrt.recover.backbone import recover_backbone
from ssdrt.recover.outline import Outline

SIZE = (5, 7)
SAME = {"strides": (1, 1, 1, 1), "padding": b"SAME", "data_format": b"NHWC"}
IDENTITY = const("identity", np.eye(3)[None, None])


def backbone(*nodes, size=SIZE, heads=("out",)):
    """What `out` and the other heads become, of nodes that compute from x, a picture (1, *size, 3)."""
    image = NodeSpec("x", "Placeholder", (), {"dtype": "float32", "shape": Shape((1, *size, 3))})
    graph, x = graph_of(image, *nodes), Ref("x")
    with np.errstate(all="ignore"):  # as recover() has it
        return recover_backbone(Outline(graph, x, x, (), x, tuple(Ref(name) for name in heads), (), (), ()), size)


def layers(*nodes, **options):
    return backbone(*nodes, **options).layers


def run(found, x=None):
    """The value of the last layer."""
    values = {IMAGE: picture() if x is None else x}
    for layer in found:
        values[layer.name] = run_layer(layer, *[values[name] for name in layer.inputs])
    return values[found[-1].name]


def picture():
    return np.random.default_rng(0).normal(0, 2, (1, *SIZE, 3)).astype(np.float32)


def refused(*nodes, match, **options):
    with pytest.raises(ModelError, match=match) as caught:
        backbone(*nodes, **options)
    assert caught.value.node is not None


# --- windows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stride", "pads", "size"), [(1, (1, 1, 1, 1), (5, 7)), (2, (1, 1, 1, 1), (3, 4)), (3, (0, 1, 1, 1), (2, 3))]
)
def test_same_padding_is_resolved(stride, pads, size):
    weights = const("w", np.ones((3, 3, 3, 4)))
    (layer,) = layers(weights, node("Conv2D", "out", "x", "w", strides=(1, stride, stride, 1), padding=b"SAME"))
    assert isinstance(layer, Conv)
    assert (layer.strides, layer.pads) == ((stride, stride), pads)
    assert run([layer]).shape == (1, *size, 4)


def test_same_padding_puts_the_odd_pixel_below_and_right():
    weights = const("w", np.ones((3, 3, 3, 4)))
    conv = node("Conv2D", "out", "x", "w", strides=(1, 2, 2, 1), padding=b"SAME")
    (layer,) = layers(weights, conv, size=(6, 8))
    assert layer.pads == (0, 0, 1, 1)


def test_valid_and_explicit_padding_and_dilations():
    weights = const("w", np.ones((3, 3, 3, 4)))
    (valid,) = layers(weights, node("Conv2D", "out", "x", "w", **{**SAME, "padding": b"VALID"}))
    assert (valid.pads, run([valid]).shape) == ((0, 0, 0, 0), (1, 3, 5, 4))
    attributes = {**SAME, "padding": b"EXPLICIT", "explicit_paddings": (0, 0, 2, 1, 0, 3, 0, 0)}
    (explicit,) = layers(weights, node("Conv2D", "out", "x", "w", **attributes))
    assert explicit.pads == (2, 0, 1, 3)
    (wide,) = layers(weights, node("Conv2D", "out", "x", "w", dilations=(1, 2, 3, 1), **SAME))
    assert (wide.dilations, wide.pads) == ((2, 3), (2, 3, 2, 3))


def test_depthwise_convolution_with_a_multiplier():
    weights = np.random.default_rng(1).normal(size=(3, 3, 3, 2)).astype(np.float32)
    (layer,) = layers(const("w", weights), node("DepthwiseConv2dNative", "out", "x", "w", **SAME))
    assert isinstance(layer, DepthwiseConv)
    np.testing.assert_array_equal(layer.weights, weights)
    assert len(layer.bias) == 6


def test_pools():
    attributes = {"ksize": (1, 2, 3, 1), "strides": (1, 2, 2, 1), "padding": b"SAME"}
    (largest,) = layers(node("MaxPool", "out", "x", **attributes))
    assert largest == MaxPool("out", (IMAGE,), (2, 3), (2, 2), (0, 1, 1, 1))
    (mean,) = layers(node("AvgPool", "out", "x", **attributes))
    assert mean == AvgPool("out", (IMAGE,), (2, 3), (2, 2), (0, 1, 1, 1))


def test_global_mean():
    nodes = const("axes", [1, 2], "int32"), node("Mean", "out", "x", "axes", keep_dims=True)
    assert layers(*nodes) == (GlobalAvgPool("out", (IMAGE,)),)
    np.testing.assert_allclose(run(layers(*nodes)), picture().mean((1, 2), keepdims=True), rtol=1e-5)


@pytest.mark.parametrize(
    ("weights", "attributes", "match"),
    [
        (np.ones((3, 3, 4, 4)), SAME, "for 3 channels"),
        (np.ones((3, 3)), SAME, "for 3 channels"),
        (np.ones((3, 3, 3, 0)), SAME, "for 3 channels"),
        (np.ones((9, 9, 3, 4)), {**SAME, "padding": b"VALID"}, "does not fit"),
        (np.ones((3, 3, 3, 4)), {**SAME, "padding": b"ODD"}, "padding 'ODD'"),
        (np.ones((3, 3, 3, 4)), {**SAME, "data_format": b"NCHW"}, "ssdrt reads NHWC"),
        (np.ones((3, 3, 3, 4)), {**SAME, "strides": (1, 0, 1, 1)}, "strides"),
        (np.ones((3, 3, 3, 4)), {**SAME, "strides": (1, -1, 1, 1)}, "strides"),
        (np.ones((3, 3, 3, 4)), {**SAME, "dilations": (1, 2**40, 1, 1)}, "dilations"),
        (
            np.ones((3, 3, 3, 4)),
            {**SAME, "padding": b"EXPLICIT", "explicit_paddings": (0, 0, -9, 0, 0, 0, 0, 0)},
            "fit",
        ),
        (
            np.ones((3, 3, 3, 4)),
            {**SAME, "padding": b"EXPLICIT", "explicit_paddings": (0, 0, 2**40, 0, 0, 0, 0, 0)},
            "fit",
        ),
    ],
)
def test_impossible_convolution_is_refused(weights, attributes, match):
    refused(const("w", weights), node("Conv2D", "out", "x", "w", **attributes), match=match)


def test_weights_that_are_computed_are_refused():
    refused(node("Conv2D", "out", "x", "x", **SAME), match="no constant")


def test_weights_of_a_string_are_refused():
    refused(const("w", [b"a"], "string"), node("Conv2D", "out", "x", "w", **SAME), match="no constant number")


# --- batch norm and arithmetic --------------------------------------------------------------------------------------


def norm(**changes):
    """A batch norm of x with constants of three channels."""
    values = {"gamma": [1.0, 2.0, 0.5], "beta": [0.0, 1.0, -1.0], "mean": [0.5, 0.0, 2.0], "variance": [1.0, 4.0, 0.25]}
    constants = [const(name, value) for name, value in {**values, **changes}.items()]
    attributes = {"epsilon": 0.001, "is_training": False, "data_format": b"NHWC"}
    return [*constants, node("FusedBatchNormV3", "out", "x", "gamma", "beta", "mean", "variance", **attributes)]


@pytest.mark.parametrize("op", ["FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"])
def test_batch_norm(op):
    *constants, fused = norm()
    (layer,) = layers(*constants, NodeSpec("out", op, fused.inputs, fused.attributes))
    assert isinstance(layer, Affine)
    expected = (picture() - [0.5, 0, 2]) / np.sqrt(np.float64([1, 4, 0.25]) + 0.001) * [1, 2, 0.5] + [0, 1, -1]
    np.testing.assert_allclose(run([layer]), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "value"), [("gamma", [1.0, 2.0]), ("mean", 0.0), ("variance", np.ones((3, 3)))])
def test_batch_norm_of_unequal_constants_is_refused(name, value):
    refused(*norm(**{name: value}), match="a batch norm of")


def test_batch_norm_of_other_channels_is_refused():
    refused(*norm(gamma=[1.0] * 4, beta=[1.0] * 4, mean=[1.0] * 4, variance=[1.0] * 4), match="for 3 channels")


def test_batch_norm_in_training_is_refused():
    *constants, fused = norm()
    training = NodeSpec("out", fused.op, fused.inputs, {**fused.attributes, "is_training": True})
    refused(*constants, training, match="training mode")


@pytest.mark.parametrize(
    ("op", "inputs", "expected"),
    [
        ("Add", ("x", "c"), lambda x, c: x + c),
        ("AddV2", ("c", "x"), lambda x, c: x + c),
        ("BiasAdd", ("x", "c"), lambda x, c: x + c),
        ("Sub", ("x", "c"), lambda x, c: x - c),
        ("Sub", ("c", "x"), lambda x, c: c - x),
        ("Mul", ("x", "c"), lambda x, c: x * c),
        ("RealDiv", ("x", "c"), lambda x, c: x / c),
        ("Div", ("x", "c"), lambda x, c: x / c),
    ],
)
@pytest.mark.parametrize("value", [2.0, [1.0, -2.0, 4.0], [[[[1.0, -2.0, 4.0]]]]])
def test_arithmetic_with_a_constant(op, inputs, expected, value):
    (layer,) = layers(const("c", value), node(op, "out", *inputs))
    assert isinstance(layer, Affine)
    np.testing.assert_allclose(run([layer]), expected(picture(), np.float32(value)), rtol=1e-6)


@pytest.mark.parametrize(
    ("op", "inputs", "value", "match"),
    [
        ("RealDiv", ("c", "x"), 1.0, "a constant divided by"),
        ("Mul", ("x", "c"), np.ones((5, 1, 1)) * 2, "differs over the map"),
        ("Mul", ("x", "c"), [1.0, 2.0], "for 3 channels"),
        ("RealDiv", ("x", "c"), 0.0, "NaN or infinite"),
        ("Add", ("x", "c"), np.nan, "NaN or infinite"),
    ],
)
def test_other_arithmetic_is_refused(op, inputs, value, match):
    refused(const("c", value), node(op, "out", *inputs), match=match)


@pytest.mark.parametrize(("op", "kind"), [("Add", Add), ("AddV2", Add), ("AddN", Add), ("Mul", Mul)])
def test_two_maps(op, kind):
    relu = node("Relu", "r", "x")
    assert layers(relu, node(op, "out", "x", "r"))[-1] == kind("out", (IMAGE, "r"))
    assert layers(relu, node(op, "out", "r", "r"))[-1] == kind("out", ("r", "r"))


def test_squeeze_and_excite():
    nodes = [
        const("axes", [1, 2], "int32"),
        node("Mean", "m", "x", "axes", keep_dims=True),
        node("Mul", "out", "m", "x"),
    ]
    found = backbone(*nodes)
    assert found.shapes["out"] == (*SIZE, 3)
    assert found.layers[-1] == Mul("out", ("m", IMAGE))


def test_sum_of_three_maps_is_refused_and_not_cut_to_two():
    refused(node("Relu", "r", "x"), node("AddN", "out", "x", "r", "x"), match="Add and Mul of two")


def test_difference_of_two_maps_is_refused():
    refused(node("Relu", "r", "x"), node("Sub", "out", "x", "r"), match="Add and Mul of two")


def test_maps_of_different_sizes_are_refused():
    pool = node("MaxPool", "p", "x", ksize=(1, 2, 2, 1), strides=(1, 2, 2, 1), padding=b"SAME")
    refused(pool, node("Add", "out", "x", "p"), match="of maps")


# --- activations and clipping ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("op", "function"), [("Relu", "relu"), ("Relu6", "relu6"), ("Sigmoid", "sigmoid")])
def test_activation(op, function):
    assert layers(node(op, "out", "x")) == (Activation("out", (IMAGE,), function),)


def test_maximum_and_minimum_are_clips():
    nodes = [
        const("low", -1.0),
        const("high", [2.0]),
        node("Maximum", "m", "low", "x"),
        node("Minimum", "out", "m", "high"),
    ]
    found = layers(*nodes)
    assert found == (Clip("m", (IMAGE,), -1.0, np.inf), Clip("out", ("m",), -np.inf, 2.0))


@pytest.mark.parametrize("value", [[1.0, 2.0], np.nan])
def test_clip_by_what_is_no_number_is_refused(value):
    refused(const("low", value), node("Maximum", "out", "x", "low"), match="one number is understood")


# --- joining, padding, resizing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [3, -1])
def test_concat_of_channels(axis):
    nodes = [const("axis", axis, "int32"), node("Relu", "r", "x"), node("ConcatV2", "out", "x", "r", "axis", N=2)]
    found = backbone(*nodes)
    assert found.layers[-1] == Concat("out", (IMAGE, "r"))
    assert found.shapes["out"] == (*SIZE, 6)


@pytest.mark.parametrize(("axis", "pads"), [(1, (0, 0, 1, 0)), (2, (0, 0, 0, 1))])
def test_zeros_joined_below_or_right_are_a_border(axis, pads):
    shape = [1, *SIZE, 3]
    shape[axis] = 1
    nodes = [const("axis", axis, "int32"), const("zeros", np.zeros(shape)), node("Concat", "out", "axis", "x", "zeros")]
    assert layers(*nodes) == (Pad("out", (IMAGE,), pads, 0.0),)


@pytest.mark.parametrize(
    ("axis", "other"), [(1, np.ones((1, 1, 7, 3))), (0, np.zeros((1, 5, 7, 3))), (2, np.zeros(3)), (2, np.zeros(()))]
)
def test_other_joints_are_refused(axis, other):
    nodes = const("axis", axis, "int32"), const("other", other), node("ConcatV2", "out", "x", "other", "axis")
    refused(*nodes, match="only zeros")


def test_joint_along_an_axis_that_is_no_number_is_refused():
    refused(const("axis", [], "int32"), node("ConcatV2", "out", "x", "x", "axis"), match="no constant of 1 int")


def test_pads():
    widths = const("widths", [[0, 0], [1, 2], [3, 4], [0, 0]], "int32")
    assert layers(widths, node("Pad", "out", "x", "widths")) == (Pad("out", (IMAGE,), (1, 3, 2, 4), 0.0),)
    found = layers(widths, const("v", -1.5), node("PadV2", "out", "x", "widths", "v"))
    assert found == (Pad("out", (IMAGE,), (1, 3, 2, 4), -1.5),)


@pytest.mark.parametrize(
    ("widths", "match"),
    [
        ([[0, 0], [1, 2]], "no constant of 8 ints"),
        ([[0, 0], [1, 2], [3, 4], [0, 1]], "a pad of"),
        ([[0, 0], [-1, 2], [3, 4], [0, 0]], "a pad of"),
        ([[0, 0], [0, 2**31 - 1], [0, 2**31 - 1], [0, 0]], "a feature map of"),
    ],
)
def test_impossible_pads_are_refused(widths, match):
    refused(const("w", widths, "int32"), node("Pad", "out", "x", "w"), match=match)


@pytest.mark.parametrize(("op", "method"), [("ResizeBilinear", "bilinear"), ("ResizeNearestNeighbor", "nearest")])
def test_resize(op, method):
    size = const("size", [10, 14], "int32")
    found = layers(size, node(op, "out", "x", "size", align_corners=True))
    assert found == (Resize("out", (IMAGE,), 10, 14, method, True, False),)


@pytest.mark.parametrize("size", [[0, 5], [-1, 5], [2**31 - 1, 2**31 - 1], [5], [5, 5, 5]])
def test_impossible_resize_is_refused(size):
    refused(const("s", size, "int32"), node("ResizeBilinear", "out", "x", "s"), match="a feature map of|of 2 ints")


# --- fake quantisation ----------------------------------------------------------------------------------------------


def test_fake_quantisation():
    limits = const("low", -1.0), const("high", 1.0)
    (layer,) = layers(*limits, node("FakeQuantWithMinMaxVars", "out", "x", "low", "high", num_bits=8))
    assert isinstance(layer, FakeQuantize)
    assert (layer.minimum, layer.maximum, layer.step) == pytest.approx((-127 * 2 / 255, 128 * 2 / 255, 2 / 255))
    (other,) = layers(node("FakeQuantWithMinMaxArgs", "out", "x", min=0.0, max=2.55))
    assert (other.minimum, other.maximum, other.step) == pytest.approx((0, 2.55, 0.01))


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (0.0, np.inf), (2.0, 1.0)])
def test_fake_quantisation_of_an_impossible_range_is_refused(low, high):
    nodes = const("low", low), const("high", high), node("FakeQuantWithMinMaxVars", "out", "x", "low", "high")
    refused(*nodes, match="fake quantisation over")


# --- what cannot be imported ----------------------------------------------------------------------------------------


def test_op_that_is_not_understood_is_named_with_those_that_are():
    refused(NodeSpec("out", "Softplus", ("x",)), match="op Softplus is not understood; those that are: Add, .*Sub")


def test_value_that_follows_from_sizes_alone_is_no_feature_map():
    nodes = node("Shape", "s", "x", out_type="int32"), NodeSpec("u", "Unknown", ("s",)), node("Relu", "out", "u")
    refused(*nodes, match="does not follow from the picture")


def test_second_output_of_an_op_is_no_feature_map():
    *constants, fused = norm()
    fused = NodeSpec("bn", fused.op, fused.inputs, fused.attributes)
    refused(*constants, fused, node("Relu", "out", "bn:1"), match="does not follow from the picture")


def test_values_that_pass_are_aliases():
    nodes = [NodeSpec("i", "Identity", ("x",)), node("Relu", "r", "i"), NodeSpec("out", "StopGradient", ("r",))]
    found = backbone(*nodes)
    assert [layer.name for layer in found.layers] == ["r"]
    assert found.heads == {Ref("out"): "r"}


def test_crop_layer_is_the_only_one_of_its_name():
    """Both halves of a Split are crops."""
    nodes = [
        const("axis", 1, "int32"), node("Split", "s", "axis", "x", num_split=2), node("Relu", "a", "s"),
        node("Relu", "b", "s:1"), const("c", 2, "int32"), node("ConcatV2", "out", "a", "b", "last"),
        const("last", 3, "int32"),
    ]  # fmt: skip
    found = layers(*nodes, size=(6, 7))
    crops = [layer for layer in found if isinstance(layer, Crop)]
    assert [(c.name, c.top, c.height) for c in crops] == [("s", 0, 3), ("s:1", 3, 3)]
