"""Detections made of float32 scores and box codes are those of `postprocess` to the bit, on hostile inputs too."""

from dataclasses import replace

import numpy as np
import pytest

from engines.cuda.emulated import bench  # noqa: F401
from engines.cuda.test_tail import HOSTILE_BOXES, LIMITS, WINDOW, made_hostile, model_of
from ssdrt.engines.cuda import ends, staging
from ssdrt.pipeline import graph_parameters
from ssdrt.postprocess import decode_boxes, non_max_suppression, sigmoid

MOST = 100
WHOLE = np.array([0, 0, 1, 1], np.float32)


def detections(bench, model, scores, codes, parameters, windows):  # noqa: F811
    """(boxes, scores, classes, whether they are complete) of each picture."""
    batch, count, classes = scores.shape
    layout = staging.Layout(batch, classes)
    head = np.zeros(layout.pixels, np.uint8)
    staging.write_parameters(head, layout, model, parameters)
    head[layout.windows : layout.windows + 16 * batch].view(np.float32)[:] = np.ravel(windows)
    data = {
        "head": head.tobytes(),
        "scores": scores.tobytes() + bytes(-scores.nbytes % 32),
        "codes": codes.tobytes(),
        "anchors": ends.centred(model.anchors.value).tobytes(),
        "lists": bytes(8 * batch * ends.CAPACITY),
        "counts": bytes(4 * batch),
        "histograms": bytes(4 * batch * ends.BINS),
        "found": np.full((batch, ends.found_size(MOST)), np.nan, np.float32).tobytes(),
    }
    memories = {name: bench.memory(one) for name, one in data.items()}
    places = {name: memory.address for name, memory in memories.items()}
    start, encodings = places.pop("head"), places.pop("codes")
    places |= {name: start + getattr(layout, name) for name in ("options", "thresholds", "windows")}
    heads = ends.Heads("wide scores", 0, encodings, 0, 4 * count, 0, 4)
    launches = ends.suppression(model, batch, heads, places, MOST)
    numbers = []
    for _ in range(2):  # counters must be as they were
        bench.run(launches, overlapping=True)
        numbers.append(bench.read(places["found"], (batch, ends.found_size(MOST)), np.float32))
    np.testing.assert_array_equal(*numbers)
    assert not bench.read(places["counts"], (batch,), np.int32).any()
    assert not bench.read(places["histograms"], (batch, ends.BINS), np.int32).any()
    for one in memories.values():
        one.free()
    return [ends.read_found(row, MOST) for row in numbers[0]]


def check(bench, model, scores, codes, parameters=None, windows=WHOLE):  # noqa: F811
    """How many are found in each picture, once they are known to be right; -1 for one that is left to the host."""
    parameters = parameters or graph_parameters(model)
    windows = np.broadcast_to(windows, (len(scores), 4))
    scores, codes = scores.astype(np.float32), codes.astype(np.float32)
    totals = []
    found = detections(bench, model, scores, codes, parameters, windows)
    for index, (boxes, kept, classes, complete) in enumerate(found):
        if not complete:
            totals.append(-1)
            continue
        decoded = decode_boxes(codes[index], model.anchors.value, model.box_coder.scales.value)
        wanted = non_max_suppression(decoded, scores[index], parameters, tuple(windows[index].tolist()))
        for one, other in zip((boxes, kept, classes), wanted, strict=True):
            np.testing.assert_array_equal(one, other)
        totals.append(len(kept))
    return totals


def random_heads(batch, count, classes, mean=-3.0, spread=2.0):
    random = np.random.default_rng(count + classes)
    logits = random.normal(mean, spread, (batch, count, classes)).astype(np.float32)
    return sigmoid(logits), random.normal(0, 1, (batch, count, 4))


@pytest.mark.parametrize("clip", ["before", "after", "never"])
@pytest.mark.parametrize("threshold", [0.5, 0.02, 1e-8, 0.0])
def test_thresholds_and_clipping(bench, clip, threshold):  # noqa: F811
    model = model_of(1917, 90, **{**LIMITS, "score_threshold": threshold, "clip": clip})
    assert min(check(bench, model, *random_heads(3, 1917, 90), windows=WINDOW)) > 5


@pytest.mark.parametrize("classes", [1, 2, 3, 7, 8, 91, 300])
@pytest.mark.parametrize("agnostic", [False, True])
def test_pictures_begin_anywhere(bench, classes, agnostic):  # noqa: F811
    model = model_of(701, classes, **{**LIMITS, "class_agnostic": agnostic, "max_per_class": 20})
    assert min(check(bench, model, *random_heads(9, 701, classes, mean=-1))) > 5


@pytest.mark.parametrize("agnostic", [False, True])
def test_batches_of_many(bench, agnostic):  # noqa: F811
    model = model_of(333, 5, **{**LIMITS, "class_agnostic": agnostic})
    assert min(check(bench, model, *random_heads(ends.MANY + 1, 333, 5, mean=-1))) > 5


HOSTILE = {
    "ties": lambda scores: np.round(scores * 8) / 8,
    "all equal": lambda scores: np.full_like(scores, 0.75),
    "0 and 1": lambda scores: np.round(scores),
    "all 1": np.ones_like,
    "one step below 1": lambda scores: np.where(scores > 0.3, 1 - 2.0**-24, 0.5),
    "none": np.zeros_like,
    "thirty": lambda scores: np.where(np.arange(scores.size).reshape(scores.shape) % 5751 == 5, 0.8, 0.1),
    "all pass": lambda scores: 0.5 + scores / 2,
    "all pass, nearly equal": lambda scores: 0.5 + scores * 2.0**-12,
    "one class": lambda scores: np.where(np.arange(90) == 41, np.sqrt(scores), 0),
    "as the threshold": lambda scores: np.where(scores > 0.1, np.float32(0.3), np.nextafter(np.float32(0.3), 1)),
    "no numbers": lambda scores: np.where(scores > 0.2, np.nan, scores + 0.2),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_scores(bench, name):  # noqa: F811
    scores, codes = random_heads(2, 1917, 90)
    totals = check(bench, model_of(1917, 90, **LIMITS), HOSTILE[name](scores), codes)
    assert min(totals) == 0 if name == "none" else min(totals) > 20


@pytest.mark.parametrize("name", HOSTILE_BOXES)
@pytest.mark.parametrize("clip", ["before", "after", "never"])
def test_hostile_boxes(bench, name, clip):  # noqa: F811
    scores, codes = random_heads(2, 400, 9, mean=0)
    model = made_hostile(model_of(400, 9, **{**LIMITS, "clip": clip}), codes, name)
    assert min(check(bench, model, scores, codes)) >= 9


@pytest.mark.parametrize("caps", [(3, 100), (100, 7), (1, 100), (5, 30)])
def test_caps(bench, caps):  # noqa: F811
    model = model_of(1000, 20, **{**LIMITS, "max_per_class": caps[0], "max_total": caps[1], "clip": "never"})
    assert max(check(bench, model, *random_heads(2, 1000, 20, mean=0))) == min(caps[1], 20 * caps[0])


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("threshold", [-5.0, 0.0, 2.0])
def test_scores_without_limits(bench, agnostic, threshold):  # noqa: F811
    model = model_of(600, 12, "identity", **{**LIMITS, "score_threshold": threshold, "class_agnostic": agnostic})
    random = np.random.default_rng(5)
    scores = np.round(random.normal(0, 3, (2, 600, 12)) * 2) / 2 * random.choice([1, -1], (2, 600, 12))  # some are -0
    scores[:, ::50] = np.inf
    assert min(check(bench, model, scores, random.normal(0, 1, (2, 600, 4)))) > 20


def test_scores_that_no_converter_gives_are_left_to_the_host(bench):  # noqa: F811
    scores, codes = random_heads(3, 400, 9, mean=0)
    scores[1, 7, 3] = 1.5
    scores[2, 7, 3] = np.inf
    totals = check(bench, model_of(400, 9, **LIMITS), scores, codes)
    assert totals[0] > 20
    assert totals[1:] == [-1, -1]


def test_more_kept_boxes_than_there_is_room_for_are_left_to_the_host(bench):  # noqa: F811
    model = model_of(800, 3, **{**LIMITS, "max_per_class": 800})
    outside = np.zeros((800, 4), np.float32)
    outside[:, :2] = np.arange(800)[:, None] + 2
    outside[:, 2:] = outside[:, :2] + 0.5
    model = replace(model, anchors=replace(model.anchors, value=outside))
    assert check(bench, model, np.full((1, 800, 3), 0.9), np.zeros((1, 800, 4))) == [-1]


def test_a_threshold_a_class(bench):  # noqa: F811
    model = model_of(500, 10, **LIMITS)
    thresholds = np.array([0.1, np.inf, 0.9, 0.5, 0.0, 0.3, np.inf, 0.99, 1e-8, 0.7], np.float32)
    parameters = replace(graph_parameters(model), score_threshold=thresholds)
    assert min(check(bench, model, *random_heads(2, 500, 10, mean=0), parameters)) > 20


@pytest.mark.parametrize("iou", [0.0, 0.1, 0.9, 1.0, 2.0])
def test_overlaps(bench, iou):  # noqa: F811
    model = model_of(500, 10, **{**LIMITS, "iou_threshold": iou})
    assert min(check(bench, model, *random_heads(2, 500, 10, mean=0))) > 5


def test_frame_of_the_window(bench):  # noqa: F811
    model = model_of(500, 10, **{**LIMITS, "change_coordinate_frame": True})
    assert min(check(bench, model, *random_heads(2, 500, 10, mean=0), windows=WINDOW)) > 20
