"""Detections made of fp16 logits and box codes are those of `postprocess`, on hostile inputs too."""

from dataclasses import replace

import numpy as np
import pytest

from engines.cuda.emulated import bench  # noqa: F401
from ssdrt.engines.cuda import ends, staging
from ssdrt.engines.cuda.launch import Builder, Constants, Memory
from ssdrt.engines.cuda.plan import HeadLayout, Plan, View, padded
from ssdrt.pipeline import graph_parameters
from ssdrt.postprocess import decode_boxes, non_max_suppression
from tiny_ssd import fact, tiny_ssd

WINDOW = np.array([0.1, 0.0, 0.8, 0.9], np.float32)


def anchors(count, seed=0):
    random = np.random.default_rng(seed)
    centres, sizes = random.uniform(-0.1, 1.1, (count, 2)), random.uniform(0.05, 0.5, (count, 2))
    return np.concatenate((centres - sizes / 2, centres + sizes / 2), axis=1).astype(np.float32)


def model_of(count, classes, function="sigmoid", background="none", **nms):
    model = tiny_ssd(background, function, **nms)
    return replace(model, anchors=fact(anchors(count)), num_classes=fact(classes))


def detections(bench, model, logits, codes, parameters, windows):  # noqa: F811
    """(boxes, scores, classes) of each picture as the GPU finds them, and the scores (b, n, classes) it computed."""
    batch, count, columns = logits.shape
    row, classes, most = padded(columns), model.num_classes.value, 100
    layout = HeadLayout(count, columns, row, 8, 0, 0, 1)
    sizes = (count * row, count * 8)
    plan = Plan(View(0, 1, 1, 8, 8), (), layout, sizes, sizes, (0, 1))
    filled_logits, filled_codes = np.zeros((batch, count, row), np.float16), np.zeros((batch, count, 8), np.float16)
    filled_logits[..., :columns], filled_codes[..., :4] = logits, codes
    heads = [bench.memory(one.tobytes()) for one in (filled_logits, filled_codes)]
    places = staging.Layout(batch, classes)
    head = np.zeros(places.pixels, np.uint8)
    staging.write_parameters(head, places, model, parameters)
    head[places.windows : places.windows + 16 * batch].view(np.float32)[:] = np.ravel(windows)
    staged = bench.memory(head.tobytes())
    scores = bench.memory(bytes(staging.aligned(4 * batch * count * classes) + 16))  # whole pieces of 32
    lists, counts, histograms = (bench.memory(bytes(batch * size)) for size in (8 * ends.CAPACITY, 4, 4 * ends.BINS))
    found = bench.memory(np.full((batch, ends.found_size(most)), np.nan, np.float32).tobytes())
    addresses = {name: staged.address + getattr(places, name) for name in ("options", "thresholds", "windows")}
    addresses |= {"scores": scores.address, "lists": lists.address, "counts": counts.address, "found": found.address}
    addresses["histograms"] = histograms.address
    constants = Constants()
    memory = Memory(tuple(one.address for one in heads), 0)
    ends.tail(Builder(plan, batch, memory, constants), model, addresses, most)
    weights = bench.memory(constants.data())
    build = Builder(plan, batch, replace(memory, constants=weights.address), constants)
    bench.run([ends.scores(build, model, scores.address, None)])
    bench.run(ends.tail(build, model, addresses, most), overlapping=True)
    first = bench.read(found.address, (batch, ends.found_size(most)), np.float32)
    bench.run(ends.tail(build, model, addresses, most), overlapping=True)  # counters must be as they were
    numbers = bench.read(found.address, (batch, ends.found_size(most)), np.float32)
    np.testing.assert_array_equal(first, numbers)
    computed = bench.read(scores.address, (batch, count, classes), np.float32)
    for one in (*heads, staged, scores, lists, counts, histograms, found, weights):
        one.free()
    return [ends.read_found(row, most) for row in numbers], computed


def check(bench, model, logits, codes, parameters=None, windows=None):  # noqa: F811
    parameters = parameters or graph_parameters(model)
    batch = len(logits)
    windows = np.broadcast_to(np.array([0, 0, 1, 1], np.float32) if windows is None else windows, (batch, 4))
    logits, codes = logits.astype(np.float16), codes.astype(np.float16)
    found, scores = detections(bench, model, logits, codes, parameters, windows)
    totals = []
    for index, (boxes, kept, classes, complete) in enumerate(found):
        decoded = decode_boxes(codes[index].astype(np.float32), model.anchors.value, model.box_coder.scales.value)
        wanted = non_max_suppression(decoded, scores[index], parameters, tuple(windows[index].tolist()))
        assert complete
        np.testing.assert_array_equal(kept, wanted[1])
        np.testing.assert_array_equal(classes, wanted[2])
        np.testing.assert_allclose(boxes, wanted[0], atol=2e-6)
        totals.append(len(kept))
    return totals


def random_heads(batch, count, columns, seed=1, spread=2.0, mean=-3.0):
    random = np.random.default_rng(seed)
    return random.normal(mean, spread, (batch, count, columns)), random.normal(0, 1, (batch, count, 4))


LIMITS = {"score_threshold": 0.3, "iou_threshold": 0.6, "max_per_class": 100, "max_total": 100}


@pytest.mark.parametrize("clip", ["before", "after", "never"])
@pytest.mark.parametrize("threshold", [0.5, 0.02, 1e-8, 0.0])
def test_thresholds_and_clipping(bench, clip, threshold):  # noqa: F811
    model = model_of(1917, 90, **{**LIMITS, "score_threshold": threshold, "clip": clip})
    assert min(check(bench, model, *random_heads(3, 1917, 90), windows=WINDOW)) > 5


HOSTILE = {
    "quantised ties": lambda logits: np.round(logits * 2) / 2,
    "all equal": lambda logits: np.full_like(logits, 1.0),
    "saturated": lambda logits: np.where(logits > -3, 14.0 + np.round(logits), -14.0),
    "none": lambda logits: np.full_like(logits, -60000.0),
    "thirty": lambda logits: np.where(
        np.arange(logits.size).reshape(logits.shape) % (logits.size // 30) == 5, 1.5, -9.0
    ),
    "all pass": lambda logits: logits + 9.0,
    "one class": lambda logits: np.where(np.arange(90) == 41, logits + 5, -20.0),
    "infinite": lambda logits: np.where(logits > -1, np.inf, -np.inf),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_scores(bench, name):  # noqa: F811
    logits, codes = random_heads(2, 1917, 90)
    check(bench, model_of(1917, 90, **LIMITS), HOSTILE[name](logits), codes)


HOSTILE_BOXES = ("near", "equal", "without area", "huge", "no numbers")


def made_hostile(model, codes, name):
    """The model, and in place the box codes, with boxes as one of HOSTILE_BOXES says."""
    if name in ("near", "equal"):
        codes *= 0.01 if name == "near" else 0
        return replace(model, anchors=fact(np.tile(model.anchors.value[:1], (len(model.anchors.value), 1))))
    if name == "without area":
        codes[:, ::2, 2:] = -60000
    elif name == "huge":
        codes[:, ::3, 2:] = 600
    else:
        codes[:, ::7, 1] = np.nan
    return model


@pytest.mark.parametrize("name", HOSTILE_BOXES)
def test_hostile_boxes(bench, name):  # noqa: F811
    logits, codes = random_heads(2, 400, 9, mean=0)
    check(bench, made_hostile(model_of(400, 9, **LIMITS), codes, name), logits, codes)


@pytest.mark.parametrize("caps", [(3, 100), (100, 7), (1, 100), (5, 30)])
def test_caps(bench, caps):  # noqa: F811
    model = model_of(1000, 20, **{**LIMITS, "max_per_class": caps[0], "max_total": caps[1]})
    check(bench, model, *random_heads(2, 1000, 20, mean=0))


@pytest.mark.parametrize("classes", [1, 3, 8, 91, 300])
@pytest.mark.parametrize("agnostic", [False, True])
def test_class_counts(bench, classes, agnostic):  # noqa: F811
    model = model_of(700, classes, **{**LIMITS, "class_agnostic": agnostic, "max_per_class": 20})
    check(bench, model, *random_heads(2, 700, classes, mean=-1))


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize(
    ("function", "background"), [("softmax", "sliced_before"), ("softmax", "sliced_after"), ("identity", "none")]
)
def test_score_converters(bench, function, background, agnostic):  # noqa: F811
    model = model_of(600, 12, function, background, **{**LIMITS, "score_threshold": 0.2, "class_agnostic": agnostic})
    check(bench, model, *random_heads(2, 600, 12 + (background == "sliced_after"), mean=0))


def test_a_threshold_a_class(bench):  # noqa: F811
    model = model_of(500, 10, **LIMITS)
    thresholds = np.array([0.1, np.inf, 0.9, 0.5, 0.0, 0.3, np.inf, 0.99, 1e-8, 0.7], np.float32)
    parameters = replace(graph_parameters(model), score_threshold=thresholds)
    check(bench, model, *random_heads(2, 500, 10, mean=0), parameters)


def test_frame_of_the_window(bench):  # noqa: F811
    model = model_of(500, 10, **{**LIMITS, "change_coordinate_frame": True})
    check(bench, model, *random_heads(2, 500, 10, mean=0), windows=WINDOW)
