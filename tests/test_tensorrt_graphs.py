"""The networks that TensorRT gets, of real graphs: built by NVIDIA's own builder, and run by ONNX Runtime."""

from dataclasses import replace

import numpy as np
import pytest

from gpu_stand_in import stand_in_engine
from int8_scales import measured_scales
from recorded import GRAPHS, golden_of, model_of
from ssdrt.engines.tensorrt.builder import BuildOptions, build_plan
from ssdrt.engines.tensorrt.library import open_library
from ssdrt.engines.tensorrt.plan_file import check_plan, unpack
from ssdrt.model import LabelMap
from ssdrt.pipeline import detect_pictures, graph_parameters
from ssdrt.preprocess import to_network

CARDS = ("SM75", "SM86", "SM89", "SM120")
ALLOWED = {"fp32": (1.0, 2e-3, 1.0), "fp16": (2.0, 0.01, 0.98), "int8": (8.0, 0.1, 0.93)}
"""Pixels, score, share of the detections."""

pytestmark = pytest.mark.skipif(not GRAPHS, reason="no graphs: ../shared/models is not there")


@pytest.mark.parametrize("batch", [(1, 4, 8), (1, 1, 1)])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", [one["name"] for one in GRAPHS])
def test_rtx_builds_every_graph_for_every_card(name, precision, batch):
    module = pytest.importorskip("tensorrt_rtx", reason="no tensorrt-rtx: pip install 'ssdrt[test-trt]'")
    library = open_library(module, "tensorrt_rtx")
    facts, plan = unpack(build_plan(library, model_of(name), precision, BuildOptions(batch=batch, gpus=CARDS)))
    check_plan(plan, "tensorrt_rtx", facts.version)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", [one["name"] for one in GRAPHS if one["weights"] == "real"])
def test_the_very_network_finds_what_tensorflow_recorded(name, precision):
    """fp16: the network typed as TensorRT 10, 11 and RTX get it. Neighbours that overlap by about the threshold of the
    NMS come and go with its rounding, and graphs with random weights amplify it."""
    pytest.importorskip("PIL.Image")
    found_in(name, precision, stand_in_engine(model_of(name), precision))


def test_the_network_in_int8_finds_most_of_it():
    """Scales by the largest magnitudes in two of the photos."""
    image = pytest.importorskip("PIL.Image")
    name = next(one["name"] for one in GRAPHS if one["name"].startswith("coco_ssd"))
    model = model_of(name)
    photos = [image.open(path).convert("RGB") for path in golden_of(name)[1][:2]]
    pixels = np.stack([to_network(np.asarray(one), model.preprocessing.resizer.value) for one in photos])
    scales = tuple(measured_scales(model, pixels).items())
    found_in(name, "int8", stand_in_engine(model, "int8", scales=scales))
    module = pytest.importorskip("tensorrt_rtx", reason="no tensorrt-rtx: pip install 'ssdrt[test-trt]'")
    options = BuildOptions(batch=(1, 4, 8), gpus=CARDS, scales=scales)
    build_plan(open_library(module, "tensorrt_rtx"), model, "int8", options)


def found_in(name, precision, engine):
    """Most of what TensorFlow recorded of three photos is found, as much as ALLOWED says."""
    from PIL import Image

    model, (golden, photos) = model_of(name), golden_of(name)
    parameters = replace(graph_parameters(model), score_threshold=0.03, max_total=1000)
    matched = total = 0
    for photo in photos[:3]:
        picture = np.asarray(Image.open(photo).convert("RGB"))
        (found,) = detect_pictures(model, engine, [picture], parameters, LabelMap({}))
        for fits in matches(golden, photo.stem, found, *ALLOWED[precision][:2]):
            matched, total = matched + fits, total + 1
    assert matched >= ALLOWED[precision][2] * total


def matches(golden, photo, found, pixels, tolerance):
    """Whether each recorded detection of at least 0.05 has one of ours, greedily, best first."""
    count = int(golden[f"{photo}/num_detections"])
    scale = np.array([found.width, found.height, found.width, found.height])
    boxes = golden[f"{photo}/detection_boxes"][:count][:, [1, 0, 3, 2]] * scale
    free = np.ones(len(found), bool)
    scores, classes = golden[f"{photo}/detection_scores"][:count], golden[f"{photo}/detection_classes"][:count]
    for box, score, class_id in zip(boxes, scores, classes, strict=True):
        if score < 0.05:
            continue
        corner, distance = np.abs(found.boxes_xyxy - box).max(1, initial=0), np.abs(found.scores - score)
        fit = np.flatnonzero(free & (found.class_ids == class_id) & (corner <= pixels) & (distance <= tolerance))
        if len(fit):
            free[fit[np.argmin(corner[fit])]] = False
        yield len(fit) > 0
