"""Every kind of layer as ONNX, run by ONNX Runtime, equals the reference engine."""

import math
from dataclasses import dataclass
from typing import get_args, get_type_hints

import numpy as np
import pytest

from ssdrt.engines.reference import run_layer
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
    Layer,
    MaxPool,
    Mul,
    Pad,
    Resize,
)
from ssdrt.network.layers import KINDS, write_layer
from ssdrt.network.onnx_file import OnnxGraph, Port

RANDOM = np.random.default_rng(3)
X, Y, GATE = (RANDOM.normal(0, 4, shape).astype(np.float32) for shape in ((2, 9, 7, 6), (2, 9, 7, 6), (2, 1, 1, 6)))


def normal(*shape):
    return RANDOM.normal(0, 1, shape).astype(np.float32)


CASES = [
    (Conv("l", ("x",), normal(3, 3, 6, 5), normal(5), (1, 1), (1, 1, 1, 1)), (X,)),
    (Conv("l", ("x",), normal(3, 5, 6, 5), normal(5), (2, 1), (0, 1, 2, 3), (2, 1)), (X,)),
    (Conv("l", ("x",), normal(1, 1, 6, 4), normal(4), (2, 3), (0, 0, 0, 0)), (X,)),
    (DepthwiseConv("l", ("x",), normal(3, 3, 6, 1), normal(6), (1, 1), (1, 1, 1, 1)), (X,)),
    (DepthwiseConv("l", ("x",), normal(3, 2, 6, 4), normal(24), (2, 1), (0, 1, 1, 0), (1, 2)), (X,)),
    *((Activation("l", ("x",), name), (X,)) for name in get_args(get_type_hints(Activation)["function"])),
    (Affine("l", ("x",), normal(6), normal(6)), (X,)),
    (Affine("l", ("x",), np.array(0.3, np.float32), np.array(-2, np.float32)), (X,)),
    (Add("l", ("x", "y")), (X, Y)),
    (Add("l", ("x", "y")), (GATE, X)),
    (Mul("l", ("x", "y")), (X, GATE)),
    (Concat("l", ("x", "y", "z")), (X, Y, X)),
    (MaxPool("l", ("x",), (3, 2), (2, 1), (1, 0, 1, 1)), (X - 20,)),
    (AvgPool("l", ("x",), (3, 2), (2, 1), (1, 0, 1, 1)), (X,)),
    (GlobalAvgPool("l", ("x",)), (X,)),
    *(
        (Resize("l", ("x",), height, width, method, **grid), (X,))
        for height, width in ((18, 14), (13, 12), (4, 5), (1, 1))
        for method in ("nearest", "bilinear")
        for grid in ({}, {"align_corners": True}, {"half_pixel_centers": True})
    ),
    (Pad("l", ("x",), (1, 0, 2, 3), -1.5), (X,)),
    (Crop("l", ("x",), 1, 2, 5, 4), (X,)),
    (Clip("l", ("x",), -1.5, 2.0), (X,)),
    (Clip("l", ("x",), -math.inf, 2.0), (X,)),
    (FakeQuantize("l", ("x",), -3.0, 4.5, 7.5 / 255), (X,)),
]


def run_as_onnx(layer, values, opset=17):
    """The layer between transposes, through ONNX Runtime; values and result NHWC."""
    onnxruntime = pytest.importorskip("onnxruntime")
    names = ("x", "y", "z")[: len(values)]
    graph = OnnxGraph([Port(name, "float32", value.shape) for name, value in zip(names, values, strict=True)])
    write_layer(graph, layer, tuple(graph("Transpose", name, perm=(0, 3, 1, 2)) for name in names))
    graph("Transpose", layer.name, name="result", perm=(0, 2, 3, 1))
    session = onnxruntime.InferenceSession(graph.to_bytes([Port("result", "float32", ("n", "h", "w", "c"))], opset))
    return session.run(None, dict(zip(names, values, strict=True)))[0]


@pytest.mark.parametrize(("layer", "values"), CASES, ids=lambda case: type(case).__name__)
@pytest.mark.parametrize("opset", [11, 17, 21])
def test_equals_the_reference(layer, values, opset):
    expected = run_layer(layer, *values)
    np.testing.assert_allclose(run_as_onnx(layer, values, opset), expected, rtol=1e-5, atol=1e-5)


def test_every_kind_is_written_and_tested():
    assert set(get_args(Layer)) == set(KINDS) == {type(layer) for layer, _ in CASES}


def test_fake_quantize_gives_the_very_same_steps():
    layer, (x,) = CASES[-1]
    np.testing.assert_array_equal(run_as_onnx(layer, (x,)), run_layer(layer, x))


def test_unknown_kind_names_layer_and_file():
    @dataclass(frozen=True)
    class Fold:
        name: str

    with pytest.raises(ModelError, match=r"Fold layers.*network/layers\.py.*'some/layer'"):
        write_layer(OnnxGraph([]), Fold("some/layer"), ())
