"""What is covered cannot be told, what is not stays as it was."""

import numpy as np
import pytest

from ssdrt.track.blur import BLOCKS, HOLD, Blur, pixelate


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)


def changed(before, after):
    """The box around what differs, (x0, y0, x1, y1)."""
    rows, columns = np.nonzero((before != after).any(axis=2))
    return (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if rows.size else None


def test_box_and_margin_are_covered_and_the_original_is_not(noise):
    before = noise.copy()
    after = pixelate(noise, np.array([[100, 100, 200, 150.0]]))
    np.testing.assert_array_equal(noise, before)
    assert changed(noise, after) == (90, 95, 210, 155)


@pytest.mark.parametrize("box", [(10, 10, 390, 290), (100, 50, 150, 250), (0, 0, 12, 9), (350, 250, 900, 800)])
def test_little_is_left_of_what_is_covered(noise, box):
    x0, y0, x1, y1 = (int(value) for value in changed(noise, pixelate(noise, np.array([box], float))))
    inside = pixelate(noise, np.array([box], float))[y0:y1, x0:x1]
    colours = np.unique(inside.reshape(-1, 3), axis=0)
    longer, shorter = max(inside.shape[:2]), min(inside.shape[:2])
    assert len(colours) <= (BLOCKS + 1) * (BLOCKS * longer / shorter + 1)


def test_overlapping_boxes_are_covered_by_what_they_hold_not_by_each_other(noise):
    boxes = np.array([[50, 50, 150, 150], [100, 100, 250, 250.0]])
    np.testing.assert_array_equal(pixelate(noise, boxes)[95:255, 95:255], pixelate(noise, boxes[1:])[95:255, 95:255])


@pytest.mark.parametrize("box", [(500, 10, 600, 20), (-50, -50, -10, -10), (30, 30, 30, 30), (40, 40, 10, 10)])
def test_boxes_outside_or_empty_cover_nothing(noise, box):
    assert pixelate(noise, np.array([box], float)) is noise


def test_a_place_stays_covered_when_its_object_is_missed(noise):
    blur, box, none = Blur(), np.array([[100, 100, 200, 200]], np.float32), np.zeros((0, 4), np.float32)
    blur.cover(noise, box, 1.0)
    assert changed(noise, blur.cover(noise, none, 1.0 + HOLD)) == (90, 90, 210, 210)
    assert blur.cover(noise, none, 1.1 + HOLD) is noise


def test_a_place_is_free_when_its_object_moved_on(noise):
    blur = Blur()
    for x in range(100, 200, 20):
        covered = blur.cover(noise, np.array([[x, 100, x + 100, 200]], np.float32), x / 100)
    assert changed(noise, covered) == (170, 90, 290, 210)


def test_photos_do_not_cover_each_other(noise):
    blur = Blur()
    blur.cover(noise, np.array([[100, 100, 200, 200]], np.float32), None)
    assert blur.cover(noise, np.zeros((0, 4), np.float32), None) is noise
