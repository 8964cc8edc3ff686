"""Drawing, judged by its pixels."""

import numpy as np
import pytest

from ssdrt.detections import Detections
from ssdrt.sinks.draw import DARK, annotate, colour_of, draw_on
from ssdrt.sinks.fonts import font_for

GROUND = 128


def one(box, label="person", class_id=1, score=0.9, size=(200, 150)):
    return Detections(
        np.array([box], np.float32), np.array([score], np.float32), np.array([class_id]), np.array([label]), *size
    )


def drawn(found):
    return annotate(np.full((found.height, found.width, 3), GROUND, np.uint8), found)


def shares(image, colour):
    """Where the pixels of exactly this colour are."""
    return (image == colour).all(axis=2)


def test_original_is_left_alone_and_nothing_drawn_without_detections():
    image = np.full((20, 30, 3), GROUND, np.uint8)
    annotate(image, one((2, 2, 20, 15), size=(30, 20)))
    assert (image == GROUND).all()
    np.testing.assert_array_equal(drawn(one((2, 2, 20, 15))[:0]), np.full((150, 200, 3), GROUND))


def test_box_stands_where_it_was_found():
    image = drawn(one((50, 60, 150, 120), label=""))
    rows, columns = np.nonzero((image[62:] != GROUND).any(axis=2))  # below the label
    assert (rows.max() + 62, columns.min(), columns.max()) == (119, 50, 149)
    assert shares(image, colour_of(1))[90, 50:53].any()
    assert (image[70:110, 60:140] == GROUND).all()


@pytest.mark.parametrize("size", [(64, 48), (320, 240), (1920, 1080)])
def test_line_and_letters_grow_with_the_picture(size):
    found = one((0.25 * size[0], 0.4 * size[1], 0.75 * size[0], 0.9 * size[1]), size=size)
    coloured = shares(drawn(found), colour_of(1))
    line = coloured[int(0.7 * size[1]), : size[0] // 2].sum()
    label_rows = coloured[: int(0.4 * size[1])].any(axis=1).sum()
    side = (size[0] * size[1]) ** 0.5
    assert line == max(1, round(side / 250))
    assert label_rows == pytest.approx(max(14, side / 40 * 1.4), rel=0.2)


@pytest.mark.parametrize(
    "box", [(0, 0, 5, 5), (195, 145, 200, 150), (0, 0, 200, 150), (180, 0, 200, 150), (-50, 140, 300, 400)]
)
@pytest.mark.parametrize(
    "label", ["cat", "a very long name of a class, longer than the picture is wide", "", "two\nlines\0"]
)
def test_labels_are_whole_and_inside_the_picture(box, label):
    image = drawn(one(box, label))
    rows, columns = np.nonzero(shares(image, DARK) | shares(image, colour_of(1)))
    assert rows.size
    assert columns.max() - columns.min() >= 10
    framed = annotate(np.full((350, 400, 3), GROUND, np.uint8)[:150, :200].copy(), one(box, label))
    np.testing.assert_array_equal(image, framed)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (8, 200), (200, 8), (5000, 12)])
def test_smallest_and_strangest_pictures(size):
    assert drawn(one((0, 0, size[0], size[1]), size=size)).shape == (size[1], size[0], 3)


@pytest.mark.parametrize("box", [(300, 10, 400, 20), (10, 10, 10, 10), (150, 100, 50, 40), (-9, -9, -1, -1)])
def test_boxes_outside_or_empty_do_not_fail(box):
    assert drawn(one(box)).shape == (150, 200, 3)


def test_label_has_its_class_colour_and_dark_letters():
    label = drawn(one((50, 60, 150, 120)))[44:60, 50:100]
    assert shares(label, colour_of(1)).mean() > 0.4
    assert 0.02 < shares(label, DARK).mean() < 0.5


def test_colours_are_stable_light_and_differ_between_neighbours():
    colours = np.array([colour_of(class_id) for class_id in range(1, 91)], float)
    assert (colours @ (0.299, 0.587, 0.114) > 120).all()
    assert (np.abs(np.diff(colours, axis=0)).sum(axis=1) > 60).all()
    assert colour_of(1) == tuple(colours[0].astype(int))


def test_best_detection_is_on_top():
    boxes, names = np.array([[20, 40, 120, 140]] * 2, np.float32), np.array(["", ""])
    pair = Detections(boxes, np.array([0.9, 0.5], np.float32), np.array([1, 2]), names, 200, 150)
    image = drawn(pair)
    assert shares(image, colour_of(1))[100].any()
    assert not shares(image, colour_of(2))[100].any()


def test_labels_of_close_boxes_do_not_cover_each_other():
    boxes = np.array([[50, 60, 100, 120], [52, 62, 102, 122]], np.float32)
    image = drawn(
        Detections(boxes, np.array([0.9, 0.8], np.float32), np.array([1, 2]), np.array(["cat", "cat"]), 200, 150)
    )
    alone = [drawn(one(boxes[0], "cat", 1)), drawn(one(boxes[0], "cat", 2, 0.8))]
    for class_id, picture in zip((1, 2), alone, strict=True):
        whole = shares(picture, colour_of(class_id))[:60].sum()
        assert shares(image, colour_of(class_id)).sum() >= whole


def test_sides_of_a_box_are_alike():
    image = drawn(one((40, 50, 140, 150), label="", score=0, size=(180, 180)))
    square = image[50:150, 40:140]
    np.testing.assert_array_equal(square[-20:], square[-20:, ::-1])
    np.testing.assert_array_equal(square[30:, :10], square[30:, -10:][:, ::-1])
    np.testing.assert_array_equal(square[-10:, 30:70], square[30:70, -10:].transpose(1, 0, 2))
    assert shares(image, DARK)[149, 40:140].all()
    assert shares(image, colour_of(1))[148, 41:139].all()


@pytest.mark.parametrize("box", [(50, 100, 51, 140), (50, 100, 54, 140), (50, 100, 150, 103), (50, 100, 53, 103)])
def test_thin_boxes_do_not_grow(box):
    image = drawn(one(box, label=""))[100:]  # below the label
    rows, columns = np.nonzero((image != GROUND).any(axis=2))
    assert (columns.min(), rows.min() + 100, columns.max() + 1, rows.max() + 101) == box


def test_in_place_and_in_a_smaller_picture():
    found = one((50, 60, 150, 120), size=(200, 150))
    canvas = np.full((150, 200, 3), GROUND, np.uint8)
    draw_on(canvas, found)
    np.testing.assert_array_equal(canvas, drawn(found))
    large = one((100, 120, 300, 240), size=(400, 300))
    np.testing.assert_array_equal(annotate(np.full((150, 200, 3), GROUND, np.uint8), large), canvas)


def test_font_that_has_the_characters_is_found():
    assert font_for("person", 12).getname()[0] == "Aileron"
    names = {font_for(text, 12).getname()[0] for text in ("Приве́т", "ελληνικά")}
    if names == {"Aileron"}:
        pytest.skip("no font with Cyrillic and Greek letters on this system")
    assert "Aileron" not in names
