"""The order of the heads is that of their rows in the predictions."""

import numpy as np
import pytest

from build import const, node
from ssdrt.errors import ModelError
from ssdrt.recover import recover
from ssdrt.recover.backbone import recover_backbone
from ssdrt.recover.heads import recover_heads
from ssdrt.recover.outline import outline
from surgery import Surgery, exported

SIZE = (96, 128)


def heads_of(graph):
    parts = outline(graph)
    return recover_heads(parts, recover_backbone(parts, SIZE), SIZE)


def test_heads_and_the_tail_behind_them():
    heads, tail = heads_of(exported())
    assert [(h.height, h.width, h.anchors_per_cell) for h in heads] == [(12, 16, 3), (6, 8, 6)]
    assert [(h.boxes, h.scores) for h in heads] == [
        (f"BoxPredictor_{i}/BoxEncodingPredictor/BiasAdd", f"BoxPredictor_{i}/ClassPredictor/BiasAdd") for i in (0, 1)
    ]
    assert (tail.rows, tail.columns) == (12 * 16 * 3 + 6 * 8 * 6, 4)


def test_order_follows_the_concatenation():
    surgery = Surgery()
    for name in ("concat", "concat_1"):
        spec = surgery.nodes[name]
        spec.inputs[:2] = spec.inputs[1::-1]
    heads, _ = heads_of(surgery.graph)
    assert [h.height for h in heads] == [6, 12]


def test_heads_of_which_only_the_boxes_are_in_another_order_are_refused():
    surgery = Surgery()
    spec = surgery.nodes["concat"]
    spec.inputs[:2] = spec.inputs[1::-1]
    with pytest.raises(ModelError, match="box encodings and"):
        heads_of(surgery.graph)


def test_scores_that_the_predictor_converts_itself():
    """Some exports put the sigmoid before the concatenation."""
    surgery = Surgery()
    surgery.detach("Sigmoid")
    for i in (0, 1):
        surgery.insert_after(f"BoxPredictor_{i}/Reshape_1", node("Sigmoid", f"s{i}", f"BoxPredictor_{i}/Reshape_1"))
    model = recover(surgery.graph)
    assert [h.height for h in model.heads] == [12, 6]
    assert model.score_converter.function.value == "sigmoid"


def test_rows_that_do_not_run_y_x_anchor_are_refused():
    surgery = Surgery()
    bias = "BoxPredictor_0/ClassPredictor/BiasAdd"
    surgery.add(
        const("perm", [0, 2, 1, 3], "int32"),
        node("Transpose", "turned", bias, "perm"),
    )
    surgery.replace_input(bias, "turned", "BoxPredictor_0/Reshape_1")
    with pytest.raises(ModelError, match="do not run y, x, anchor"):
        heads_of(surgery.graph)


def test_heads_that_are_never_joined_are_refused():
    surgery = Surgery()
    surgery.nodes["concat"].inputs = [b"BoxPredictor_0/Reshape", b"BoxPredictor_0/Reshape", b"concat/2"]
    surgery.add(const("none", 0.0))
    surgery.insert_after("Squeeze", node("Sum", "apart", "BoxPredictor_1/Reshape", "axes"),
                         const("axes", [0, 1, 2, 3], "int32"), node("AddV2", "with", "Squeeze", "apart"))  # fmt: skip
    with pytest.raises(ModelError):
        recover(surgery.graph)


@pytest.mark.parametrize(
    ("part", "columns"), [("BoxEncodingPredictor", 13), ("BoxEncodingPredictor", 16), ("ClassPredictor", 13)]
)
def test_head_of_other_channels_is_refused(part, columns):
    surgery = Surgery()
    surgery.set(f"BoxPredictor_0/{part}/weights", np.ones((1, 1, 23, columns)))
    surgery.set(f"BoxPredictor_0/{part}/biases", np.ones(columns))
    with pytest.raises(ModelError):
        heads_of(surgery.graph)


def test_more_predictions_than_any_detector_makes_are_refused():
    surgery = Surgery()
    for part in ("BoxEncodingPredictor", "ClassPredictor"):
        surgery.set(f"BoxPredictor_0/{part}/weights", np.zeros((1, 1, 23, 120_000)))
        surgery.set(f"BoxPredictor_0/{part}/biases", np.zeros(120_000))
    with pytest.raises(ModelError, match="more than any SSD makes"):
        heads_of(surgery.graph)
