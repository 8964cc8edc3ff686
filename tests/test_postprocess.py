"""Decoding and NMS against a literal class-by-class translation of TensorFlow, and against its own results."""

from __future__ import annotations

import heapq
from dataclasses import replace

import numpy as np
import pytest

from ssdrt.postprocess import NmsParameters, convert_scores, decode_boxes, non_max_suppression, suppress_candidates

PLAIN = NmsParameters(score_threshold=1e-8, iou_threshold=0.6, max_per_class=100, max_total=100)
WHOLE = (0.0, 0.0, 1.0, 1.0)
PADDED = (0.0, 0.0, 0.75, 1.0)


# --- the literal translation ----------------------------------------------------------------------------------------


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


def nms_op(boxes, scores, thresholds, p, cap):
    """DoNonMaxSuppressionOp() of the same file, for one class: indices, scores."""
    sigma = np.float32(p.soft_nms_sigma)
    queue = [(-score, i, 0) for i, score in enumerate(scores) if score > thresholds[i]]
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
            if score <= thresholds[i]:
                break
        if score == -negative:
            selected.append(i)
            selected_scores.append(score)
        elif score > thresholds[i]:
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
    thresholds = np.broadcast_to(np.asarray(p.score_threshold, np.float32), scores.shape)
    found = []
    if p.class_agnostic:
        alive = np.where(scores > thresholds, scores, -np.inf)
        best = [int(row.argmax()) for row in alive]
        limits = [thresholds[i, c] for i, c in enumerate(best)]
        rows, kept_scores = nms_op(boxes, alive.max(axis=1, initial=-np.inf), limits, p, p.max_total)
        found += zip(boxes[rows], kept_scores, [best[i] for i in rows], strict=True)
    else:
        for c in range(scores.shape[1]):
            rows, kept_scores = nms_op(boxes, scores[:, c], thresholds[:, c], p, p.max_per_class)
            found += zip(boxes[rows], kept_scores, [c] * len(rows), strict=True)
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


# --- random pictures ------------------------------------------------------------------------------------------------


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


def random_parameters(rng, classes):
    threshold = float(rng.choice([-1.0, 1e-8, 0.3, 0.5]))
    return NmsParameters(
        score_threshold=rng.random(classes, np.float32) if rng.random() < 0.1 else threshold,
        iou_threshold=float(rng.choice([0.0, 0.3, 0.5, 0.6, 1.0])),
        max_per_class=int(rng.integers(0, 60)),
        max_total=int(rng.integers(0, 60)),
        class_agnostic=bool(rng.random() < 0.2),
        soft_nms_sigma=float(rng.choice([0.1, 0.5])) if rng.random() < 0.15 else 0.0,
        clip=str(rng.choice(["before", "after", "never"])),  # type: ignore[arg-type]
        drop_zero_area=bool(rng.random() < 0.8),
        change_coordinate_frame=bool(rng.random() < 0.4),
    )


def assert_equals_literal(boxes, scores, p, window=WHOLE):
    ours, literal = non_max_suppression(boxes, scores, p, window), class_by_class(boxes, scores, p, window)
    for name, a, b in zip(("boxes", "scores", "classes"), ours, literal, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=f"{name} {p} {window}")


@pytest.mark.parametrize("seed", range(16))
def test_equals_the_class_by_class_form(seed):
    rng = np.random.default_rng(seed)
    for _ in range(80):
        boxes, scores = random_case(rng)
        assert_equals_literal(boxes, scores, random_parameters(rng, scores.shape[1]), WHOLE if seed % 2 else PADDED)


def best_pairs(boxes, scores, count, rng):
    """The `count` best (anchor, class) pairs, equal ones shuffled: what a TopK leaves."""
    shuffled = rng.permutation(scores.size)
    best = shuffled[np.argsort(-scores.ravel()[shuffled], kind="stable")][:count]
    return boxes[best // scores.shape[1]], scores.ravel()[best], best.astype(np.int32)


@pytest.mark.parametrize("seed", range(8))
def test_candidates_give_the_same_or_say_that_they_are_too_few(seed):
    rng = np.random.default_rng(seed)
    answered = refused = 0
    for _ in range(80):
        boxes, scores = random_case(rng)
        if np.isnan(scores).any():
            continue
        p, count = random_parameters(rng, scores.shape[1]), int(rng.integers(1, scores.size + 1))
        window = WHOLE if seed % 2 else PADDED
        found = suppress_candidates(*best_pairs(boxes, scores, count, rng), scores.shape[1], scores.size, p, window)
        if found is None:
            assert count < scores.size or p.class_agnostic or p.soft_nms_sigma
            refused += 1
            continue
        answered += 1
        for ours, whole in zip(found, non_max_suppression(boxes, scores, p, window), strict=True):
            np.testing.assert_array_equal(ours, whole)
    assert answered > 20
    assert refused > 5


def test_candidates_that_end_among_equal_scores_do_not_count():
    boxes = np.array([[0, 0, 1, 1], [0, 0, 0.4, 0.4], [0.6, 0.6, 1, 1]], np.float32)
    scores = np.array([[0.9], [0.5], [0.5]], np.float32)
    two = np.array([0, 2]), replace(PLAIN, max_total=2)  # which of the equal two comes first, the third decides
    assert suppress_candidates(boxes[two[0]], scores[two[0], 0], two[0], 1, 3, two[1]) is None
    one = suppress_candidates(boxes[two[0]], scores[two[0], 0], two[0], 1, 3, replace(PLAIN, max_total=1))
    assert one is not None
    assert one[1].tolist() == [np.float32(0.9)]
    nan = np.full(2, np.nan, np.float32)
    assert suppress_candidates(boxes[:2], nan, two[0], 1, 3, PLAIN) is None


@pytest.mark.parametrize("sigma", [0.0, 0.5])
def test_walks_on_when_the_best_candidates_suppress_each_other(sigma):
    rng = np.random.default_rng(1)
    centres = np.array([[0, 0, 0.3, 0.3], [0.5, 0.5, 1, 1], [0.1, 0.6, 0.4, 0.9]])
    boxes = (centres[rng.integers(0, 3, 900)] + rng.normal(0, 2e-3, (900, 4))).astype(np.float32)
    scores = rng.integers(1, 500, (900, 2)).astype(np.float32) / 500
    boxes[-1], scores[-1] = (0.9, 0, 1, 0.1), 1e-3  # the last of all must still be found
    p = replace(PLAIN, max_total=7, max_per_class=5, soft_nms_sigma=sigma, score_threshold=1e-8)
    assert_equals_literal(boxes, scores, p)


def test_many_classes_and_a_full_class():
    rng = np.random.default_rng(2)
    boxes, scores = random_case(rng)
    scores = (rng.random((len(boxes), 40)) ** 4).astype(np.float32)
    scores[:, 7] += 1  # all of this class come first
    assert_equals_literal(boxes, scores, replace(PLAIN, max_per_class=3, max_total=50))


# --- what TensorFlow 2.15 answered ----------------------------------------------------------------------------------

CORNERS = [[9, 2, 10, 6], [4, 5, 9, 10], [0, -2, 4, 6], [-2, -2, 1, 4], [-2, 3, -1, 11], [1, -3, 3, 2], [-2, 6, 3, 8]]
BOXES = np.array([*CORNERS, [2, -2, 3, 2]], np.float32) / np.float32(8)
SCORES = np.array([[15, 12], [7, 2], [6, 13], [6, 8], [2, 8], [8, 10], [2, 10], [9, 15]], np.float32) / np.float32(16)
SMALL = NmsParameters(score_threshold=0.25, iou_threshold=0.5, max_per_class=3, max_total=5)


@pytest.mark.parametrize(
    ("changes", "window", "boxes", "scores", "classes"),
    [
        (
            {"clip": "before"},
            WHOLE,
            [[2, 0, 3, 2], [0, 0, 4, 6], [1, 0, 3, 2], [2, 0, 3, 2], [1, 0, 3, 2]],
            [15, 13, 10, 9, 8],
            [1, 1, 1, 0, 0],
        ),
        ({}, WHOLE, [[2, 0, 3, 2], [0, 0, 4, 6], [2, 0, 3, 2], [1, 0, 3, 2]], [15, 13, 9, 8], [1, 1, 0, 0]),
        (
            {"change_coordinate_frame": True},
            PADDED,
            [
                [2.6666667461395264, 0, 4, 2],
                [0, 0, 5.333333492279053, 6],
                [2.6666667461395264, 0, 4, 2],
                [1.3333333730697632, 0, 4, 2],
            ],
            [15, 13, 9, 8],
            [1, 1, 0, 0],
        ),
        (
            {"class_agnostic": True},
            WHOLE,
            [[2, 0, 3, 2], [0, 0, 4, 6], [1, 0, 3, 2], [0, 6, 3, 8]],
            [15, 13, 10, 10],
            [1, 1, 1, 1],
        ),
        (
            {"soft_nms_sigma": 0.5},
            WHOLE,
            [[2, 0, 3, 2], [0, 0, 4, 6], [2, 0, 3, 2], [4, 5, 8, 8]],
            [15, 12.798453330993652, 9, 7],
            [1, 1, 0, 0],
        ),
    ],
    ids=["clip before", "clip after", "padded input", "class-agnostic", "soft"],
)
def test_tensorflow_answered(changes, window, boxes, scores, classes):
    found = non_max_suppression(BOXES, SCORES, replace(SMALL, **changes), window)
    np.testing.assert_array_equal(found[0] * 8, np.array(boxes, np.float32))
    np.testing.assert_array_equal(found[1] * 16, np.array(scores, np.float32))
    np.testing.assert_array_equal(found[2], classes)


def test_decodes_as_tensorflow():
    anchors = np.array([[0.1, 0.2, 0.5, 0.9], [-0.05, 0.3, 0.15, 0.35], [0.25, 0.25, 0.75, 0.75]], np.float32)
    encodings = np.array([[1.5, -2, 0.7, -1.1], [0, 0, 0, 0], [-3.3, 12, 5.5, 2.25]], np.float32)
    expected = [
        [0.12994524836540222, 0.1291184425354004, 0.5900547504425049, 0.690881609916687],
        [-0.05000000074505806, 0.30000001192092896, 0.15000000596046448, 0.34999996423721313],
        [-0.4160415232181549, 0.7079219818115234, 1.0860415697097778, 1.4920780658721924],
    ]
    decoded = decode_boxes(encodings, anchors, (10.0, 10.0, 5.0, 5.0))
    assert decoded.dtype == np.float32
    assert decoded.flags.c_contiguous
    np.testing.assert_allclose(decoded, expected, rtol=0, atol=2e-7)  # exp may differ in its last bit


# --- edges ----------------------------------------------------------------------------------------------------------


def test_an_overlap_of_exactly_the_threshold_stays():
    boxes = np.array([[0, 0, 1, 1], [0, 0, 1, 0.5]], np.float32)
    scores = np.array([[0.9], [0.8]], np.float32)
    assert len(non_max_suppression(boxes, scores, replace(PLAIN, iou_threshold=0.5))[1]) == 2
    assert len(non_max_suppression(boxes, scores, replace(PLAIN, iou_threshold=0.4999))[1]) == 1


def test_ties_go_by_class_then_by_anchor():
    boxes = np.array([[0, 0, 0.1, 0.1], [0.5, 0.5, 1, 1], [0, 0.5, 0.4, 1]], np.float32)
    found, _, classes = non_max_suppression(boxes, np.full((3, 2), 0.5, np.float32), PLAIN)
    np.testing.assert_array_equal(found, boxes[[0, 1, 2, 0, 1, 2]])
    np.testing.assert_array_equal(classes, [0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize("threshold", [0.5, np.array([0.5, 0.25], np.float32)])
def test_a_score_equal_to_the_threshold_is_out(threshold):
    boxes = np.array([[0, 0, 1, 1]], np.float32)
    scores = np.array([[0.5, 0.5]], np.float32)
    _, _, classes = non_max_suppression(boxes, scores, replace(PLAIN, score_threshold=threshold))
    assert classes.tolist() == ([] if np.ndim(threshold) == 0 else [1])


@pytest.mark.parametrize("clip", ["before", "after"])
@pytest.mark.parametrize("sigma", [0.0, 0.5])
@pytest.mark.filterwarnings("error")
def test_nan_and_infinity_are_survived(clip, sigma):
    rng = np.random.default_rng(3)
    boxes, scores = rng.random((200, 4)).astype(np.float32), rng.random((200, 5)).astype(np.float32)
    boxes[rng.random((200, 4)) < 0.1] = np.nan
    boxes[rng.random((200, 4)) < 0.1] = np.inf
    boxes[rng.random((200, 4)) < 0.1] = -np.inf
    scores[rng.random((200, 5)) < 0.3] = np.nan
    scores[3, 3] = np.inf
    found, kept, _ = non_max_suppression(boxes, scores, replace(PLAIN, clip=clip, soft_nms_sigma=sigma))
    assert np.isfinite(found).all()
    assert not np.isnan(kept).any()
    assert (np.diff(kept[np.isfinite(kept)]) <= 0).all()
    assert len(non_max_suppression(boxes, np.full_like(scores, np.nan), PLAIN)[1]) == 0
    assert decode_boxes(np.full((1, 4), 1e30, np.float32), boxes[:1], (10.0, 10.0, 5.0, 5.0)).shape == (1, 4)


@pytest.mark.parametrize("shape", [(0, 3), (5, 1)])
def test_nothing_found_is_empty_arrays(shape):
    boxes = np.zeros((shape[0], 4), np.float32)
    found = non_max_suppression(boxes, np.zeros(shape, np.float32), replace(PLAIN, class_agnostic=shape[0] == 0))
    assert [a.shape for a in found] == [(0, 4), (0,), (0,)]
    assert [a.dtype for a in found] == [np.float32, np.float32, np.int64]


@pytest.mark.parametrize(
    ("function", "background", "expected"),
    [
        ("softmax", "sliced_after", [0.5, 0.25]),
        ("softmax", "sliced_before", [2 / 3, 1 / 3]),
        ("softmax", "none", [0.25, 0.5, 0.25]),
        ("sigmoid", "sliced_after", [2 / 3, 0.5]),
        ("sigmoid", "none", [0.5, 2 / 3, 0.5]),
        ("identity", "sliced_before", [np.log(2), 0]),
    ],
)
def test_scores_without_background(function, background, expected):
    logits = np.log(np.float32([1, 4, 1])).reshape(1, 1, 3)  # halved by the logit scale: ln 1, ln 2, ln 1
    scores = convert_scores(logits, function, 2.0, background)
    np.testing.assert_allclose(scores[0, 0], expected, rtol=1e-6)
