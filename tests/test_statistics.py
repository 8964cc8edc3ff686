"""What layers cost: shapes are those that the reference computes, multiply-adds those that can be counted by hand."""

import dataclasses

import numpy as np
import pytest

from ssdrt.engines.reference import run_layer
from ssdrt.errors import ModelError
from ssdrt.model import IMAGE, Activation, Affine, Conv, DepthwiseConv
from ssdrt.statistics import KINDS, layer_costs
from tiny_ssd import HEIGHT, WIDTH, tiny_ssd


def costs_of(*layers):
    return layer_costs(dataclasses.replace(tiny_ssd(), layers=layers))


def zeros(*shape):
    return np.zeros(shape, np.float32)


def test_shapes_are_what_the_reference_computes():
    model = tiny_ssd()
    values = {IMAGE: zeros(1, HEIGHT, WIDTH, 3)}
    for layer in model.layers:
        values[layer.name] = run_layer(layer, *(values[name] for name in layer.inputs))
    costs = layer_costs(model)
    assert [cost.name for cost in costs] == [layer.name for layer in model.layers]
    assert {cost.name: cost.shape for cost in costs} == {
        layer.name: values[layer.name].shape[1:] for layer in model.layers
    }
    assert {type(layer) for layer in model.layers} == set(KINDS), "a layer kind without a test"


def test_convolution_reads_a_window_of_all_channels():
    (cost,) = costs_of(Conv("conv", (IMAGE,), zeros(3, 3, 3, 8), zeros(8), (2, 2), (0, 0, 1, 1)))
    assert cost.shape == (HEIGHT // 2, WIDTH // 2, 8)
    assert cost.parameters == 3 * 3 * 3 * 8 + 8
    assert cost.multiply_adds == (HEIGHT // 2) * (WIDTH // 2) * 8 * 3 * 3 * 3


def test_dilated_convolution_has_a_larger_window():
    (cost,) = costs_of(Conv("conv", (IMAGE,), zeros(3, 3, 3, 1), zeros(1), (1, 1), (0, 0, 0, 0), (2, 3)))
    assert cost.shape == (HEIGHT - 4, WIDTH - 6, 1)


def test_depthwise_convolution_reads_a_window_of_one_channel():
    (cost,) = costs_of(DepthwiseConv("depthwise", (IMAGE,), zeros(3, 3, 3, 2), zeros(6), (1, 1), (1, 1, 1, 1)))
    assert (cost.shape, cost.parameters) == ((HEIGHT, WIDTH, 6), 3 * 3 * 6 + 6)
    assert cost.multiply_adds == HEIGHT * WIDTH * 6 * 3 * 3


def test_affine_costs_one_a_value_and_an_activation_nothing():
    affine, activation = costs_of(
        Affine("affine", (IMAGE,), zeros(3), zeros(3)), Activation("activation", ("affine",), "relu6")
    )
    assert (affine.parameters, affine.multiply_adds) == (6, HEIGHT * WIDTH * 3)
    assert (activation.parameters, activation.multiply_adds) == (0, 0)


def test_unknown_layer_kind_is_named():
    @dataclasses.dataclass(frozen=True)
    class Surprise:
        name: str
        inputs: tuple[str]

    with pytest.raises(ModelError, match=r"Surprise layers: add a function to statistics\.py \(node 'new'\)"):
        costs_of(Surprise("new", (IMAGE,)))
