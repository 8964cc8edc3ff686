"""How wrong a network's outputs are: the Object Detection API's losses, and faithfulness to an older network.

core/losses.py: WeightedSmoothL1LocalizationLoss; SigmoidFocalClassificationLoss (alpha 0.25, gamma 2) for sigmoid
heads; WeightedSoftmaxClassificationLoss with three hard negatives a positive for softmax heads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from ssdrt.train.targets import Targets

ALPHA, GAMMA = 0.25, 2.0
NEGATIVES = 3  # a positive


def box_loss(encodings: Tensor, targets: Targets) -> Tensor:
    """Sum over the anchors that stand for an object."""
    from torch.nn import functional

    errors = functional.smooth_l1_loss(encodings, targets.encodings, reduction="none").sum(-1)
    return (errors * (targets.classes >= 0)).sum()


def focal_loss(logits: Tensor, targets: Targets, labelled: Tensor) -> Tensor:
    """Sum over anchors and classes.

    Parameters
    ----------
    logits: (b, n, classes) without the background, which sigmoid heads never need.
    labelled: (b, classes) bool: whether the picture's labels cover the class; one that they do not gives no loss.
    """
    from torch.nn import functional

    classes = logits.shape[2]
    wanted = functional.one_hot(targets.classes + 1, classes + 1)[..., 1:].to(logits.dtype)
    chances = logits.sigmoid()
    right = chances * wanted + (1 - chances) * (1 - wanted)
    alpha = ALPHA * wanted + (1 - ALPHA) * (1 - wanted)
    losses = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    losses = losses * alpha * (1 - right) ** GAMMA
    return (losses * (labelled[:, None] & ~targets.ignored)).sum()


def softmax_loss(logits: Tensor, targets: Targets, labelled: Tensor) -> Tensor:
    """Sum over the anchors that stand for an object and the worst of the others.

    Parameters
    ----------
    logits: (b, n, 1 + classes), background first; classes that a picture's labels do not cover compete for nothing.
    """
    import torch
    from torch.nn import functional

    allowed = functional.pad(labelled, (1, 0), value=True)[:, None]
    masked = logits.masked_fill(~allowed, -1e4)
    losses = functional.cross_entropy(masked.flatten(0, 1), (targets.classes + 1).flatten(), reduction="none")
    losses = losses.reshape(targets.classes.shape)
    positive = targets.classes >= 0
    candidates = ~positive & ~targets.ignored.any(-1)
    order = torch.where(candidates, losses.detach(), -1.0).argsort(1, descending=True)
    rank = torch.zeros_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    room = (NEGATIVES * positive.sum(1, keepdim=True)).clamp(min=NEGATIVES)
    return (losses * (positive | (candidates & (rank < room)))).sum()


def faithfulness_loss(
    encodings: Tensor, logits: Tensor, old_encodings: Tensor, old_logits: Tensor, targets: Targets
) -> Tensor:
    """How far sigmoid scores are from an older network's, and boxes where that one sees an object and labels do not.

    The classes' part is the quality focal loss (https://arxiv.org/abs/2006.04388), normalised by what the older network
    sees: cross entropy with its scores times the squared difference, which spends nothing on anchors that agree.

    Parameters
    ----------
    logits, old_logits: (b, n, k), of the classes that both know.
    """
    from torch.nn import functional

    wanted = old_logits.sigmoid()
    entropy = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    floor = functional.binary_cross_entropy_with_logits(old_logits, wanted, reduction="none")
    differences = (logits.sigmoid() - wanted).abs()
    scores = ((entropy - floor) * differences).sum()
    seen = wanted.amax(-1) * (wanted.amax(-1) > 0.1) * (targets.classes < 0)
    errors = functional.smooth_l1_loss(encodings, old_encodings, reduction="none").sum(-1)
    return (scores * 4 + (errors * seen).sum()) / wanted.amax(-1).mul(wanted.amax(-1) > 0.1).sum().clamp(min=1)
