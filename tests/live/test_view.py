"""Changed settings on a picture that stands."""

import numpy as np

from ssdrt.detections import Detections
from ssdrt.live.board import Settings, Snapshot, Status
from ssdrt.live.view import shown


def test_a_score_at_the_threshold_is_left_out_as_detection_leaves_it_out():
    boxes, scores = np.zeros((3, 4), np.float32), np.array([0.25, 0.5, 0.75], np.float32)
    found = Detections(boxes, scores, np.array([1, 2, 3]), np.array(["a", "b", "c"]), 9, 9)
    snapshot = Snapshot("s", Status("ONLINE"), found=found)
    assert shown(snapshot, Settings(0.5)).labels.tolist() == ["c"]
    assert shown(snapshot, Settings(0.1, ("a", "2"))).labels.tolist() == ["a", "b"]
