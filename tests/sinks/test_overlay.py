"""Zones and lines, judged by their pixels."""

from dataclasses import replace

import numpy as np
import pytest

from ssdrt.sinks.overlay import LIGHT, annotate_all

ZONE = {"polygon": [[40, 60], [160, 60], [160, 130], [40, 130]], "counts": {"person": 2}, "total": {"person": 3}}
LINE = {"line": [[20, 30], [180, 30]], "in": {"person": 1}, "out": {}}


def drawn(found, extra, size=(200, 150)):
    found = replace(found[:0], width=200, height=150, extra=extra)
    return annotate_all(np.full((size[1], size[0], 3), 128, np.uint8), found)


def light(image):
    return (image == LIGHT).all(axis=2)


def test_without_zones_and_lines_nothing_is_drawn(found):
    assert (drawn(found, {"counts": {"person": 1}}) == 128).all()


def test_a_zone_is_outlined_where_it_is(found):
    image = light(drawn(found, {"zones": {"door": ZONE}}))
    assert image[59:62, 150].any()
    assert image[100, 39:42].any()
    assert image[100, 159:162].any()
    assert not image[100, 45:155].any()
    assert not image[:58].any()


def test_a_smaller_version_of_the_picture_has_it_in_the_same_place(found):
    image = light(drawn(found, {"zones": {"door": ZONE}}, (100, 75)))
    assert image[50, 19:22].any()
    assert image[50, 79:82].any()
    assert not image[50, 25:75].any()


def test_the_arrow_of_a_line_is_on_the_side_of_in(found):
    below = light(drawn(found, {"lines": {"gate": LINE}}))
    assert below[33:, 90:110].any()
    above = light(drawn(found, {"lines": {"gate": {**LINE, "line": LINE["line"][::-1]}}}))
    assert above[:27, 90:110].any()
    assert not above[33:, 90:110].any()


@pytest.mark.parametrize("corner", [(0, 0), (199, 149), (-50, 20), (400, 300)])
@pytest.mark.parametrize("size", [(200, 150), (30, 12), (1, 1)])
def test_what_is_written_stays_in_the_picture(found, corner, size):
    zone = {**ZONE, "polygon": [list(corner), [100, 20], [100, 100]]}
    image = drawn(found, {"zones": {"a name that is longer than the picture is wide": zone}}, size)
    assert image.shape == (size[1], size[0], 3)
    assert (image != 128).any()
