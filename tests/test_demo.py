"""The demo graph is a real SSD: what TensorFlow detects with it is found again, and is what the picture shows."""

import json
from pathlib import Path

import numpy as np
import pytest

from build import VARIANTS, demo_bytes, demo_file, demo_graph
from ssdrt.demo import SHAPES, DemoOptions, build_demo_graph, demo_picture
from ssdrt.demo.picture import HEIGHT, WIDTH
from ssdrt.detector import Detector
from ssdrt.recover import recover

TENSORFLOW = json.loads((Path(__file__).parent / "data" / "demo_detections.json").read_text())  # by data/record_demo.py


def iou(a, b):
    """Of two boxes xyxy."""
    width, height = (max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return width * height / (area - width * height)


def test_picture_is_rgb_and_the_same_every_time():
    picture = demo_picture()
    assert (picture.shape, picture.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    np.testing.assert_array_equal(picture, demo_picture())
    for shape in SHAPES:
        pixel = picture[int(shape.y), int(shape.x)].astype(int)
        assert pixel.argmax() == ("red", "green", "blue").index(shape.colour)


def test_graph_is_the_same_every_time():
    assert build_demo_graph() == build_demo_graph(DemoOptions())


def test_variants_differ():
    assert len({demo_bytes(options) for options in VARIANTS.values()}) == len(VARIANTS) == len(TENSORFLOW)


def test_the_shapes_are_found_and_nothing_else(tmp_path):
    with Detector.open(demo_file(tmp_path), engine="reference") as detector:
        found = detector.detect(demo_picture(), score_threshold=0.05)
    assert len(found) == len(SHAPES)
    assert found.scores.min() > 0.5
    for shape in SHAPES:
        overlaps = [iou(shape.box_xyxy, box) for box in found.boxes_xyxy]
        best = int(np.argmax(overlaps))
        assert overlaps[best] > 0.8
        assert ("red", "green", "blue")[found.class_ids[best] - 1] == shape.colour


@pytest.mark.parametrize("name", VARIANTS)
def test_detections_are_those_of_tensorflow(name, tmp_path):
    expected = np.array(TENSORFLOW[name])
    boxes = expected[:, [1, 0, 3, 2]] * [WIDTH, HEIGHT, WIDTH, HEIGHT]
    with Detector.open(demo_file(tmp_path, VARIANTS[name]), engine="reference") as detector:
        found = detector.detect(demo_picture(), score_threshold=0.0)
    count = len(expected)
    np.testing.assert_array_equal(found.class_ids[:count], expected[:, 5])
    np.testing.assert_allclose(found.scores[:count], expected[:, 4], atol=1e-5)
    np.testing.assert_allclose(found.boxes_xyxy[:count], boxes, atol=0.01)


@pytest.mark.parametrize("name", VARIANTS)
def test_options_are_recovered(name):
    options = VARIANTS[name]
    model = recover(demo_graph(options))
    assert model.input_size == options.input_size
    assert model.preprocessing.input.value == options.placeholder_shape
    assert model.num_classes.value == len(options.colours)
    assert model.label_offset.value == 1
    assert model.box_coder.scales.value == pytest.approx(options.postprocessor.box_scales)
    assert model.score_converter.function.value == options.postprocessor.score_converter
    assert model.score_converter.background.value == "sliced_after"


@pytest.mark.parametrize("name", VARIANTS)
def test_nms_is_recovered(name):
    options = VARIANTS[name].postprocessor.nms
    nms = recover(demo_graph(VARIANTS[name])).nms
    assert nms.score_threshold.value == pytest.approx(options.score_threshold)
    assert nms.iou_threshold.value == pytest.approx(options.iou_threshold)
    assert nms.max_total.value == options.max_total
    assert nms.max_per_class.value == (options.max_total if options.class_agnostic else options.max_per_class)
    assert nms.class_agnostic.value == options.class_agnostic
    assert nms.soft_nms_sigma.value == options.soft_nms_sigma
    assert nms.clip.value == options.clip
    assert nms.drop_zero_area.value


@pytest.mark.parametrize("name", VARIANTS)
def test_anchors_are_recovered(name):
    options = VARIANTS[name]
    levels = []
    for stride, cell in zip((8, 16), options.cells, strict=True):
        rows, columns = (-(-side // stride) for side in options.input_size)
        y, x = np.meshgrid((np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns, indexing="ij")
        centres = np.stack([y, x], 2)[:, :, None]
        half = cell.sizes(options.input_size) / 2
        levels.append(np.concatenate([centres - half, centres + half], 3).reshape(-1, 4))
    anchors = recover(demo_graph(options)).anchors.value
    np.testing.assert_allclose(anchors, np.concatenate(levels), atol=1e-6)
