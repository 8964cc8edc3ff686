"""Models to begin with: other classes, fewer channels, another size, untrained ones. No torch is needed."""

import dataclasses

import numpy as np
import pytest

from build import demo_graph
from ssdrt.engines.reference import ReferenceEngine
from ssdrt.errors import ModelError
from ssdrt.export import write_frozen_graph
from ssdrt.graph import graph_from_bytes
from ssdrt.model import Fact, LabelMap
from ssdrt.recover import recover
from ssdrt.train.architectures import ARCHITECTURES, untrained
from ssdrt.train.classes import kept_classes, with_classes
from ssdrt.train.size import with_size
from ssdrt.train.width import with_depth
from tiny_ssd import tiny_pixels, tiny_ssd


def read_back(model):
    """Through a frozen graph."""
    return recover(graph_from_bytes(write_frozen_graph(model)))


@pytest.mark.parametrize("background", ["none", "sliced_after"])
def test_a_class_that_is_kept_keeps_its_scores(background):
    model, pixels = tiny_ssd(background), tiny_pixels(1)
    other = with_classes(model, ["new", "three", "one"], seed=0)
    assert kept_classes(model, ["new", "three", "one"]) == [(1, 2), (2, 0)]
    assert other.labels.value == LabelMap({1: "new", 2: "three", 3: "one"})
    before, after = (ReferenceEngine(one).infer(pixels)[1] for one in (model, other))
    np.testing.assert_allclose(after[..., 1:], before[..., [2, 0]], atol=1e-6)
    assert after[..., 0].max() < 0.05


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_untrained_model_is_a_graph_with_the_anchors_of_the_configurations(name):
    model, normed = untrained(name, 0.25, 300, seed=0)
    again = read_back(model)
    assert [(head.height, head.anchors_per_cell) for head in again.heads] == [
        (19, 3), (10, 6), (5, 6), (3, 6), (2, 6), (1, 6)
    ]  # fmt: skip
    np.testing.assert_array_equal(again.anchors.value, model.anchors.value)
    np.testing.assert_allclose(model.anchors.value[0], [-0.02368421, -0.02368421, 0.0763158, 0.0763158], atol=1e-6)
    convolutions = {layer.name for layer in model.layers if hasattr(layer, "weights")}
    heads = {name for head in model.heads for name in (head.boxes, head.scores)}
    assert set(normed) == convolutions - heads


def test_a_narrower_model_has_the_channels_of_its_depth():
    narrow = read_back(with_depth(untrained("mobilenet_v1", 0.5, 128, seed=0)[0], 0.25))
    wanted = untrained("mobilenet_v1", 0.25, 128, seed=0)[0]
    shapes = [[layer.weights.shape for layer in one.layers if hasattr(layer, "weights")] for one in (narrow, wanted)]
    assert shapes[0] == shapes[1]


def test_what_is_added_loses_the_same_channels():
    narrow = read_back(with_depth(untrained("mobilenet_v2", 1.0, 128, seed=0)[0], 0.5))
    channels = {layer.name: layer.bias.size for layer in narrow.layers if hasattr(layer, "bias")}
    assert channels["block_5_project"] == channels["block_6_project"] == 16


def test_channels_without_weight_are_the_ones_left_out():
    model = untrained("mobilenet_v1", 0.5, 128, seed=0)[0]
    dead = np.arange(0, 16, 2)  # of the first convolution's 16
    first, *rest = model.layers
    weights = first.weights.copy()
    weights[..., dead] = 0
    model = dataclasses.replace(model, layers=(dataclasses.replace(first, weights=weights), *rest))
    narrow = with_depth(model, 0.25)
    np.testing.assert_array_equal(narrow.layers[0].weights, weights[..., 1::2])


def test_wider_is_refused():
    with pytest.raises(ModelError, match=r"--depth 1 is wider than the first model \(0.5\)"):
        with_depth(untrained("mobilenet_v1", 0.5, 128, seed=0)[0], 1.0)


def test_another_size_and_back_is_the_same_model():
    model = untrained("mobilenet_v2", 0.25, 300, seed=0)[0]
    small = with_size(model, 200)
    assert [head.height for head in read_back(small).heads] == [13, 7, 4, 2, 1, 1]
    back = with_size(small, 300)
    np.testing.assert_allclose(back.anchors.value, model.anchors.value, atol=1e-6)
    for one, other in zip(model.layers, back.layers, strict=True):
        for field in dataclasses.fields(one):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))
    assert back.heads == model.heads


def test_a_layer_with_a_size_of_its_own_is_refused():
    with pytest.raises(ModelError, match=r"--size: the model has a Resize.*'wide'"):
        with_size(tiny_ssd(), 64)


def test_names_beside_a_graph_survive(tmp_path):
    from ssdrt.labels import labels_beside, write_labels

    labels = LabelMap({1: "a b", 7: "c"})
    (tmp_path / "x.labels.txt").write_bytes(write_labels(labels))
    assert labels_beside(tmp_path / "x.pb") == labels
    assert labels_beside(tmp_path / "y.pb") is None
    assert recover(demo_graph()).labels == Fact(LabelMap({}), "", recover(demo_graph()).labels.how)
