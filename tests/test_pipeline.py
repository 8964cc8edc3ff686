"""Pictures of every kind become RGB, and one picture goes through an engine."""

from dataclasses import replace

import numpy as np
import pytest

from ssdrt.engines import null
from ssdrt.errors import SourceError
from ssdrt.pipeline import as_rgb, detect_picture, detect_pictures, graph_parameters
from tiny_ssd import WIDTH, tiny_anchors, tiny_ssd, with_padding


def detect(model, size=(48, 96), **changes):
    parameters = replace(graph_parameters(model), **changes)
    picture = np.zeros((*size, 3), np.uint8)
    return detect_picture(model, null.load(model, b"", "fp32", 1), picture, parameters, model.labels.value)


def test_rgb_is_taken_as_it_is():
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert as_rgb(image).tolist() == image.tolist()
    assert np.shares_memory(as_rgb(image), image)


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 1)])
def test_grey_is_three_equal_channels(shape):
    image = np.arange(8, dtype=np.uint8).reshape(shape)
    found = as_rgb(image)
    assert found.shape == (2, 4, 3)
    for channel in range(3):
        np.testing.assert_array_equal(found[:, :, channel], image.reshape(2, 4))


def test_alpha_is_ignored():
    image = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    np.testing.assert_array_equal(as_rgb(image), image[:, :, :3])


def test_sixteen_bits_keep_their_upper_eight():
    image = np.array([[0x0000, 0x00FF, 0x0100, 0xFFFF]], np.uint16)
    assert as_rgb(image)[0, :, 0].tolist() == [0, 0, 1, 255]


def test_view_of_another_order_is_taken():
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    np.testing.assert_array_equal(as_rgb(image[:, :, ::-1]), image[:, :, ::-1])
    np.testing.assert_array_equal(as_rgb(image[::-1]), image[::-1])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((2, 4, 3), np.float32), "not float32"),
        (np.zeros((2, 4, 3), np.int64), "not int64"),
        (np.zeros((2, 4, 3), bool), "not bool"),
        ([[1, 2, 3]], "not list"),
        (None, "not NoneType"),
        (np.zeros((0, 4, 3), np.uint8), r"not \(0, 4, 3\)"),
        (np.zeros((2, 4, 2), np.uint8), r"not \(2, 4, 2\)"),
        (np.zeros((2, 4, 5), np.uint8), r"not \(2, 4, 5\)"),
        (np.zeros((1, 2, 4, 3), np.uint8), r"not \(1, 2, 4, 3\)"),
        (np.zeros(7, np.uint8), r"not \(7,\)"),
        (np.zeros((), np.uint8), r"not \(\)"),
    ],
)
def test_what_is_no_picture_is_refused(image, message):
    with pytest.raises(SourceError, match=message):
        as_rgb(image)


def test_parameters_are_those_of_the_graph():
    parameters = graph_parameters(tiny_ssd(iou_threshold=0.7, clip="before", max_total=3, soft_nms_sigma=0.5))
    assert (parameters.score_threshold, parameters.iou_threshold) == (0.3, 0.7)
    assert (parameters.max_per_class, parameters.max_total, parameters.clip) == (10, 3, "before")
    assert (parameters.soft_nms_sigma, parameters.class_agnostic) == (0.5, False)
    assert (parameters.drop_zero_area, parameters.change_coordinate_frame) == (True, False)


def test_boxes_are_in_pixels_of_the_picture():
    """The null engine finds anchor 0 with 0.9, anchor 1 with 0.45 and so on."""
    found = detect(tiny_ssd(), iou_threshold=1.0)
    ymin, xmin, ymax, xmax = np.clip(tiny_anchors()[:2], 0, 1).T
    np.testing.assert_allclose(found.boxes_xyxy, np.stack([xmin * 96, ymin * 48, xmax * 96, ymax * 48], 1), rtol=1e-6)
    np.testing.assert_allclose(found.scores, [0.9, 0.45])
    assert found.class_ids.tolist() == [1, 2]
    assert found.labels.tolist() == ["one", "two"]
    assert (found.width, found.height) == (96, 48)
    assert (found.boxes_xyxy.dtype, found.scores.dtype, found.class_ids.dtype) == (np.float32, np.float32, np.int64)


def test_parameters_of_the_call_count():
    assert len(detect(tiny_ssd(), iou_threshold=1.0, score_threshold=0.2)) == 4
    assert len(detect(tiny_ssd(), iou_threshold=1.0, score_threshold=0.2, max_total=3)) == 3
    assert len(detect(tiny_ssd(), score_threshold=1.0)) == 0


def test_no_detections_are_empty_arrays():
    found = detect(tiny_ssd(), score_threshold=1.0)
    assert (found.boxes_xyxy.shape, found.scores.shape, found.labels.shape) == ((0, 4), (0,), (0,))


def test_class_ids_without_a_name_have_a_number():
    model = replace(
        tiny_ssd(), labels=replace(tiny_ssd().labels, value=replace(tiny_ssd().labels.value, names={1: "one"}))
    )
    assert detect(model, iou_threshold=1.0).labels.tolist() == ["one", "class 2"]


@pytest.mark.parametrize("to_image", [True, False])
def test_padded_pictures_clip_to_the_pictures_part_if_the_graph_does(to_image):
    model = with_padding(tiny_ssd(clip_to_image=to_image))
    found = detect(model, size=(16, 64), iou_threshold=1.0, score_threshold=0.001)
    bottom = found.boxes_xyxy[:, 3].max()
    covered = 16 * 8 / WIDTH  # 64 x 16 pixels become 32 x 8 of 32 x 32
    assert bottom == covered if to_image else bottom > covered


class Counting(null.NullEngine):
    """An engine that detects: as many boxes as its picture has rows."""

    def detect(self, images_rgb, parameters):  # noqa: ARG002
        return [
            (np.full((len(image), 4), 0.5, np.float32), np.ones(len(image), np.float32), np.zeros(len(image), np.int64))
            for image in images_rgb
        ]


def test_an_engine_that_detects_gets_the_pictures_themselves():
    model, pictures = tiny_ssd(), [np.zeros((2, 8, 3), np.uint8), np.zeros((3, 4, 3), np.uint8)]
    found = detect_pictures(model, Counting(180, 3), pictures, graph_parameters(model), model.labels.value)
    assert [one.boxes_xyxy.tolist() for one in found] == [[[4, 1, 4, 1]] * 2, [[2, 1.5, 2, 1.5]] * 3]
    assert [(one.width, one.height) for one in found] == [(8, 2), (4, 3)]
