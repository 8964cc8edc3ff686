"""Thresholds, caps, window and order of the NMS, wherever a vintage keeps them."""

import numpy as np
import pytest

from build import const, node
from ssdrt.errors import ModelError
from ssdrt.graph.writer import NodeSpec
from ssdrt.recover import recover
from surgery import Surgery, keep_aspect_ratio

INSIDE = "Postprocessor/BatchMultiClassNonMaxSuppression/map/while/MultiClassNonMaxSuppression/"
EARLY, LATE = "clip_before", "default"


def nms_of(surgery):
    return recover(surgery.graph).nms


def refused(surgery, match):
    with pytest.raises(ModelError, match=match) as caught:
        recover(surgery.graph)
    return caught.value


def thresholds(surgery, kind, *values):
    """Set a threshold of the classes, one after the other."""
    names = [n for n in surgery.names("Const", INSIDE) if n.endswith(kind)]
    assert len(names) == len(values)
    for name, value in zip(names, values, strict=True):
        surgery.set(name, value)
    return names


def with_op(op, inputs, **attributes):
    """The graph of 2018 with another version of the op, which has fewer inputs."""
    surgery = Surgery(EARLY)
    for name in surgery.names("NonMaxSuppressionV3"):
        texts = [text.decode() for text in surgery.nodes[name].inputs[:inputs]]
        surgery.add(NodeSpec(name, op, tuple(texts), attributes))
    return surgery


def test_oldest_op_holds_its_iou_threshold_in_an_attribute():
    fact = nms_of(with_op("NonMaxSuppression", 3, iou_threshold=0.45)).iou_threshold
    assert (fact.value, fact.how) == (0.45, "attribute iou_threshold")


def test_oldest_op_without_the_attribute_means_a_half():
    assert nms_of(with_op("NonMaxSuppression", 3)).iou_threshold.value == 0.5


@pytest.mark.parametrize(
    ("op", "inputs"), [("NonMaxSuppressionV2", 4), ("NonMaxSuppressionV3", 5), ("NonMaxSuppressionV4", 5)]
)
def test_versions_of_the_op(op, inputs):
    nms = nms_of(with_op(op, inputs))
    assert nms.iou_threshold.value == 0.6
    assert nms.max_per_class.value == 20
    assert (nms.soft_nms_sigma.value, nms.clip.value) == (0, "before")
    assert nms.score_threshold.value == 1e-8
    assert nms.score_threshold.node.endswith("FilterGreaterThan/Greater/y")


@pytest.mark.parametrize("value", [0.2, 0.0, 1e-8])
def test_score_threshold_that_is_an_input_of_the_op(value):
    surgery = Surgery(LATE)
    names = thresholds(surgery, "score_threshold", value, value, value)
    fact = nms_of(surgery).score_threshold
    assert (fact.value, fact.node) == (value, names[0])


def test_score_threshold_of_minus_infinity_gives_way_to_the_filter_above():
    surgery = Surgery(EARLY)
    for name in surgery.names("Const", "FilterGreaterThan"):
        if name.endswith("Greater/y"):
            surgery.set(name, 0.05)
    assert nms_of(surgery).score_threshold.value == 0.05


def test_no_filter_of_scores_at_all():
    surgery = Surgery(LATE)
    thresholds(surgery, "score_threshold", *[-np.inf] * 3)
    fact = nms_of(surgery).score_threshold
    assert (fact.value, fact.how) == (-np.inf, "no filter of scores")


@pytest.mark.parametrize(("kind", "what"), [("score_threshold", "score threshold"), ("iou_threshold", "IoU threshold")])
def test_thresholds_that_differ_by_class_are_refused(kind, what):
    surgery = Surgery(LATE)
    names = thresholds(surgery, kind, 0.5, 0.5, 0.7)
    error = refused(surgery, rf"the {what} differs between classes: \[0.5, 0.7\]")
    assert error.node in names


def test_caps_that_differ_by_class_are_refused():
    surgery = Surgery(LATE)
    surgery.set(f"{INSIDE}Minimum_1/x", 7, "int32")
    refused(surgery, r"max_output_size differs between classes: \[7, 20\]")


def test_sigmas_that_differ_by_class_are_refused():
    surgery = Surgery("soft_nms")
    thresholds(surgery, "soft_nms_sigma", 0.5, 0.5, 0.6)
    refused(surgery, "soft-NMS sigma differs")


@pytest.mark.parametrize("value", [np.nan, b"a half"])
def test_iou_threshold_that_is_no_number_is_refused(value):
    surgery = Surgery(LATE)
    for name in [n for n in surgery.names("Const", INSIDE) if n.endswith("iou_threshold")]:
        surgery.set(name, value, "string" if isinstance(value, bytes) else "float32")
    refused(surgery, "IoU threshold is no constant")


def test_iou_threshold_that_is_computed_is_refused():
    surgery = Surgery(LATE)
    for name in surgery.names("NonMaxSuppressionV5"):
        surgery.nodes[name].inputs[3] = f"{INSIDE}unstack".encode()
    refused(surgery, "IoU threshold is no constant")


@pytest.mark.parametrize("cap", [-1, -(2**31)])
def test_cap_that_is_no_number_of_boxes_is_refused(cap):
    surgery = Surgery(LATE)
    for i in range(3):
        surgery.set(f"{INSIDE}Minimum{f'_{i}' if i else ''}/x", cap, "int32")
    refused(surgery, "largest number of boxes is not found")


def test_cap_that_is_a_constant():
    surgery = Surgery(LATE)
    surgery.add(const("five", 5, "int32"))
    for name in surgery.names("NonMaxSuppressionV5"):
        surgery.nodes[name].inputs[2] = b"five"
    fact = nms_of(surgery).max_per_class
    assert (fact.value, fact.node) == (5, "five")


def test_cap_over_all_classes():
    surgery = Surgery(LATE)
    surgery.set(f"{INSIDE}Minimum_3/x", 7, "int32")
    fact = nms_of(surgery).max_total
    assert (fact.value, fact.node) == (7, f"{INSIDE}Minimum_3")


def test_no_cap_over_all_classes():
    surgery = Surgery(LATE)
    surgery.nodes[f"{INSIDE}Minimum_3"].op = b"Maximum"
    fact = nms_of(surgery).max_total
    assert (fact.value, fact.how) == (60, "no cap over all classes")


def test_class_without_its_op_is_refused():
    surgery = Surgery(LATE)
    first, second, _ = surgery.names("NonMaxSuppressionV5")
    for output in ("", ":1"):
        surgery.replace_input(second + output, first + output)
    del surgery.nodes[second]
    refused(surgery, "2 NMS ops for 3 classes")


@pytest.mark.parametrize("clip", ["before", "after"])
def test_clip_and_its_window(clip):
    nms = nms_of(Surgery(EARLY if clip == "before" else LATE))
    assert nms.clip.value == clip
    assert nms.clip.node == f"{INSIDE}ClipToWindow/Minimum"
    assert nms.drop_zero_area.value


def test_no_clip():
    surgery = Surgery(LATE)
    for op in ("Minimum", "Maximum"):
        surgery.detach(op, "ClipToWindow")
    nms = nms_of(surgery)
    assert (nms.clip.value, nms.clip_to_image.value, nms.change_coordinate_frame.value) == ("never", False, False)


def test_window_of_the_whole_input():
    """Exports of one fixed size clip to constants."""
    surgery = Surgery(EARLY)
    for name in surgery.names("Unpack", "ClipToWindow"):
        surgery.add(const(f"{name}/window", [0.0, 0.0, 1.0, 1.0]))
        surgery.nodes[name].inputs = [f"{name}/window".encode()]
    nms = nms_of(surgery)
    assert (nms.clip.value, nms.clip_to_image.value) == ("before", False)


def test_window_that_depends_on_the_picture():
    nms = nms_of(keep_aspect_ratio(96, 160, pad=0.0))
    assert nms.clip_to_image.value
    assert nms.change_coordinate_frame.value
    assert "ChangeCoordinateFrame" in nms.change_coordinate_frame.node


def test_no_change_of_frame():
    surgery = Surgery(LATE)
    surgery.replace_input(f"{INSIDE}ChangeCoordinateFrame/concat", f"{INSIDE}SortByField_1/Gather/GatherV2")
    for name in [n for n in surgery.nodes if "ChangeCoordinateFrame" in n]:
        del surgery.nodes[name]
    assert not nms_of(surgery).change_coordinate_frame.value


def test_boxes_without_area_may_stay():
    surgery = Surgery(EARLY)
    for name in surgery.names("Greater", "ClipToWindow"):
        surgery.nodes[name].inputs[1] = f"{name}/never".encode()
        surgery.add(const(f"{name}/never", -1.0))
    assert not nms_of(surgery).drop_zero_area.value


@pytest.mark.parametrize("offset", [0, 1, 5])
def test_label_offset(offset):
    surgery = Surgery(LATE)
    (name,) = [n for n in surgery.names("Const") if n.startswith("add/")]
    surgery.set(name, float(offset))
    fact = recover(surgery.graph).label_offset
    assert fact.value == offset
    assert fact.node == "add"


def test_label_offset_that_is_no_whole_number_is_none():
    surgery = Surgery(LATE)
    (name,) = [n for n in surgery.names("Const") if n.startswith("add/")]
    surgery.set(name, 0.5)
    assert recover(surgery.graph).label_offset.value == 0


def test_unknown_op_before_the_nms_is_refused():
    surgery = Surgery(LATE)
    surgery.insert_after("Postprocessor/raw_box_locations",
                         node("Softsign", "strange", "Postprocessor/raw_box_locations"))  # fmt: skip
    assert refused(surgery, "op Softsign between the heads and the NMS").node == "strange"


def combined(total=50, per_class=10):
    """The graph with one CombinedNonMaxSuppression, as TensorFlow 2's exporter writes it on request."""
    surgery = Surgery("one_class")
    (old,) = surgery.names("NonMaxSuppressionV5")
    spec = surgery.nodes[old]
    boxes, scores = (text.decode() for text in spec.inputs[:2])
    surgery.add(
        const("per_class", per_class, "int32"), const("total", total, "int32"),
        const("iou", 0.45), const("score", 0.01),
        NodeSpec(old, "CombinedNonMaxSuppression", (boxes, scores, "per_class", "total", "iou", "score")),
    )  # fmt: skip
    return surgery


def test_combined_op():
    nms = nms_of(combined())
    assert (nms.max_per_class.value, nms.max_total.value) == (10, 50)
    assert (nms.iou_threshold.value, nms.score_threshold.value) == (0.45, 0.01)
    assert not nms.class_agnostic.value
