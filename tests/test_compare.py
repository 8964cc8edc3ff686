"""Differences of detections, worked out by hand."""

import numpy as np
import pytest

from ssdrt.compare import EXACT, Difference, Tolerance, difference
from ssdrt.detections import Detections


def found(*rows):
    """Detections of rows x0, y0, x1, y1, score, class id."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    ids = table[:, 5].astype(np.int64)
    return Detections(table[:, :4], table[:, 4], ids, ids.astype(np.str_), 100, 100)


A, B = (10, 10, 30, 30, 0.9, 1), (50, 50, 80, 90, 0.8, 2)


def test_equal():
    assert difference(found(A, B), found(A, B)) == Difference(0.0, 0.0, 0)
    assert difference(found(), found()) == Difference(0.0, 0.0, 0)


def test_largest_distance_of_a_corner_and_of_a_score():
    moved = found((10.5, 10, 30, 29.75, 0.875, 1), (50, 50, 80, 88, 0.8, 2))
    result = difference(found(A, B), moved)
    assert (result.pixels, result.missing) == (2.0, 0)
    assert result.score == pytest.approx(0.025, abs=1e-6)


def test_order_does_not_matter():
    assert difference(found(A, B), found(B, A)) == Difference(0.0, 0.0, 0)


def test_more_detections_than_expected_are_no_difference():
    assert difference(found(A), found(A, B)) == Difference(0.0, 0.0, 0)


@pytest.mark.parametrize(
    "other", [(), ((10, 10, 30, 30, 0.9, 2),), ((31, 10, 51, 30, 0.9, 1),), ((10, 10, 30, 19.9, 0.9, 1),)]
)
def test_missing_counterpart(other):
    assert difference(found(A), found(*other)).missing == 1


def test_overlap_of_just_more_than_a_half_counts():
    assert difference(found(A), found((10, 10, 30, 20.5, 0.9, 1))) == Difference(9.5, 0.0, 0)


def test_each_counterpart_is_taken_once():
    twice = found(A, (11, 10, 31, 30, 0.7, 1))
    assert difference(twice, found(A)).missing == 1
    assert difference(twice, twice) == Difference(0.0, 0.0, 0)


def test_nearest_counterpart_is_taken():
    result = difference(found(A), found((13, 10, 33, 30, 0.9, 1), (11, 10, 31, 30, 0.9, 1)))
    assert result.pixels == 1.0


def test_boxes_without_area_have_no_counterpart():
    point = found((10, 10, 10, 10, 0.9, 1))
    assert difference(point, point).missing == 1


@pytest.mark.parametrize(
    ("result", "good"),
    [
        (Difference(1.0, 2e-3, 0), True),
        (Difference(1.01, 0.0, 0), False),
        (Difference(0.0, 2.1e-3, 0), False),
        (Difference(0.0, 0.0, 1), False),
    ],
)
def test_tolerance(result, good):
    assert result.within(EXACT) is good
    assert Difference(3.0, 0.5, 0).within(Tolerance(3.0, 0.5))
