"""How far two engines' detections of the same picture lie apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssdrt.detections import Detections

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Tolerance:
    """What counts as the same detection: corners within `pixels`, scores within `score`."""

    pixels: float
    score: float


EXACT = Tolerance(1.0, 2e-3)
"""What fp32 on any engine must keep: float32 rounds differently in another order of additions, no more."""


@dataclass(frozen=True)
class Difference:
    """pixels, score: the largest distance of a corner and of a score among the detections that have a counterpart;
    missing: how many have none of their class near them."""

    pixels: float
    score: float
    missing: int

    def within(self, tolerance: Tolerance) -> bool:
        """Whether every detection has a counterpart within the tolerance."""
        return self.missing == 0 and self.pixels <= tolerance.pixels and self.score <= tolerance.score


def difference(expected: Detections, found: Detections) -> Difference:
    """Match each expected detection, best first, to the nearest free one of its class.

    A counterpart overlaps with IoU above 0.5. Give `found` a slightly lower threshold than `expected`, so that a score
    at the threshold's edge has one.
    """
    free = np.ones(len(found), bool)
    pixels = score = 0.0
    missing = 0
    for box, value, class_id in zip(expected.boxes_xyxy, expected.scores, expected.class_ids, strict=True):
        overlaps = np.where(free & (found.class_ids == class_id), _iou(box, found.boxes_xyxy), 0)
        best = int(overlaps.argmax()) if len(overlaps) else 0
        if not len(overlaps) or overlaps[best] <= 0.5:
            missing += 1
            continue
        free[best] = False
        pixels = max(pixels, float(np.abs(found.boxes_xyxy[best] - box).max()))
        score = max(score, abs(float(found.scores[best]) - float(value)))
    return Difference(pixels, score, missing)


def _iou(box: Floats, boxes: Floats) -> Floats:
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.clip(sides, 0, None).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    return np.asarray(shared / np.maximum(areas - shared, 1e-9), np.float32)
