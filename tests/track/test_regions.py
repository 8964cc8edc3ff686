"""What stands in a zone and what crosses a line."""

import json

import numpy as np
import pytest

from ssdrt.track.regions import MOST_TRACKS, LineCount, Region, ZoneCount, inside, read_region


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("door=0,0,100,0,100.5,200", Region("door", ((0, 0), (100, 0), (100.5, 200)))),
        (" a b =0.1,.2, 0.3,0.4,1,1 ", Region("a b", ((0.1, 0.2), (0.3, 0.4), (1, 1)))),
    ],
)
def test_regions_are_read(text, region):
    assert read_region(text, 3) == region


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("0,0,1,1,2,2", "is not NAME="),
        ("=0,0,1,1,2,2", "is not NAME="),
        ("a=", "is not NAME="),
        ("a=0,0,1,1,2", "is not NAME="),
        ("a=0,0,1,1,2,nan", "is not NAME="),
        ("a=0,0,1,1,2,-2", "is not NAME="),
        ("a=0,0,1e9,0,5,5", "beyond 100000 pixels"),
        ("a=0,0,5,5,9,9", "has no area"),
        ("a=0,0,1,1", "has 2 points and needs at least 3 points"),
    ],
)
def test_what_is_no_zone_is_refused(text, problem):
    with pytest.raises(ValueError, match=problem):
        read_region(text, 3)


def test_a_line_has_two_ends():
    with pytest.raises(ValueError, match="has no length"):
        read_region("a=5,5,5,5", 2, 2)
    with pytest.raises(ValueError, match="has 3 points and needs 2 points"):
        read_region("a=0,0,1,1,2,2", 2, 2)


def test_parts_are_of_the_picture():
    assert Region("a", ((0, 0.5), (1, 1))).in_pixels(400, 300).tolist() == [[0, 150], [400, 300]]
    assert Region("a", ((0, 0.5), (2, 1))).in_pixels(400, 300).tolist() == [[0, 0.5], [2, 1]]


def test_inside_of_a_star():
    star = np.array([(50, 0), (79, 90), (2, 35), (98, 35), (21, 90)], float)
    points = np.array([(50, 10), (50, 80), (10, 10), (90, 38), (50, 50)], float)
    assert inside(points, star).tolist() == [True, False, False, True, False]  # even-odd: its middle is a hole


def test_zone_counts_who_stands_in_it(make_found):
    zone = ZoneCount(Region("floor", ((0, 0.5), (0.5, 0.5), (0.5, 1), (0, 1))))
    found = make_found(
        (10, 0, 50, 160), (10, 0, 50, 140), (300, 0, 340, 200), (90, 200, 110, 400), class_ids=[1, 1, 1, 3]
    )
    record, events = zone.update(found)
    assert record == {"polygon": [[0, 150], [200, 150], [200, 300], [0, 300]], "counts": {"person": 1, "car": 1}}
    assert events == []


def test_zone_totals_and_events_are_of_tracks(make_found):
    zone, out, within = (
        ZoneCount(Region("floor", ((0, 0), (0.5, 0), (0.5, 1), (0, 1)))),
        (300, 0, 340, 99),
        (9, 0, 49, 99),
    )
    told = []
    for boxes, tracks in [((out, out), (1, -1)), ((within, within), (1, -1)), ((within,), (1,)), ((), ()),
                          ((within, within), (1, 2)), ((out, within), (1, 2)), ((within, within), (1, 2))]:  # fmt: skip
        record, events = zone.update(make_found(*boxes, track_ids=tracks))
        told.append((record["counts"].get("person", 0), record["total"].get("person", 0),
                     [(event["kind"], event["track_id"]) for event in events]))  # fmt: skip
    assert told == [
        (0, 0, []), (2, 1, [("enter", 1)]), (1, 1, []), (0, 1, []),
        (2, 2, [("enter", 2)]), (1, 2, [("leave", 1)]), (2, 2, [("enter", 1)]),
    ]  # fmt: skip


def walk(line, make_found, ys, x=180, track=1):
    """The line's last record, and the kinds of all events, of a box of 40 x 60 whose foot goes through `ys`."""
    record, kinds = {}, []
    for y in ys:
        record, events = line.update(make_found((x, y - 60, x + 40, y), track_ids=[track]))
        kinds += [event["kind"] for event in events]
    return record, kinds


def test_line_counts_both_directions(make_found):
    line = LineCount(Region("gate", ((0.25, 0.5), (0.75, 0.5))))
    record, kinds = walk(line, make_found, [100, 130, 160, 200, 160, 140, 100])
    assert record == {"line": [[100, 150], [300, 150]], "in": {"person": 1}, "out": {"person": 1}}
    assert kinds == ["in", "out"]
    json.dumps(record)


def test_a_line_drawn_the_other_way_counts_the_other_way(make_found):
    assert walk(LineCount(Region("gate", ((0.75, 0.5), (0.25, 0.5)))), make_found, [100, 200])[1] == ["out"]


def test_who_goes_around_a_line_does_not_cross_it(make_found):
    assert walk(LineCount(Region("gate", ((0.6, 0.5), (0.9, 0.5)))), make_found, [100, 200])[1] == []


def test_trembling_on_a_line_is_no_crossing(make_found):
    assert walk(LineCount(Region("gate", ((0, 0.5), (1, 0.5)))), make_found, [100, 149, 151, 148, 152, 100])[1] == []


def test_without_a_track_nobody_crosses(make_found):
    assert walk(LineCount(Region("gate", ((0, 0.5), (1, 0.5)))), make_found, [100, 200], track=-1)[1] == []


def test_memory_is_bounded(make_found):
    zone, line = ZoneCount(Region("a", ((0, 0), (1, 0), (1, 1)))), LineCount(Region("b", ((0, 0.5), (1, 0.5))))
    for track in range(1, 3 * MOST_TRACKS, 10):
        crowd = make_found(*[(380, 0, 390, 9)] * 10, track_ids=range(track, track + 10))
        record, _ = zone.update(crowd)
        line.update(crowd)
    assert record["total"] == {"person": 3 * MOST_TRACKS}
    assert len(zone._is_in) == len(line._last) == MOST_TRACKS
