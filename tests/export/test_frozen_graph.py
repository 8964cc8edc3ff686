"""A model that is written as a frozen graph and recovered from it is the same model."""

import dataclasses

import numpy as np
import pytest

from build import VARIANTS, demo_graph
from ssdrt.demo import DemoOptions, demo_picture
from ssdrt.engines.reference import ReferenceEngine
from ssdrt.errors import ModelError
from ssdrt.export import write_frozen_graph
from ssdrt.graph import graph_from_bytes
from ssdrt.model import Activation, Clip, Conv, DepthwiseConv, Fact, LabelMap, Resizer
from ssdrt.pipeline import detect_picture, graph_parameters
from ssdrt.recover import recover
from tiny_ssd import HEIGHT, WIDTH, tiny_pixels, tiny_ssd

TINY = {
    "plain": {},
    "softmax": {"function": "softmax", "logit_scale": 2.0, "score_threshold": 0.1},
    "softmax_sliced_before": {"function": "softmax", "background": "sliced_before"},
    "identity_no_background": {"function": "identity", "background": "none"},
    "sigmoid_sliced_before": {"background": "sliced_before"},
    "clip_before": {"clip": "before"},
    "clip_before_class_agnostic": {"clip": "before", "class_agnostic": True, "max_per_class": 20},
    "no_clip": {"clip": "never", "drop_zero_area": False},
    "zero_area_stays": {"drop_zero_area": False},
    "soft_class_agnostic": {"soft_nms_sigma": 0.4, "class_agnostic": True, "max_per_class": 20},
    "no_threshold": {"score_threshold": float("-inf")},
}


def round_trip(model, picture_size=None):
    return recover(graph_from_bytes(write_frozen_graph(model)), picture_size)


def values(part):
    """What a part of a model says, in plain data: no nodes, arrays with their dtype, layers by name."""
    if isinstance(part, Fact):
        return values(part.value)
    if isinstance(part, (np.ndarray, np.generic)):
        return str(part.dtype), part.tolist()
    if isinstance(part, tuple):
        return tuple(values(one) for one in part)
    if dataclasses.is_dataclass(part):
        return type(part).__name__, {
            field.name: values(getattr(part, field.name)) for field in dataclasses.fields(part)
        }
    return part


def facts(model, *but):
    """All but the layers and what is named."""
    fields = [field.name for field in dataclasses.fields(model)]
    return {name: values(getattr(model, name)) for name in fields if name not in ("digest", "layers", "labels", *but)}


def layers(model):
    return {layer.name: values(layer) for layer in model.layers}


def with_resizer(model, **fields):
    resizer = Fact(Resizer(**fields), "node")
    return dataclasses.replace(model, preprocessing=dataclasses.replace(model.preprocessing, resizer=resizer))


def with_layer(model, changed_name, **fields):
    """The model with other fields of one layer."""
    changed = [dataclasses.replace(one, **fields) if one.name == changed_name else one for one in model.layers]
    return dataclasses.replace(model, layers=tuple(changed))


def padded():
    """The demo's model with pictures in the upper left corner of a square."""
    square = recover(demo_graph(DemoOptions(input_size=(128, 128))))
    fields = {"height": 96, "width": 128, "pad": True, "pad_value": (124.0, 117.0, 104.0)}
    nms = dataclasses.replace(square.nms, clip_to_image=Fact(True, ""), change_coordinate_frame=Fact(True, ""))
    return dataclasses.replace(with_resizer(square, kind="keep_aspect_ratio", **fields), nms=nms)


def outputs(model):
    return ReferenceEngine(model).infer(tiny_pixels(2))


@pytest.mark.parametrize("name", VARIANTS)
def test_a_recovered_model_comes_back_equal(name):
    model = recover(demo_graph(VARIANTS[name]))
    again = round_trip(model)
    assert layers(again) == layers(model)
    assert facts(again) == facts(model)
    assert write_frozen_graph(again) == write_frozen_graph(model)


def test_nothing_is_written_that_no_output_needs():
    graph = graph_from_bytes(write_frozen_graph(tiny_ssd()))
    read = {text.removeprefix("^").partition(":")[0] for node in graph.nodes.values() for text in node.inputs}
    assert set(graph.nodes) - read == {"detection_boxes", "detection_scores", "detection_classes", "num_detections"}


@pytest.mark.parametrize("name", TINY)
def test_every_kind_of_layer_and_fact_comes_back(name):
    model = tiny_ssd(**TINY[name])
    again = round_trip(model)
    assert facts(again) == facts(model)
    for mine, theirs in zip(outputs(model), outputs(again), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert layers(round_trip(again)) == layers(again)


def test_layers_keep_their_names_and_values():
    model = with_layer(tiny_ssd(), "quantized", step=float(np.float32(6) / np.float32(255)))
    two_sided = {"clipped": values(Clip("clipped", ("clipped/Maximum",), -np.inf, 3.5))}
    two_sided["clipped/Maximum"] = values(Clip("clipped/Maximum", ("merged",), -3.0, np.inf))
    assert layers(round_trip(model)) == layers(model) | two_sided


@pytest.mark.parametrize("name", ["depthwise", "largest", "coarse"])
def test_padding_that_is_not_same_becomes_a_layer(name):
    model = with_layer(tiny_ssd(), name, pads=(2, 1, 0, 1) if name == "depthwise" else (1, 1, 0, 0))
    again = round_trip(model)
    assert "Pad" in layers(again)[f"{name}/Pad"][0]
    for mine, theirs in zip(outputs(model), outputs(again), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_swish_comes_back_as_sigmoid_and_product():
    model = with_layer(tiny_ssd(), "swish", function="swish")
    again = round_trip(model)
    assert layers(again)["swish/Sigmoid"] == values(Activation("swish/Sigmoid", ("depthwise",), "sigmoid"))
    np.testing.assert_allclose(outputs(again)[0], outputs(model)[0], atol=1e-6)


def test_names_that_tensorflow_does_not_allow_are_mended():
    model = with_layer(tiny_ssd(), "conv/relu6", name="_split:1")
    model = with_layer(model, "depthwise", inputs=("_split:1",))
    assert "layer_split_1" in layers(round_trip(model))


def test_shared_weights_are_written_once():
    model = tiny_ssd()
    weights = next(one for one in model.layers if one.name == "boxes_0").weights
    apart, shared = with_layer(model, "boxes_1", weights=weights.copy()), with_layer(model, "boxes_1", weights=weights)
    assert len(write_frozen_graph(apart)) - len(write_frozen_graph(shared)) > weights.nbytes


def halved(model):
    """The model with the weights and biases of its convolutions rounded to float16."""
    arrays = {}  # shared ones stay shared

    def rounded(array):
        return arrays.setdefault(id(array), array.astype(np.float16).astype(np.float32))

    return dataclasses.replace(
        model,
        layers=tuple(
            dataclasses.replace(one, weights=rounded(one.weights), bias=rounded(one.bias))
            if isinstance(one, (Conv, DepthwiseConv))
            else one
            for one in model.layers
        ),
    )


def test_weights_kept_in_float16_come_back_rounded():
    model = recover(demo_graph())
    data = write_frozen_graph(model, weights="float16")
    again = recover(graph_from_bytes(data))
    assert layers(again) == layers(halved(model))
    assert facts(again) == facts(model)
    assert write_frozen_graph(again, weights="float16") == data
    parameters = sum(one.weights.size + one.bias.size for one in model.layers if isinstance(one, (Conv, DepthwiseConv)))
    assert len(data) < len(write_frozen_graph(model)) - 2 * parameters


def test_a_weight_that_float16_does_not_hold_is_refused():
    layer = next(one for one in tiny_ssd().layers if one.name == "depthwise")
    with pytest.raises(ModelError, match="a weight of 70000, and float16 ends at 65504") as caught:
        write_frozen_graph(with_layer(tiny_ssd(), "depthwise", bias=np.full_like(layer.bias, 7e4)), weights="float16")
    assert caught.value.node == "depthwise/biases"


RESIZES = [
    *({"method": method} for method in ("bilinear", "nearest", "bicubic", "area")),
    *({"method": method, "align_corners": True} for method in ("bilinear", "nearest", "bicubic", "area")),
    *({"method": method, "half_pixel_centers": True} for method in ("bilinear", "nearest", "bicubic")),
]


@pytest.mark.parametrize("options", RESIZES, ids=str)
def test_resize_methods_come_back(options):
    model = with_resizer(tiny_ssd(), kind="fixed_shape", height=HEIGHT, width=WIDTH, **options)
    assert facts(round_trip(model)) == facts(model)


def test_a_padded_resizer_comes_back_with_its_window():
    model = padded()
    assert facts(round_trip(model)) == facts(model)


RESIZERS = {"keep_aspect_ratio": {"height": 96, "width": 160}, "none": {}}


@pytest.mark.parametrize("kind", RESIZERS)
def test_anchors_follow_a_network_input_that_follows_the_picture(kind):
    wide = with_resizer(recover(demo_graph()), kind=kind, **RESIZERS[kind])
    again = round_trip(wide, (96, 128))
    assert facts(again, "anchors") == facts(wide, "anchors")
    np.testing.assert_allclose(again.anchors.value, wide.anchors.value, atol=1e-6)
    upright, expected = round_trip(wide, (128, 96)), recover(demo_graph(DemoOptions(input_size=(128, 96))))
    assert upright.input_size == expected.input_size
    assert upright.heads == expected.heads
    np.testing.assert_allclose(upright.anchors.value, expected.anchors.value, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "message", "node"),
    [
        (lambda: with_layer(tiny_ssd(), "mean", pads=(1, 1, 0, 0)), "an average of windows with pads", "mean"),
        (lambda: with_layer(tiny_ssd(), "quantized", step=6.0 / 200), "a range of 200 steps", "quantized"),
        (lambda: tiny_ssd(clip="before", soft_nms_sigma=0.5), "clipped before a soft NMS", None),
        (lambda: with_resizer(tiny_ssd(), kind="none"), "Resize to 7x9 in a network whose size depends", "wide"),
    ],
)
def test_what_tensorflow_has_no_counterpart_of_is_refused(model, message, node):
    with pytest.raises(ModelError, match=message) as caught:
        write_frozen_graph(model())
    assert caught.value.node == node


def test_anchors_that_are_no_grid_are_refused_where_they_would_have_to_follow_the_picture():
    model = with_resizer(recover(demo_graph()), kind="keep_aspect_ratio", height=96, width=160)
    anchors = model.anchors.value.copy()
    anchors[7] += 0.01
    with pytest.raises(ModelError, match="no grid of equal cells"):
        write_frozen_graph(dataclasses.replace(model, anchors=Fact(anchors, "")))


FOR_TENSORFLOW = {
    **{name: lambda fields=fields: tiny_ssd(**fields) for name, fields in TINY.items()},
    **{
        "-".join(map(str, options.values())): lambda options=options: with_resizer(
            tiny_ssd(), kind="fixed_shape", height=HEIGHT, width=WIDTH, **options
        )
        for options in RESIZES
    },
    "explicit_pads": lambda: with_layer(tiny_ssd(), "largest", pads=(1, 1, 0, 0)),
    "swish": lambda: with_layer(tiny_ssd(), "swish", function="swish"),
    "padded": padded,
    "keep_aspect_ratio": lambda: with_resizer(recover(demo_graph()), kind="keep_aspect_ratio", height=96, width=160),
    "no_resizer": lambda: with_resizer(recover(demo_graph()), kind="none"),
}


@pytest.mark.parametrize("name", [*FOR_TENSORFLOW, "float16"])
def test_tensorflow_detects_what_we_detect(name):
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed; it is no dependency of ssdrt")
    model, weights = (recover(demo_graph()), name) if name == "float16" else (FOR_TENSORFLOW[name](), "float32")
    data, picture = write_frozen_graph(model, weights), demo_picture()[:90, :140]
    names = [f"{name}:0" for name in ("detection_boxes", "detection_scores", "detection_classes", "num_detections")]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.import_graph_def(tf.compat.v1.GraphDef.FromString(data), name="")
        boxes, scores, classes, (count,) = session.run(names, {"image_tensor:0": picture[None]})
    model = recover(graph_from_bytes(data), picture.shape[:2])
    found = detect_picture(model, ReferenceEngine(model), picture, graph_parameters(model), LabelMap({}))
    assert len(found) == count > 0
    np.testing.assert_array_equal(found.class_ids, classes[0, : len(found)])
    np.testing.assert_allclose(found.scores, scores[0, : len(found)], atol=1e-5)
    np.testing.assert_allclose(
        found.boxes_xyxy[:, [1, 0, 3, 2]] / (90, 140, 90, 140), boxes[0, : len(found)], atol=1e-5
    )
