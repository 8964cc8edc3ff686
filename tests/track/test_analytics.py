"""`Analytics` between a detector and its viewers."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ssdrt.adapters import to_json
from ssdrt.detections import Detections
from ssdrt.track.analytics import Analytics
from ssdrt.track.bytetrack import WEAKEST
from ssdrt.track.regions import Region
from ssdrt.track.selection import wanted

OPTIONS = {"score_threshold": 0.5, "classes": None, "max_total": None, "iou_threshold": 0.4}
BOX, OTHER = (100, 100, 160, 200), (300, 100, 360, 200)


def test_nothing_to_do_changes_nothing(make_frame, make_found):
    analytics, frame, found = Analytics(), make_frame(), make_found(BOX)
    assert not analytics
    assert analytics.widen(OPTIONS) == OPTIONS
    assert analytics(frame, found, OPTIONS) == (frame, found)


def test_weak_detections_are_asked_for_where_they_help():
    zone = Region("a", ((0, 0), (1, 0), (1, 1)))
    assert Analytics(zones=[zone]).widen(OPTIONS) == OPTIONS
    assert Analytics(track=True).widen(OPTIONS) == {**OPTIONS, "score_threshold": WEAKEST}
    some = {**OPTIONS, "score_threshold": {"person": 0.05, 3: 0.4}, "classes": ["car"], "max_total": 3}
    assert Analytics(blur=["person"]).widen(some) == {
        "score_threshold": 0.05, "classes": ["car", "person"], "max_total": None, "iou_threshold": 0.4,
    }  # fmt: skip


def test_what_is_wanted_comes_out(make_frame, make_found):
    found = make_found(BOX, OTHER, BOX, OTHER, scores=[0.9, 0.8, 0.7, 0.2], class_ids=[1, 3, 1, 1])
    analytics = Analytics(blur=["person"])
    for options, scores in [
        (OPTIONS, [0.9, 0.8, 0.7]),
        ({**OPTIONS, "classes": ["car"]}, [0.8]),
        ({**OPTIONS, "classes": ("1",)}, [0.9, 0.7]),
        ({**OPTIONS, "max_total": 2}, [0.9, 0.8]),
        ({**OPTIONS, "score_threshold": {1: 0.75, 3: 0.1}}, [0.9, 0.8]),
        ({**OPTIONS, "score_threshold": {1: 0.1, 3: 0.1, "person": 0.85}}, [0.9, 0.8]),
    ]:
        assert analytics(make_frame(), found, options)[1].scores.tolist() == pytest.approx(scores)


def test_tracks_and_lines_number_objects(make_frame, make_found):
    for analytics in (Analytics(track=True), Analytics(lines=[Region("a", ((0, 0.5), (1, 0.5)))])):
        for index in range(3):
            found = make_found(BOX, OTHER, OTHER, scores=[0.9, 0.8, 0.2], class_ids=[1, 1, 3])
            _, shown = analytics(make_frame(index, index / 30), found, OPTIONS)
            assert shown.track_ids.tolist() == [1, 2]


def test_a_raised_threshold_hides_a_track_within_two_seconds(make_frame, make_found):
    analytics, counts = Analytics(track=True), []
    for index in range(90):
        options = OPTIONS if index < 10 else {**OPTIONS, "score_threshold": 0.95}
        counts.append(len(analytics(make_frame(index, index / 30), make_found(BOX), options)[1]))
    assert counts[:69] + counts[71:] == [1] * 69 + [0] * 19


def test_sources_have_their_own_tracks_and_photos_none(make_frame, make_found):
    analytics = Analytics(track=True)
    for index in range(3):
        for source in ("a.mp4", "b.mp4"):
            _, shown = analytics(make_frame(index, index / 30, source), make_found(BOX), OPTIONS)
            assert shown.track_ids.tolist() == [1]
    _, photo = analytics(replace(make_frame(), time=None), make_found(BOX), OPTIONS)
    assert photo.track_ids is None


def test_extra_is_json_and_travels_with_the_record(make_frame, make_found):
    zone, line = Region("floor", ((0, 0), (1, 0), (1, 1), (0, 1))), Region("gate", ((0, 0.5), (1, 0.5)))
    analytics = Analytics(zones=[zone], lines=[line])
    events = []
    for index, y in enumerate(range(20, 121, 10)):
        _, shown = analytics(make_frame(index, index / 5), make_found((100, y, 200, y + 100)), OPTIONS)
        events += shown.extra["events"]
    record = json.loads(json.dumps(to_json(shown)))
    assert record["detections"][0]["track_id"] == 1
    assert record["counts"] == {"person": 1}
    assert record["zones"]["floor"]["total"] == {"person": 1}
    assert record["lines"]["gate"] == {"line": [[0, 150], [400, 150]], "in": {"person": 1}, "out": {}}
    assert record["events"] == []
    assert events == [
        {"zone": "floor", "kind": "enter", "track_id": 1, "label": "person"},
        {"line": "gate", "kind": "in", "track_id": 1, "label": "person"},
    ]


def test_what_is_blurred_is_covered_even_if_weak_and_not_wanted(make_frame, make_found):
    frame, found = make_frame(), make_found(BOX, OTHER, scores=[0.2, 0.9], class_ids=[1, 3])
    covered, shown = Analytics(blur=["person"])(frame, found, {**OPTIONS, "classes": ["car"]})
    assert shown.labels.tolist() == ["car"]
    differs = (covered.image != frame.image).any(axis=2)
    assert differs[100:200, 100:160].mean() > 0.95
    assert not differs[:, 200:].any()


def test_wanted_is_what_the_detector_gives():
    found = Detections(
        np.zeros((3, 4), np.float32), np.array([0.3, 0.3, 0.31], np.float32), np.array([1, 7, 1]),
        np.array(["person", "class 7", "person"]), 9, 9,
    )  # fmt: skip
    assert wanted(found, 0.3, None).tolist() == [False, False, True]
    assert wanted(found, 0.2, ["7"]).tolist() == [False, True, False]
    assert wanted(found, {"class 7": 0.1}, None).tolist() == [False, True, False]
