"""`ssdrt inspect`: every recovered value with its node, and what the layers cost."""

import json

import pytest

from build import VARIANTS, demo_file, demo_graph
from ssdrt.cli.inspect import recovered
from ssdrt.model import Fact
from ssdrt.recover import recover
from ssdrt.statistics import layer_costs

GRAPH = "frozen_inference_graph.pb"


@pytest.fixture(scope="module")
def model():
    return recover(demo_graph())


def facts(value):
    """Every `Fact` that can be reached from a value."""
    if isinstance(value, Fact):
        return [value]
    return [fact for inner in getattr(value, "__dict__", {}).values() for fact in facts(inner)]


def test_every_fact_is_recovered(model):
    shown = [id(fact) for section in recovered(model).values() for fact in section.values()]
    assert sorted(shown) == sorted(map(id, facts(model)))


def test_text_names_every_value_and_node(ssdrt, model):
    code, out, err = ssdrt("inspect", GRAPH)
    assert (code, err) == (0, "")
    lines = [line.strip() for line in out.splitlines()]
    for section, inner in recovered(model).items():
        assert section in lines
        for name, fact in inner.items():
            assert any(line.split("  ")[0] == name for line in lines)
            assert not fact.node or fact.node in lines
    assert out.startswith(f"{GRAPH}: an SSD of 3 classes; network input 96x128 (height x width), ")
    assert model.digest in out
    for words in (
        "resizer        fixed_shape to 96x128 (height x width), bilinear",
        "normalisation  RGB 0..255 * 0.00784313772 - 1",
        "num_classes   3 ",
        "iou_threshold            0.6 ",
        "class_agnostic           no ",
    ):
        assert words in out
    assert len({line.index("(") for line in out.splitlines() if " a cell)" in line}) == 1


def test_layers_are_listed_when_asked_for(ssdrt, model):
    _, out, _ = ssdrt("inspect", GRAPH, "--layers")
    rows = out.split("\nlayers\n")[1].splitlines()[1:]
    assert [row.split()[-1] for row in rows] == [layer.name for layer in model.layers]
    assert [row.split()[0] for row in rows] == [type(layer).__name__ for layer in model.layers]


def test_json_holds_the_same(ssdrt, model):
    _, out, _ = ssdrt("inspect", GRAPH, "--json")
    shown = json.loads(out)
    assert shown["input_size"] == [96, 128]
    assert shown["preprocessing"]["input"] == {
        "value": [None, None, None, 3], "node": "image_tensor", "how": model.preprocessing.input.how
    }  # fmt: skip
    assert shown["preprocessing"]["resizer"]["value"]["kind"] == "fixed_shape"
    assert shown["nms"]["max_total"]["value"] == model.nms.max_total.value
    assert shown["model"]["anchors"]["value"] == model.anchors.value.tolist()
    assert [head["height"] for head in shown["heads"]] == [head.height for head in model.heads]
    costs = layer_costs(model)
    assert shown["multiply_adds"] == sum(cost.multiply_adds for cost in costs) > 0
    assert [layer["name"] for layer in shown["layers"]] == [cost.name for cost in costs]


def test_a_bundle_says_what_its_graph_says(ssdrt, tmp_path):
    ssdrt("build", GRAPH, "-o", tmp_path / "demo.ssdrt", "--engine", "reference")
    of_bundle, of_graph = (ssdrt("inspect", name, "--json")[1] for name in (tmp_path / "demo.ssdrt", GRAPH))
    assert json.loads(of_bundle) == json.loads(of_graph)


def test_a_normalisation_of_channels_and_soft_nms_are_told(ssdrt, tmp_path):
    _, out, _ = ssdrt("inspect", demo_file(tmp_path, VARIANTS["soft_nms"]))
    assert "soft_nms_sigma           0.5 " in out
