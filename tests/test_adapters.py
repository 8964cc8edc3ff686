"""`Detections` in other people's shapes."""

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from ssdrt.adapters import to_coco, to_json, to_supervision
from ssdrt.detections import Detections
from ssdrt.errors import MissingExtra

FOUND = Detections(
    np.array([[0.1, 2, 30.7, 40], [1e-7, 0, 1919.9999, 1]], np.float32),
    np.array([0.3, 1e-8], np.float32),
    np.array([1, 90]),
    np.array(["person", "toothbrush"]),
    1920,
    1080,
)


def test_json_record_is_the_schema():
    record = to_json(FOUND, source="a.jpg", index=2, time=0.5)
    assert list(record) == ["source", "index", "time", "width", "height", "detections"]
    assert record["detections"][0] == {"box": [0.1, 2.0, 30.7, 40.0], "score": 0.3, "class_id": 1, "label": "person"}
    assert json.loads(json.dumps(record)) == record


def test_json_numbers_are_short_and_exact():
    rng = np.random.default_rng(0)
    boxes = (rng.random((1000, 4)) * 10 ** rng.uniform(-9, 5, (1000, 1))).astype(np.float32)
    many = Detections(boxes, boxes[:, 0], np.ones(1000, np.int64), np.full(1000, "x"), 1, 1)
    detections = json.loads(json.dumps(to_json(many)))["detections"]
    np.testing.assert_array_equal(np.array([d["box"] for d in detections], np.float32), boxes)
    assert max(len(repr(d["score"])) for d in detections) <= 15


def test_json_of_nothing():
    assert to_json(FOUND[:0])["detections"] == []


def test_coco_rows():
    assert to_coco(FOUND[:1], 139) == [
        {"image_id": 139, "category_id": 1, "bbox": [0.1, 2.0, 30.6, 38.0], "score": 0.3}
    ]
    assert to_coco(FOUND[:0], 139) == []


def test_supervision_gets_the_same_arrays(monkeypatch):
    try:
        import supervision
    except ImportError:
        supervision = SimpleNamespace(Detections=SimpleNamespace)
        monkeypatch.setitem(sys.modules, "supervision", supervision)
    detections = to_supervision(FOUND)
    np.testing.assert_array_equal(detections.xyxy, FOUND.boxes_xyxy)
    np.testing.assert_array_equal(detections.confidence, FOUND.scores)
    np.testing.assert_array_equal(detections.class_id, FOUND.class_ids)
    np.testing.assert_array_equal(detections.data["class_name"], FOUND.labels)


def test_without_supervision_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingExtra, match=r"pip install 'ssdrt\[supervision\]'"):
        to_supervision(FOUND)


def test_tracks_and_extra_are_further_fields():
    tracked = replace(FOUND, track_ids=np.array([7, -1]), extra={"counts": {"person": 1}})
    record = to_json(tracked[::-1])
    assert [row["track_id"] for row in record["detections"]] == [None, 7]
    assert record["counts"] == {"person": 1}
