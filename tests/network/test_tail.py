"""The best pairs of anchor and class, as TensorRT is told to find them: no others than a sort finds, ties included."""

import numpy as np
import pytest

from ssdrt.network.onnx_file import OnnxGraph, Port
from ssdrt.network.tail import write_best_pairs
from ssdrt.postprocess import NmsParameters, non_max_suppression, suppress_candidates

SHAPES = [
    (500, 90, 400),  # 20 groups
    (500, 37, 400),  # 16 groups
    (100, 5, 60),  # 2 groups
    (100, 90, 53),  # one group: a prime number of them
    (100, 3, 60),  # one group: few classes
    (60, 3, 60),  # all pairs at once
    (40, 3, 100),
    (300, 1, 50),
]


def best_pairs(scores, count, opset=17):
    """candidate_scores, candidate_indices and anchors (b, count) of scores (b, anchors, classes)."""
    onnxruntime = pytest.importorskip("onnxruntime")
    graph = OnnxGraph([Port("class_scores", "float32", ("batch", *scores.shape[1:]))])
    graph.scope = "candidates"
    anchor = write_best_pairs(graph, *scores.shape[1:], count, opset)
    ports = [("candidate_scores", "float32"), ("candidate_indices", "int32"), (anchor, "int64")]
    data = graph.to_bytes([Port(name, dtype, ("batch", count)) for name, dtype in ports], opset)
    return onnxruntime.InferenceSession(data).run(None, {"class_scores": scores})


@pytest.mark.parametrize("steps", [2**24, 16, 1], ids=["any scores", "many ties", "all the same"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_best_pairs_are_those_of_a_sort(shape, steps):
    anchors, classes, count = shape
    scores = np.random.default_rng(4).integers(0, steps, (2, anchors, classes)).astype(np.float32) / steps
    found, indices, rows = best_pairs(scores, count)
    flat = scores.reshape(2, -1)
    np.testing.assert_array_equal(found, -np.sort(-flat, axis=1)[:, :count])
    np.testing.assert_array_equal(np.take_along_axis(flat, indices.astype(np.int64), 1), found)
    np.testing.assert_array_equal(indices // classes, rows)
    assert [len(set(row)) for row in indices.tolist()] == [count, count]


@pytest.mark.parametrize("opset", [11, 13, 18, 22])
def test_every_opset_finds_the_same(opset):
    scores = np.random.default_rng(4).random((2, 100, 5), np.float32)
    for found, usual in zip(best_pairs(scores, 60, opset), best_pairs(scores, 60), strict=True):
        np.testing.assert_array_equal(found, usual)


@pytest.mark.parametrize("strange", [None, np.nan, -np.inf])
@pytest.mark.parametrize("steps", [2**24, 64, 8])
@pytest.mark.parametrize("threshold", [0.1, 0.9])
def test_detections_are_those_of_all_scores(threshold, steps, strange):
    """Ties within the best pairs, and across the last of them, which then are too few."""
    random = np.random.default_rng(6)
    scores = np.floor(random.random((20, 100, 8), np.float32) ** 2 * steps) / np.float32(steps)
    if strange is not None:  # NaN comes for all classes of an anchor: of features that overflowed
        scores[random.random((20, 100)) < 0.1] = strange
    corners = random.random((20, 100, 2), np.float32) * 0.7
    boxes = np.concatenate((corners, corners + 0.3), axis=2)
    found, indices, rows = best_pairs(scores, 80)
    enough = 0
    for picture in range(20):
        parameters = NmsParameters(threshold, 0.5, 10, 20)
        whole = non_max_suppression(boxes[picture], scores[picture], parameters)
        few = suppress_candidates(
            boxes[picture][rows[picture]], found[picture], indices[picture], 8, scores[picture].size, parameters
        )
        if few is not None:
            enough += 1
            for ours, expected in zip(few, whole, strict=True):
                np.testing.assert_array_equal(ours, expected)
    assert enough or steps == 8


def test_nan_among_the_best_pairs_asks_for_all_of_them():
    boxes, scores = np.tile(np.float32([0, 0, 1, 1]), (4, 1)), np.float32([0.9, np.nan, 0.8, 0.1])
    assert suppress_candidates(boxes, scores, np.arange(4), 1, 10, NmsParameters(0.2, 0.5, 10, 20)) is None
