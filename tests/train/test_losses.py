"""The losses: what gives none, and what they come to."""

import math

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'ssdrt[train]'")
from ssdrt.train.losses import box_loss, faithfulness_loss, focal_loss, softmax_loss  # noqa: E402
from ssdrt.train.targets import Targets  # noqa: E402


def targets(*classes, ignored=None, columns=2):
    """Of one picture."""
    none = torch.zeros(1, len(classes), columns, dtype=torch.bool)
    return Targets(torch.ones(1, len(classes), 4), torch.tensor([classes]), none if ignored is None else ignored)


def test_focal_loss_is_the_formula():
    logits = torch.tensor([[[0.4, -1.0]]])
    right, wrong = 1 / (1 + math.exp(-0.4)), 1 / (1 + math.exp(1.0))
    expected = -0.25 * (1 - right) ** 2 * math.log(right) - 0.75 * wrong**2 * math.log(1 - wrong)
    assert float(focal_loss(logits, targets(0), torch.tensor([[True, True]]))) == pytest.approx(expected)


@pytest.mark.parametrize("loss", [focal_loss, softmax_loss])
def test_a_class_that_a_data_set_does_not_label_gives_no_loss(loss):
    columns = 3 if loss is softmax_loss else 2
    logits = torch.randn(1, 5, columns, requires_grad=True)
    loss(logits, targets(0, -1, -1, 0, -1), torch.tensor([[True, False]])).backward()
    assert (logits.grad[..., -1] == 0).all()
    assert (logits.grad[..., -2] != 0).any()


def test_an_ignored_anchor_gives_no_loss():
    ignored = torch.tensor([[[False, False], [False, True]]])
    logits = torch.randn(1, 2, 2, requires_grad=True)
    focal_loss(logits, targets(0, -1, ignored=ignored), torch.tensor([[True, True]])).backward()
    assert logits.grad[0, 1, 1] == 0
    assert logits.grad[0, 1, 0] != 0


def test_softmax_takes_the_three_worst_negatives_of_a_positive():
    logits = torch.zeros(1, 9, 3)
    logits[0, :, 1] = torch.arange(9.0)  # the later, the more wrong
    logits.requires_grad_()
    softmax_loss(logits, targets(0, *[-1] * 8), torch.tensor([[True, True]])).backward()
    assert (logits.grad.abs().sum(-1) > 0).tolist() == [[True, *[False] * 5, True, True, True]]


def test_boxes_count_where_there_is_an_object():
    assert float(box_loss(torch.zeros(1, 3, 4), targets(-1, 0, -1))) == pytest.approx(4 * 0.5)


def test_who_says_the_same_is_faithful():
    encodings, logits = torch.randn(1, 6, 4), torch.randn(1, 6, 1)
    nothing = targets(*[-1] * 6)
    assert float(faithfulness_loss(encodings, logits, encodings, logits, nothing)) == 0
    assert float(faithfulness_loss(encodings, logits + 1, encodings, logits, nothing)) > 0
    assert float(faithfulness_loss(encodings + 1, logits, encodings, logits, nothing)) > 0
