"""Layers joined: what comes out computes what went in."""

import numpy as np
import pytest

from ssdrt.engines.reference import run_layer
from ssdrt.model import IMAGE, Activation, Affine, Conv, DepthwiseConv, Mul
from ssdrt.recover.fusion import fuse

RANDOM = np.random.default_rng(2)


def weights(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def conv(name="conv", source=IMAGE):
    return Conv(name, (source,), weights(3, 3, 4, 5), weights(5), (1, 1), (1, 1, 1, 1))


def depthwise(name="conv", source=IMAGE):
    return DepthwiseConv(name, (source,), weights(3, 3, 4, 2), weights(8), (1, 1), (1, 1, 1, 1))


def affine(name, source, channels):
    return Affine(name, (source,), weights(channels), weights(channels))


def run(layers, name):
    values = {IMAGE: np.random.default_rng(3).normal(size=(1, 6, 7, 4)).astype(np.float32)}
    for layer in layers:
        values[layer.name] = run_layer(layer, *[values[source] for source in layer.inputs])
    return values[name]


@pytest.mark.parametrize(("layer", "channels"), [(conv(), 5), (depthwise(), 8)])
def test_batch_norm_and_bias_go_into_their_convolution(layer, channels):
    layers = [layer, affine("norm", "conv", channels), affine("bias", "norm", channels)]
    (fused,) = fuse(layers, {"bias"})
    assert (type(fused), fused.name, fused.inputs) == (type(layer), "bias", (IMAGE,))
    np.testing.assert_allclose(run([fused], "bias"), run(layers, "bias"), rtol=1e-4, atol=1e-5)


def test_convolution_that_others_read_keeps_its_value():
    layers = [conv(), affine("norm", "conv", 5), Activation("other", ("conv",), "relu")]
    assert [layer.name for layer in fuse(layers, {"norm", "other"})] == ["conv", "norm", "other"]
    assert [layer.name for layer in fuse(layers[:2], {"conv", "norm"})] == ["conv", "norm"]


def test_bias_alone_keeps_the_array_of_shared_weights():
    shared = weights(1, 1, 4, 5)
    layers = []
    for i in range(2):
        layers += [Conv(f"c{i}", (IMAGE,), shared, np.zeros(5, np.float32), (1, 1), (0, 0, 0, 0))]
        layers += [Affine(f"b{i}", (f"c{i}",), np.ones(5, np.float32), weights(5))]
    first, second = fuse(layers, {"b0", "b1"})
    assert first.weights is second.weights is shared


def six(name, source, offset=0.0, scale=1 / 6):
    return Affine(name, (source,), np.full(4, scale, np.float32), np.full(4, offset, np.float32))


def gate():
    """relu6(x + 3)."""
    return [Affine("plus3", (IMAGE,), np.ones(4, np.float32), np.full(4, 3, np.float32)),
            Activation("clip", ("plus3",), "relu6")]  # fmt: skip


def test_hard_sigmoid():
    layers = [*gate(), six("out", "clip")]
    assert fuse(layers, {"out"}) == (Activation("out", (IMAGE,), "hard_sigmoid"),)


@pytest.mark.parametrize(
    "layers",
    [
        [*gate(), six("gate", "clip"), Mul("out", (IMAGE, "gate"))],
        [*gate(), six("gate", "clip"), Mul("out", ("gate", IMAGE))],
        [*gate(), Mul("product", (IMAGE, "clip")), six("out", "product")],
        [*gate(), Mul("product", ("clip", IMAGE)), six("out", "product")],
    ],
)
def test_hard_swish_in_either_order(layers):
    fused = fuse(layers, {"out"})
    assert fused == (Activation("out", (IMAGE,), "hard_swish"),)
    np.testing.assert_allclose(run(fused, "out"), run(layers, "out"), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "layers",
    [
        [*gate(), six("out", "clip", offset=0.1)],
        [*gate(), six("out", "clip", scale=0.2)],
        [Activation("clip", (IMAGE,), "relu6"), six("out", "clip")],
    ],
)
def test_what_is_nearly_a_hard_sigmoid_stays_as_it_is(layers):
    fused = fuse(layers, {"out"})
    assert Activation("out", (IMAGE,), "hard_sigmoid") not in fused
    np.testing.assert_allclose(run(fused, "out"), run(layers, "out"), rtol=1e-5, atol=1e-6)


def test_squeeze_and_excite_gate_is_no_hard_swish():
    layers = [conv("other"), *gate(), six("gate", "clip"), Mul("out", ("other", "gate"))]
    assert isinstance(fuse(layers, {"out"})[-1], Mul)


def test_unread_layers_are_dropped():
    layers = [Activation("a", (IMAGE,), "relu"), Activation("b", (IMAGE,), "relu"), Activation("c", ("a",), "relu")]
    assert [layer.name for layer in fuse(layers, {"c"})] == ["a", "c"]
