"""How far apart two sets of detections are."""

import numpy as np

from ssdrt.compare import EXACT, difference
from ssdrt.detections import Detections


def found(*rows):
    """Detections of (x0, y0, x1, y1, score, class id)."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    ids = table[:, 5].astype(np.int64)
    return Detections(table[:, :4], table[:, 4], ids, ids.astype(np.str_), 100, 100)


def test_the_same_detections_do_not_differ():
    one = found((0, 0, 10, 10, 0.9, 1), (50, 50, 90, 90, 0.5, 2))
    assert difference(one, one) == (type(difference(one, one)))(0.0, 0.0, 0)


def test_largest_distances_of_matched_detections():
    expected = found((0, 0, 10, 10, 0.9, 1), (50, 50, 90, 90, 0.5, 2))
    other = found((50, 52, 90, 90, 0.5, 2), (0, 0, 10, 11, 0.75, 1))
    result = difference(expected, other)
    assert (result.pixels, result.missing) == (2.0, 0)
    np.testing.assert_allclose(result.score, 0.15, atol=1e-6)
    assert not result.within(EXACT)


def test_another_class_or_place_is_no_counterpart():
    expected = found((0, 0, 10, 10, 0.9, 1), (0, 0, 10, 10, 0.8, 2))
    assert difference(expected, found((0, 0, 10, 10, 0.9, 3), (40, 40, 50, 50, 0.8, 2))).missing == 2
    assert difference(expected, found()).missing == 2


def test_one_detection_is_the_counterpart_of_one_other_only():
    twice = found((0, 0, 10, 10, 0.9, 1), (0, 0, 10, 10, 0.8, 1))
    assert difference(twice, found((0, 0, 10, 10, 0.9, 1))).missing == 1
