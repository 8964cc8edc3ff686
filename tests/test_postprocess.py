"""Decoding and NMS against a literal translation of what TensorFlow does class by class, and against its own results."""

from __future__ import annotations

import heapq
from dataclasses import replace

import numpy as np
import pytest

from ssdrt.postprocess import NmsParameters, decode_boxes, non_max_suppression

PLAIN = NmsParameters(score_threshold=1e-8, iou_threshold=0.6, max_per_class=100, max_total=100)
WHOLE = (0.0, 0.0, 1.0, 1.0)


def iou(a, b):
    """IOU() of non_max_suppression_op.cc, statement by statement."""
    (ymin_a, ymax_a), (xmin_a, xmax_a) = sorted((a[0], a[2])), sorted((a[1], a[3]))
    (ymin_b, ymax_b), (xmin_b, xmax_b) = sorted((b[0], b[2])), sorted((b[1], b[3]))
    area_a, area_b = (ymax_a - ymin_a) * (xmax_a - xmin_a), (ymax_b - ymin_b) * (xmax_b - xmin_b)
    if area_a <= 0 or area_b <= 0:
        return np.float32(0)
    height = max(min(ymax_a, ymax_b) - max(ymin_a, ymin_b), np.float32(0))
    width = max(min(xmax_a, xmax_b) - max(xmin_a, xmin_b), np.float32(0))
    return height * width / (area_a + area_b - height * width)


def nms_op(boxes, scores, p, cap):
    """DoNonMaxSuppressionOp() of the same file, for one class: indices, scores."""
    threshold, sigma = np.float32(p.score_threshold), np.float32(p.soft_nms_sigma)
    queue = [(-score, i, 0) for i, score in enumerate(scores) if score > threshold]
    heapq.heapify(queue)
    selected, selected_scores = [], []
    while queue and len(selected) < cap:
        negative, i, begin = heapq.heappop(queue)
        score = -negative
        for j in reversed(selected[begin:]):
            overlap = iou(boxes[i], boxes[j])
            if sigma > 0:
                score *= np.float32(np.exp(np.float64(np.float32(-0.5) / sigma * overlap * overlap)))
            elif overlap > np.float32(p.iou_threshold):
                score = np.float32(-np.inf)
            if score <= threshold:
                break
        if score == -negative:
            selected.append(i)
            selected_scores.append(score)
        elif score > threshold:
            heapq.heappush(queue, (-score, i, len(selected)))
    return selected, selected_scores


def class_by_class(boxes, scores, p, window):
    """multiclass_non_max_suppression and class_agnostic_non_max_suppression of core/post_processing.py."""
    window = np.array(window, np.float32)

    def clip(b):
        return np.maximum(np.minimum(b, np.tile(window[2:], 2)), np.tile(window[:2], 2))

    def real(b):
        return (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) > 0

    def frame(b):
        return (b - np.tile(window[:2], 2)) * np.tile(np.float32(1) / (window[2:] - window[:2]), 2)

    if p.clip == "before":
        boxes = clip(boxes)
        if p.drop_zero_area:
            boxes, scores = boxes[real(boxes)], scores[real(boxes)]
        if p.change_coordinate_frame:
            boxes = frame(boxes)
    found = []
    for c in range(1 if p.class_agnostic else scores.shape[1]):
        values = scores.max(axis=1, initial=-np.inf) if p.class_agnostic else scores[:, c]
        rows, kept_scores = nms_op(boxes, values, p, p.max_total if p.class_agnostic else p.max_per_class)
        classes = [int(scores[i].argmax()) for i in rows] if p.class_agnostic else [c] * len(rows)
        found += zip(boxes[rows], kept_scores, classes, strict=True)
    found.sort(key=lambda one: -one[1])
    kept = np.array([box for box, _, _ in found], np.float32).reshape(-1, 4)
    values = np.array([score for _, score, _ in found], np.float32)
    classes = np.array([c for _, _, c in found], np.int64)
    if p.clip == "after":
        kept = clip(kept)
        if p.drop_zero_area:
            kept, values, classes = kept[real(kept)], values[real(kept)], classes[real(kept)]
    if p.change_coordinate_frame and p.clip != "before":
        kept = frame(kept)
    return kept[: p.max_total], values[: p.max_total], classes[: p.max_total]


def random_case(rng):
    """A picture's boxes and scores full of ties, lines, points, boxes outside and corners in the wrong order."""
    n, classes = int(rng.integers(1, 120)), int(rng.integers(1, 7))
    corners = rng.integers(-3, 12, (n, 2)) / rng.choice([4, 8, 10])
    sizes = rng.integers(0, 6, (n, 2)) / rng.choice([4, 8, 10])
    boxes = np.concatenate((corners, corners + sizes), axis=1).astype(np.float32)
    flipped = rng.random(n) < 0.1
    boxes[flipped] = boxes[flipped][:, [2, 1, 0, 3]]
    jitter = rng.random((n, 4)) * rng.choice([0, 1e-3, 0.1])
    steps = int(rng.choice([3, 20, 1000]))
    return (boxes + jitter).astype(np.float32), (rng.integers(0, steps, (n, classes)) / steps).astype(np.float32)


def random_parameters(rng):
    max_total = int(rng.integers(1, 60))
    return NmsParameters(
        score_threshold=float(rng.choice([-1.0, 1e-8, 0.3, 0.5])),
        iou_threshold=float(rng.choice([0.0, 0.3, 0.5, 0.6, 1.0])),
        max_per_class=int(rng.integers(1, 60)),
        max_total=max_total,
        class_agnostic=bool(rng.random() < 0.2),
        soft_nms_sigma=float(rng.choice([0.1, 0.5])) if rng.random() < 0.15 else 0.0,
        clip=str(rng.choice(["before", "after", "never"])),  # type: ignore[arg-type]
        drop_zero_area=bool(rng.random() < 0.8),
        change_coordinate_frame=bool(rng.random() < 0.4),
    )


@pytest.mark.parametrize("seed", range(20))
def test_equals_the_class_by_class_form(seed):
    rng = np.random.default_rng(seed)
    for _ in range(60):
        boxes, scores = random_case(rng)
        p = random_parameters(rng)
        window = WHOLE if rng.random() < 0.5 else (0.0, 0.0, 0.75, 1.0)
        for ours, literal in zip(
            non_max_suppression(boxes, scores, p, window), class_by_class(boxes, scores, p, window), strict=True
        ):
            np.testing.assert_array_equal(ours, literal, err_msg=str((seed, p, window)))
