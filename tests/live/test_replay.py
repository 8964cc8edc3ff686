"""What was written, chosen from once more."""

import numpy as np

from ssdrt.detections import Detections
from ssdrt.live.replay import EVERYTHING, Replay
from ssdrt.sinks.jsonl import Record
from ssdrt.sources.base import Frame
from ssdrt.track.analytics import Analytics

ZONES = {"a": {"polygon": [[0, 0], [9, 0], [9, 9]], "counts": {"x": 1}}}


def joined(**options):
    box, extra = np.array([[1, 1, 3, 3]], np.float32), {"counts": {"x": 1}, "zones": ZONES, "events": [], "mine": 1}
    found = Detections(box, np.array([0.4], np.float32), np.array([1]), np.array(["x"]), 9, 9, None, extra)
    replay = Replay([Record("v", 0, 0.0, found)], Analytics())
    _, shown = replay.join(Frame(np.zeros((9, 9, 3), np.uint8), "v", 0, 0.0), options)
    return len(shown), shown.extra


def test_numbers_of_what_is_left_out_are_left_out_too():
    assert joined(score_threshold=0.8, classes=None) == (0, {"counts": {}, "mine": 1})
    assert joined(score_threshold=EVERYTHING, classes=["y"]) == (0, {"counts": {}, "mine": 1})
    assert joined(score_threshold=EVERYTHING, classes=None)[1]["zones"] == ZONES
