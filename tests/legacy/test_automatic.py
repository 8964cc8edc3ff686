"""Graphs through the surgery and back: the same detections, by the plugins' references and by an engine."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from build import VARIANTS, demo_graph
from legacy.detecting import detect, golden
from legacy.genuine import recorded
from ssdrt.compare import EXACT, difference
from ssdrt.demo import DemoOptions, demo_picture
from ssdrt.engines import reference
from ssdrt.errors import ModelError
from ssdrt.legacy.advice import input_order, problems
from ssdrt.legacy.automatic import differences, fit_grid_anchor
from ssdrt.legacy.binary import parse_uff, write_uff
from ssdrt.legacy.convert import automatic_uff
from ssdrt.legacy.reader import model_of
from ssdrt.legacy.uff import checked_nodes
from ssdrt.model import Fact
from ssdrt.pipeline import detect_picture, graph_parameters
from ssdrt.recover import recover
from surgery import exported

EXPRESSIBLE = sorted(set(VARIANTS) - {"class_agnostic", "soft_nms"})
SQUARE = DemoOptions(input_size=(128, 128))


def found_by_engine(model, picture):
    engine = reference.load(model, b"", "fp32", 1)
    return detect_picture(model, engine, picture, graph_parameters(model), model.labels.value)


def through_file(graph, model, target="trt8"):
    return parse_uff(write_uff(automatic_uff(graph, model, target)))


def off_the_grid(model):
    """Anchors that no parameters of GridAnchor make."""
    anchors = model.anchors.value + np.float32(0.01) * (np.arange(len(model.anchors.value)) % 2)[:, None]
    return replace(model, anchors=Fact(anchors.astype(np.float32), ""))


@pytest.mark.parametrize("name", [*EXPRESSIBLE, "exported"])
def test_the_plugins_and_an_engine_find_what_the_graph_finds(name):
    """The exported graph has batch norms, and anchors that nodes compute."""
    graph, picture = exported() if name == "exported" else demo_graph(VARIANTS[name]), demo_picture()
    model = recover(graph)
    expected = found_by_engine(model, picture)
    uff = through_file(graph, model)
    assert problems(uff) == []
    assert len(expected) == len(detect(uff, picture))
    assert difference(expected, detect(uff, picture)).within(EXACT)
    assert difference(expected, found_by_engine(model_of(uff), picture)).within(EXACT)


@pytest.mark.parametrize("name", ["class_agnostic", "soft_nms"])
def test_what_the_plugins_cannot_do_is_refused(name):
    graph = demo_graph(VARIANTS[name])
    with pytest.raises(ModelError, match="NMS_TRT has no"):
        automatic_uff(graph, recover(graph))


def test_what_the_plugins_do_otherwise_is_said():
    names = ("default", "clip_before", "few", "softmax")
    said = {name: differences(recover(demo_graph(VARIANTS[name]))) for name in names}
    assert said["default"] == []
    assert "softmax over the wrong dimension" in said["softmax"][0]
    assert "clips boxes after the suppression" in said["clip_before"][0]
    assert "no limit of boxes a class" in said["few"][0]


def test_parameters_are_fitted_to_square_maps():
    graph = demo_graph(SQUARE)
    model = recover(graph)
    fitted = fit_grid_anchor(model)
    assert (fitted.min_size, fitted.max_size, fitted.maps) == (0.25, 0.5, ((16, 16), (8, 8)))
    assert fitted.aspect_ratios == (1.0, 2.0, 0.5, 3.0, 0.3333)
    uff = through_file(graph, model)
    np.testing.assert_allclose(model_of(uff).anchors.value, model.anchors.value, atol=1e-4)
    assert difference(found_by_engine(model, demo_picture()), detect(uff, demo_picture())).within(EXACT)


def test_anchors_that_the_plugin_does_not_make_are_a_constant():
    graph = demo_graph(SQUARE)
    model = off_the_grid(recover(graph))
    assert fit_grid_anchor(model) is None
    uff = through_file(graph, model)
    assert not [n for n in uff.nodes if "GridAnchor" in n.operation]
    assert np.array_equal(model_of(uff).anchors.value, model.anchors.value)


def test_flatten_concat_has_arguments_from_tensorrt_7_on():
    graph = demo_graph(SQUARE)
    for target, fields in (("trt8", {"dtype", "axis_u_int", "ignoreBatch_u_int"}), ("trt6", {"dtype"})):
        nodes = checked_nodes(automatic_uff(graph, recover(graph), target))
        assert set(nodes["concat_box_loc"].fields) == fields


def test_all_parameters_of_nms_are_sent():
    graph = demo_graph(VARIANTS["few"])
    nodes = checked_nodes(automatic_uff(graph, recover(graph)))
    sent = {key: data.value for key, data in nodes["NMS"].fields.items()}
    assert sent["numClasses_u_int"] == 4
    assert (sent["topK_u_int"], sent["keepTopK_u_int"]) == (len(recover(graph).anchors.value), 5)
    assert sent["confidenceThreshold_u_float"] == float(np.float32(0.002))
    assert input_order(nodes, replace(nodes["NMS"], fields={})) is None


def test_preprocessing_and_labels_come_back():
    graph = demo_graph()
    model = recover(graph)
    back = model_of(through_file(graph, model))
    assert back.preprocessing.resizer.value == model.preprocessing.resizer.value
    assert back.label_offset.value == model.label_offset.value
    foreign = model_of(replace(through_file(graph, model), extra_fields={}))
    assert [step.operation for step in foreign.preprocessing.normalisation.value] == ["mul", "sub"]


# --- real graphs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("anchors", ["fitted", "constant"])
@pytest.mark.parametrize("name", ["one_ssdlite_mobilenet_v2_od2020", "aiy_person_cat_dog_ssd_mobilenet_v1_0125_256"])
def test_the_plugins_find_what_tensorflow_recorded(monkeypatch, name, anchors):
    graph, record, photos = recorded(name)
    model = recover(graph)
    if anchors == "constant":
        monkeypatch.setattr("ssdrt.legacy.automatic.ANCHOR_TOLERANCE", -1.0)
    uff = through_file(graph, model)
    assert any(n.operation == "_GridAnchor_TRT" for n in uff.nodes) == (anchors == "fitted")
    picture = np.asarray(Image.open(photos / "cows.png").convert("RGB"))
    expected = golden(record, "cows", picture.shape[1], picture.shape[0])
    assert len(expected) == 100
    assert difference(expected, detect(uff, picture)).within(EXACT)
