"""Whole networks: valid ONNX in every form, and the numbers of the reference engine and of TensorFlow's NMS."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from ssdrt.engines import reference
from ssdrt.errors import ModelError
from ssdrt.model import SsdModel
from ssdrt.network.export import build_onnx
from ssdrt.postprocess import NmsParameters, decode_boxes, non_max_suppression
from tiny_ssd import CLASSES, HEIGHT, WIDTH, tiny_pixels, tiny_ssd, with_padding

TAILS = ("heads", "scores", "detections")


def run(data: bytes, pixels: np.ndarray, **more) -> dict[str, np.ndarray]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(data)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"image": pixels, **more}), strict=True))


def infer(model: SsdModel, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return reference.load(model, b"", "fp32", 1).infer(pixels)


@pytest.mark.parametrize("opset", [11, 13, 17, 22])
@pytest.mark.parametrize("tail", TAILS)
def test_every_opset_and_tail_is_valid_and_gives_the_same(opset, tail):
    onnx = pytest.importorskip("onnx")
    data = build_onnx(tiny_ssd(), pixels="float32", tail=tail, opset=opset)
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    usual = run(build_onnx(tiny_ssd(), pixels="float32", tail=tail), tiny_pixels(1))
    for name, value in run(data, tiny_pixels(1)).items():
        np.testing.assert_array_equal(value, usual[name])


def test_candidates_are_the_best_pairs_with_their_boxes():
    model, pixels = tiny_ssd(), tiny_pixels(2)
    found = run(build_onnx(model, pixels="float32", tail="candidates", candidates=60), pixels)
    encodings, scores = infer(model, pixels)
    for picture in range(2):
        best = np.sort(scores[picture].ravel())[::-1][:60]
        np.testing.assert_allclose(found["candidate_scores"][picture], best, atol=1e-5)
        indices = found["candidate_indices"][picture]
        np.testing.assert_allclose(scores[picture].ravel()[indices], best, atol=1e-5)
        boxes = decode_boxes(encodings[picture], model.anchors.value, model.box_coder.scales.value)
        np.testing.assert_allclose(found["candidate_boxes"][picture], boxes[indices // CLASSES], atol=1e-5)
    assert len(set(indices.tolist())) == 60


@pytest.mark.parametrize("floats", ["float16", "bfloat16"])
def test_a_narrow_network_takes_and_gives_float32(floats):
    onnx = pytest.importorskip("onnx")
    data = build_onnx(tiny_ssd(), tail="candidates", candidates=60, floats=floats, opset=22)
    network = onnx.load_from_string(data)
    onnx.checker.check_model(network, full_check=True)
    narrow = {"float16": onnx.TensorProto.FLOAT16, "bfloat16": onnx.TensorProto.BFLOAT16}[floats]
    weights = [one for one in network.graph.initializer if len(one.dims) == 4 and np.prod(one.dims) > 8]
    assert {one.data_type for one in weights} == {narrow}
    ports = {port.name: port.type.tensor_type.elem_type for port in (*network.graph.input, *network.graph.output)}
    kinds = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.UINT8: "uint8", onnx.TensorProto.INT32: "int32"}
    assert {name: kinds[kind] for name, kind in ports.items()} == {
        "image": "uint8", "box_encodings": "float32", "class_scores": "float32", "candidate_boxes": "float32",
        "candidate_scores": "float32", "candidate_indices": "int32",
    }  # fmt: skip


def test_float16_is_near_float32():
    pixels = tiny_pixels(1)
    wide = run(build_onnx(tiny_ssd(), pixels="float32", tail="scores"), pixels)
    narrow = run(build_onnx(tiny_ssd(), pixels="float32", tail="scores", floats="float16"), pixels)
    for name, value in wide.items():
        assert 1e-5 < np.abs(value - narrow[name]).max() < 1e-2


@pytest.mark.parametrize("opset", [10, 23])
def test_other_opsets_are_refused(opset):
    with pytest.raises(ModelError, match=f"opset {opset}.*11 to 22"):
        build_onnx(tiny_ssd(), opset=opset)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("background", ["sliced_before", "sliced_after", "none"])
@pytest.mark.parametrize("function", ["sigmoid", "softmax", "identity"])
def test_scores_equal_the_reference(batch, background, function):
    model = tiny_ssd(background, function, logit_scale=0.7)
    boxes, scores = infer(model, tiny_pixels(batch))
    found = run(build_onnx(model, pixels="float32", tail="scores"), tiny_pixels(batch))
    assert scores.shape == (batch, 180, CLASSES)
    np.testing.assert_allclose(found["box_encodings"], boxes, atol=1e-5)
    np.testing.assert_allclose(found["class_scores"], scores, atol=1e-5)


def test_heads_are_the_logits_with_background():
    found = run(build_onnx(tiny_ssd(), pixels="float32", tail="heads"), tiny_pixels(1))
    assert found["class_logits"].shape == (1, 180, CLASSES + 1)
    scores = 1 / (1 + np.exp(-found["class_logits"][..., 1:]))
    np.testing.assert_allclose(scores, infer(tiny_ssd(), tiny_pixels(1))[1], atol=1e-5)


def test_uint8_and_float32_pixels_give_the_same():
    pixels = np.floor(tiny_pixels(1))
    floats = run(build_onnx(tiny_ssd(), pixels="float32", tail="heads"), pixels)
    integers = run(build_onnx(tiny_ssd(), tail="heads"), pixels.astype(np.uint8))
    np.testing.assert_array_equal(floats["class_logits"], integers["class_logits"])


def test_fixed_batch_is_written_into_the_ports():
    onnx = pytest.importorskip("onnx")
    graph = onnx.load_from_string(build_onnx(tiny_ssd(), batch=2)).graph
    dims = [[dim.dim_value for dim in port.type.tensor_type.shape.dim] for port in (*graph.input, *graph.output)]
    assert dims == [[2, HEIGHT, WIDTH, 3], [2, 20, 4], [2, 20], [2, 20], [2]]


def test_nodes_are_named_as_layers_and_equal_weights_are_stored_once():
    onnx = pytest.importorskip("onnx")
    model = tiny_ssd()
    first, second = (layer for layer in model.layers if layer.name.startswith("scores_"))
    layers = tuple(replace(layer, weights=first.weights) if layer is second else layer for layer in model.layers)
    graph = onnx.load_from_string(build_onnx(replace(model, layers=layers))).graph
    inputs = {node.name: node.input for node in graph.node}
    assert {layer.name for layer in model.layers} <= set(inputs)
    assert inputs["scores_0"][1] == inputs["scores_1"][1]


def test_layer_with_the_name_of_an_output_is_refused():
    model = tiny_ssd()
    first, second, *others = model.layers
    layers = (replace(first, name="class_logits"), replace(second, inputs=("class_logits",)), *others)
    with pytest.raises(ModelError, match=r"one name.*'class_logits'"):
        build_onnx(replace(model, layers=layers))


def assert_detections_equal_postprocess(model: SsdModel, batch: int = 1, window=(0.0, 0.0, 1.0, 1.0)):
    """ONNX's detections against ssdrt.postprocess on the same heads."""
    padded = model.preprocessing.resizer.value.pad
    more = {"window": np.array([window] * batch, np.float32)} if padded else {}
    pixels, total = tiny_pixels(batch), model.nms.max_total.value
    heads = run(build_onnx(model, pixels="float32", tail="scores"), pixels)
    found = run(build_onnx(model, pixels="float32"), pixels, **more)
    fields = {name: getattr(model.nms, name).value for name in NmsParameters.__dataclass_fields__}
    for index in range(batch):
        encodings, scores = heads["box_encodings"][index], heads["class_scores"][index]
        decoded = decode_boxes(encodings, model.anchors.value, model.box_coder.scales.value)
        boxes, best, classes = non_max_suppression(decoded, scores, NmsParameters(**fields), window)
        count = len(best)
        assert found["num_detections"][index] == count
        assert found["detection_boxes"].shape == (batch, total, 4)
        np.testing.assert_allclose(found["detection_boxes"][index, :count], boxes, atol=1e-6)
        np.testing.assert_array_equal(found["detection_scores"][index, :count], best)
        np.testing.assert_array_equal(found["detection_classes"][index, :count], classes + 1)
        assert not found["detection_boxes"][index, count:].any()
        assert not found["detection_scores"][index, count:].any()
        np.testing.assert_array_equal(found["detection_classes"][index, count:], 1)  # as TensorFlow: 0 + label offset
    return found


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("clip", "drop", "agnostic"), list(itertools.product(["before", "after", "never"], [True, False], [True, False]))
)
def test_detections_equal_postprocess(batch, clip, drop, agnostic):
    model = tiny_ssd(clip=clip, drop_zero_area=drop, class_agnostic=agnostic)
    found = assert_detections_equal_postprocess(model, batch)
    assert (found["num_detections"] > 5).all()


def test_detections_when_fewer_than_max_total_are_found():
    scores = infer(tiny_ssd(), tiny_pixels(3))[1]
    threshold = float(np.sort(scores.reshape(3, -1))[0, -8])
    found = assert_detections_equal_postprocess(tiny_ssd(score_threshold=threshold), 3)
    assert 0 < found["num_detections"][0] <= 7


def test_ties_go_to_the_lower_class_then_the_lower_anchor():
    model = tiny_ssd(iou_threshold=0.1)
    flat = [
        replace(layer, weights=0 * layer.weights, bias=0 * layer.bias)
        for layer in model.layers
        if "scores_" in layer.name
    ]
    found = assert_detections_equal_postprocess(
        replace(model, layers=(*model.layers[:-4], model.layers[-4], flat[0], model.layers[-2], flat[1]))
    )
    assert found["detection_classes"][0].tolist() == [1] * 10 + [2] * 10


def test_no_detections():
    assert assert_detections_equal_postprocess(tiny_ssd(score_threshold=0.99), 2)["num_detections"].tolist() == [0, 0]


def test_max_total_beyond_all_candidates():
    assert_detections_equal_postprocess(tiny_ssd(max_total=1000, max_per_class=200, iou_threshold=1.0))


def test_caps_a_class():
    assert_detections_equal_postprocess(tiny_ssd(max_per_class=3, iou_threshold=1.0))


@pytest.mark.parametrize("clip", ["before", "after"])
def test_boxes_outside_the_window_are_no_detections(clip):
    """The picture's part of a padded input is so small that most boxes miss it."""
    model = with_padding(tiny_ssd(clip=clip, clip_to_image=True, change_coordinate_frame=True))
    found = assert_detections_equal_postprocess(model, 2, (0.0, 0.0, 0.15, 0.1))
    assert (found["num_detections"] < 20).all()
    assert found["detection_boxes"].max() == pytest.approx(1)


@pytest.mark.parametrize(("pad", "names"), [(with_padding, ["image", "window"]), (lambda model: model, ["image"])])
def test_window_is_asked_for_by_padded_models_alone(pad, names):
    onnx = pytest.importorskip("onnx")
    graph = onnx.load_from_string(build_onnx(pad(tiny_ssd(clip_to_image=True)))).graph
    assert [port.name for port in graph.input] == names


def test_soft_nms_is_refused_but_the_heads_are_not():
    model = tiny_ssd(soft_nms_sigma=0.5)
    assert build_onnx(model, tail="heads")
    with pytest.raises(ModelError, match="no soft NMS: export the heads"):
        build_onnx(model)
