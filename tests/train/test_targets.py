"""Which anchor stands for which object, and what it should say then."""

import numpy as np
import pytest

from ssdrt.postprocess import decode_boxes

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'ssdrt[train]'")
from ssdrt.train.targets import Objects, encode, make_targets  # noqa: E402

SCALES = (10.0, 10.0, 5.0, 5.0)
ANCHORS = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.0, 0.5, 0.5, 1.0], [0.5, 0.0, 1.0, 0.5], [0.4, 0.4, 1.0, 1.0]])


def objects(*rows):
    """A batch of one picture, of rows (box, class, crowd)."""
    boxes, classes, crowd = zip(*rows, strict=True)
    return Objects(torch.tensor([boxes]), torch.tensor([classes]), torch.tensor([crowd]))


def test_the_box_coder_is_the_inverse_of_decoding():
    random = np.random.default_rng(3)
    corner = random.uniform(0, 0.6, (50, 2))
    boxes = np.concatenate([corner, corner + random.uniform(0.05, 0.4, (50, 2))], 1).astype(np.float32)
    anchors = np.roll(boxes, 7, 0)
    encodings = encode(torch.from_numpy(boxes), torch.from_numpy(anchors), SCALES).numpy()
    np.testing.assert_allclose(decode_boxes(encodings, anchors, SCALES), boxes, atol=1e-5)


def test_an_anchor_that_overlaps_by_half_stands_for_the_object():
    targets = make_targets(ANCHORS, objects(([0.0, 0.0, 0.5, 0.4], 1, False)), 2, SCALES)
    assert targets.classes.tolist() == [[1, -1, -1, -1]]
    assert not targets.ignored.any()


def test_an_object_that_no_anchor_fits_gets_its_best():
    targets = make_targets(ANCHORS, objects(([0.1, 0.6, 0.2, 0.7], 0, False)), 2, SCALES)
    assert targets.classes.tolist() == [[-1, 0, -1, -1]]


def test_an_empty_row_is_no_object():
    targets = make_targets(ANCHORS, objects(([0.0, 0.0, 0.0, 0.0], -1, False)), 2, SCALES)
    assert targets.classes.tolist() == [[-1, -1, -1, -1]]


def test_anchors_in_a_crowd_are_not_judged_for_its_class():
    crowd = [0.0, 0.0, 0.6, 1.0]
    targets = make_targets(ANCHORS, objects((crowd, 1, True), ([0.0, 0.0, 0.5, 0.5], 1, False)), 2, SCALES)
    assert targets.classes.tolist() == [[1, -1, -1, -1]]
    assert targets.ignored.tolist() == [[[False, False], [False, True], [False, False], [False, False]]]
