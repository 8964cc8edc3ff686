"""Detections of a few boxes, for the tests of tracks and counts."""

import numpy as np
import pytest

from ssdrt.detections import Detections
from ssdrt.sources.base import Frame

LABELS = {1: "person", 3: "car"}


@pytest.fixture
def make_found():
    """Detections in a picture of 400 x 300 from rows of (x0, y0, x1, y1), all persons of 0.9 unless said otherwise."""

    def make(*boxes, scores=None, class_ids=None, track_ids=None, size=(400, 300)):
        class_ids = np.array([1] * len(boxes) if class_ids is None else class_ids, np.int64)
        return Detections(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array([0.9] * len(boxes) if scores is None else scores, np.float32),
            class_ids,
            np.array([LABELS[class_id] for class_id in class_ids.tolist()], np.str_),
            *size,
            None if track_ids is None else np.array(track_ids, np.int64),
        )

    return make


@pytest.fixture
def make_frame():
    """A frame of a video of noise, 400 x 300."""

    def make(index=0, time=0.0, source="clip.mp4"):
        return Frame(np.random.default_rng(index).integers(0, 256, (300, 400, 3), np.uint8), source, index, time)

    return make
